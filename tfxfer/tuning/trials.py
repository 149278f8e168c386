"""What is tried: values and ranges for each setting of a head, and the trials that are drawn from them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfxfer import names
from tfxfer.data.normalization import KINDS
from tfxfer.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One head: what it is put on, its size, and how it is trained.

    Attributes:
      endpoint: which features it takes.
      normalize: how they are normalised: "standard", "l2", "sqrt" or "none".
      hidden: units of its hidden layer; 0 for a linear classifier.
      dropout: share of the hidden layer's output that is dropped in training.
      learning_rate: size of a step.
      l2: as `tfxfer.train_step` takes it.
    """

    endpoint: str
    normalize: str = "none"
    hidden: int = 0
    dropout: float = 0.0
    learning_rate: float = 1e-3
    l2: float = 0.0


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, drawn log-uniformly: each factor of ten is as likely as any other.

    Example:
      >>> tx.SearchSpace(learning_rate=tx.tuning.trials.Range(1e-4, 1e-2)).learning_rate
      Range(low=0.0001, high=0.01)
    """

    low: float
    high: float


Choices = Sequence[Any] | Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What may be tried of each setting of a head: values, or a `Range` to draw from.

    Where there are only values, and no more combinations than trials, each combination is tried once: a grid. Else
    trials are drawn at random.

    Attributes:
      normalize, hidden, dropout, learning_rate, l2: as `tfxfer.tuning.trials.Trial` has them.

    Example:
      >>> space = tx.SearchSpace(hidden=(0, 64), dropout=(0.0, 0.5), learning_rate=(1e-3,), normalize=("l2",))
      >>> space.hidden
      (0, 64)
    """

    normalize: Sequence[str] = ("standard", "l2", "sqrt", "none")
    hidden: Choices = (0, 64, 256)
    dropout: Choices = (0.0, 0.5)
    learning_rate: Choices = Range(1e-3, 5e-2)
    l2: Choices = (0.0, 1e-4, 1e-3)

    def check(self) -> None:
        """Refuse what cannot be tried; all of it is listed at once.

        Raises:
          DataError: a setting has no values, an empty range, or values that a head cannot have.
        """
        problems = [problem for name, allowed in _ALLOWED.items() for problem in allowed(name, getattr(self, name))]
        if problems:
            raise DataError("; ".join(problems))

    def draw(self, endpoints: Sequence[str], trials: int, seed: int) -> list[Trial]:
        """Return the trials: the grid if it is not larger than `trials`, or so many of it drawn at random.

        Args:
          endpoints: which features there are.
          trials: the most there may be, 1 or more.
          seed: of what is drawn, 0 to 2**32 - 1.

        Raises:
          DataError: as `check`, or `trials` is below 1.
        """
        self.check()
        if trials < 1:
            raise DataError(f"`trials={trials}`: give 1 or more")
        names_of_choices = [field.name for field in dataclasses.fields(self)]
        choices = [endpoints, *(getattr(self, name) for name in names_of_choices)]
        generator = np.random.Generator(np.random.PCG64(seed))
        ranges = any(isinstance(each, Range) for each in choices)
        size = math.inf if ranges else math.prod(map(len, choices))
        if size <= 1e5:
            drawn: Any = list(itertools.product(*choices))
            drawn = drawn if size <= trials else [drawn[place] for place in generator.permutation(len(drawn))]
        else:
            drawn = ([_drawn(each, generator) for each in choices] for _ in range(100 * trials))
        made = (_trial(dict(zip(["endpoint", *names_of_choices], values, strict=True))) for values in drawn)
        return list(itertools.islice(_distinct(made), trials))


def _distinct(trials: Any) -> Any:
    seen: set[Trial] = set()
    for trial in trials:
        if trial not in seen:
            seen.add(trial)
            yield trial


def _drawn(choices: Choices, generator: np.random.Generator) -> Any:
    if not isinstance(choices, Range):
        return choices[int(generator.integers(len(choices)))]
    low, high = math.log(choices.low), math.log(choices.high)
    # Three digits: what is printed of a trial is what was tried.
    return float(f"{math.exp(generator.uniform(low, high)):.3g}")


def _trial(values: dict[str, Any]) -> Trial:
    """Make a trial; where nothing is hidden, nothing is dropped either, so that two trials are not one head."""
    hidden = round(values["hidden"])
    dropout = float(values["dropout"]) if hidden else 0.0
    numbers = {name: float(values[name]) for name in ("learning_rate", "l2")}
    return Trial(**{**values, **numbers, "hidden": hidden, "dropout": dropout})


# --- what is allowed ---


def _choices(name: str, choices: Choices) -> list[str]:
    if isinstance(choices, Range):
        if 0 < choices.low < choices.high < math.inf:
            return []
        return [f"`{name}`: the range {choices.low:g}:{choices.high:g} must go from above 0 to a larger number"]
    return [] if len(choices) else [f"`{name}` is empty, so that there is nothing to try; give one value or more"]


def _numbers(low: float, high: float, wanted: str, whole: bool = False) -> Any:
    def problems(name: str, choices: Choices) -> list[str]:
        ends = [choices.low, choices.high] if isinstance(choices, Range) else choices
        wrong = [f"{value:g}" for value in ends if not low <= value < high or (whole and value != int(value))]
        outside = [f"`{name}={names.listed(wrong)}`: give {wanted}"] if wrong else []
        return _choices(name, choices) or outside

    return problems


def _kinds(name: str, choices: Sequence[str]) -> list[str]:
    wrong = [kind for kind in choices if kind not in KINDS]
    unknown = [f"`{name}={names.listed(wrong)}`: there are {names.listed(KINDS)}"] if wrong else []
    return _choices(name, choices) or unknown


_ALLOWED = {
    "normalize": _kinds,
    "hidden": _numbers(0, 1e6, "whole numbers of units, 0 for none", whole=True),
    "dropout": _numbers(0, 1, "shares from 0 to below 1"),
    "learning_rate": _numbers(1e-30, math.inf, "numbers above 0"),
    "l2": _numbers(0, math.inf, "numbers from 0 on"),
}
