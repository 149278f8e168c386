"""Whether probabilities mean what they say, and the temperature by which they do: fitted, measured, and kept in a run.

calibration.json    what `Calibration.to_json` gives
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfxfer.errors import DataError
from tfxfer.runs import files

FILE = "calibration.json"
BINS = 15
LOWEST, HIGHEST = 0.1, 100.0  # of temperatures


class Bin(NamedTuple):
    """The examples whose confidence, the probability of the predicted class, lies in one part of 0 to 1.

    Attributes:
      examples: how many there are.
      confidence: the mean of theirs; 0 where there are none.
      accuracy: the share that is right; 0 where there are none.
    """

    examples: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How well probabilities say how often they are right.

    Attributes:
      examples: how many were measured.
      loss: mean cross-entropy of an example, in nats.
      bins: parts of the same width, in order, the first from 0; each holds its upper end.
    """

    examples: int
    loss: float
    bins: tuple[Bin, ...]

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean over examples of |accuracy - confidence| of their bin.

        Source: Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3.
        """
        return sum(part.examples * abs(part.accuracy - part.confidence) for part in self.bins) / max(self.examples, 1)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists and numbers; with `ece`, which `from_json` computes anew."""
        return {"examples": self.examples, "loss": self.loss, "ece": self.ece, "bins": [list(row) for row in self.bins]}

    @classmethod
    def from_json(cls, value: Any) -> Reliability:
        """Return what `to_json` gave.

        Raises:
          ValueError, TypeError, LookupError: it is something else.
        """
        bins = tuple(Bin(int(count), _share(confidence), _share(right)) for count, confidence, right in value["bins"])
        if (
            min((part.examples for part in bins), default=0) < 0
            or sum(part.examples for part in bins) != value["examples"]
        ):
            raise ValueError("its bins do not add up to its examples")
        return cls(int(value["examples"]), _positive(value["loss"]), bins)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The temperature of a network, by which its logits are divided, and what it does to probabilities.

    No prediction changes: the order of classes stays.

    Attributes:
      temperature: above 1 where the network is too sure of itself.
      at_bound: whether it would be more extreme, were it not held between `LOWEST` and `HIGHEST`.
      used: whether prediction and export divide by it.
      checkpoint: of which network it is, relative to the run.
      validation: before and after, on the examples that it was fitted on.
      test: before and after, on examples that it was not; None where there were none.
    """

    temperature: float
    at_bound: bool
    used: bool
    checkpoint: str
    validation: tuple[Reliability, Reliability]
    test: tuple[Reliability, Reliability] | None = None

    @property
    def shown(self) -> tuple[Reliability, Reliability]:
        """Before and after on the test examples, or on those of validation where nothing else was measured."""
        return self.test or self.validation

    def __str__(self) -> str:
        """Say it in a line."""
        before, after = self.shown
        on = "test" if self.test else "validation"
        bound = f", which is a bound: {self.why_at_bound}" if self.at_bound else ""
        return (
            f"temperature {self.temperature:.4g} by {self.validation[0].examples:,} validation examples{bound}; "
            f"expected calibration error on the {on} examples {before.ece:.4f}, with the temperature {after.ece:.4f}"
        )

    @property
    def why_at_bound(self) -> str:
        """Why no temperature in between is the best."""
        if self.temperature < 1:
            return "nearly all of these are right, so that they do not say how sure is too sure; validate on more"
        return "these are taken for classes hardly better than by chance"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists and numbers."""
        pairs = {"validation": self.validation, "test": self.test}
        splits = {name: pair and [reliability.to_json() for reliability in pair] for name, pair in pairs.items()}
        kept = {name: getattr(self, name) for name in ("temperature", "at_bound", "used", "checkpoint")}
        return {**kept, **splits}

    @classmethod
    def from_json(cls, value: Any) -> Calibration:
        """Return what `to_json` gave.

        Raises:
          ValueError, TypeError, LookupError: it is something else.
        """
        temperature = _positive(value["temperature"])
        if not LOWEST <= temperature <= HIGHEST:
            raise ValueError(f"its temperature is {temperature!r}, and not from {LOWEST:g} to {HIGHEST:g}")
        if not all(isinstance(value[name], bool) for name in ("at_bound", "used")):
            raise ValueError("at_bound and used are not true or false")
        validation, test = _pair(value["validation"]), value["test"] and _pair(value["test"])
        return cls(temperature, value["at_bound"], value["used"], str(value["checkpoint"]), validation, test)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[float, bool]:
    """Return the temperature that makes the labels most probable, and whether it lies at a bound.

    The cross-entropy is convex in 1 / temperature, so that there is one minimum.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, section 4.2.

    Args:
      logits: [n, classes], or [n, 1] of the second of two classes.
      labels: int64 [n], numbers of classes.

    Raises:
      DataError: the examples are missing, or some logits are not finite.
    """
    from scipy.optimize import minimize_scalar

    if not len(logits):
        raise DataError("a temperature needs validation examples, and there are none")
    if bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise DataError(f"{bad:,} of {len(logits):,} validation examples have logits that are not finite")

    def loss(log_temperature: float) -> float:
        return cross_entropy(logits, labels, math.exp(log_temperature))

    low, high = math.log(LOWEST), math.log(HIGHEST)
    inner = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-7}).x)
    best = min((inner, low, high), key=loss)
    at_bound = min(best - low, high - best) < 1e-4
    return min(max(math.exp(best), LOWEST), HIGHEST), at_bound


def cross_entropy(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean cross-entropy of an example, in nats; arguments as `fit_temperature` takes them."""
    scaled = _both_classes(logits) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    own = scaled[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - own))


def measure(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0, bins: int = BINS) -> Reliability:
    """Return how well probabilities say how often they are right; arguments as `fit_temperature` takes them."""
    scaled = _both_classes(logits) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    # As in the paper, a bin holds its upper end.
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    counts, sums, rights = (np.bincount(places, weights, bins) for weights in (None, confidence, right))
    rows = tuple(
        Bin(int(count), float(total / max(count, 1)), float(good / max(count, 1)))
        for count, total, good in zip(counts, sums, rights, strict=True)
    )
    return Reliability(len(labels), cross_entropy(logits, labels, temperature), rows)


def read(run: Path) -> Calibration | None:
    """Return the calibration of a run; None where it has none.

    Raises:
      RunError, ValueError, TypeError, LookupError: the file is damaged.
    """
    path = run / FILE
    return Calibration.from_json(files.read_json(path)) if path.exists() else None


def to_bytes(calibration: Calibration) -> bytes:
    """Return the bytes of the file."""
    return (json.dumps(calibration.to_json(), indent=1) + "\n").encode()


def _both_classes(logits: np.ndarray) -> np.ndarray:
    """Return logits [n, classes] in float64; of [n, 1], those of the first class are 0."""
    logits = np.asarray(logits, np.float64)
    return np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits


def _pair(value: Any) -> tuple[Reliability, Reliability]:
    before, after = map(Reliability.from_json, value)
    if len(before.bins) != len(after.bins) or before.examples != after.examples:
        raise ValueError("it is not of the same examples before and after")
    return before, after


def _share(value: Any) -> float:
    if not 0 <= value <= 1 + 1e-9:
        raise ValueError(f"{value!r} is not a share")
    return float(value)


def _positive(value: Any) -> float:
    if not 0 <= value <= files.LARGEST:
        raise ValueError(f"{value!r} is not a number from 0 on")
    return float(value)
