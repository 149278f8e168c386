"""Would more pictures help? A power law through accuracies by the number of training examples, and how sure it is.

learning_curve.json    what `LearningCurve.to_json` gives
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfxfer.errors import DataError
from tfxfer.runs import files

FILE = "learning_curve.json"
TIMES = 4  # up to so many times the training examples the curve is drawn
LEAST_SIZES = 3  # as the curve has three numbers
DRAWS = 200
_PLACES = 41  # of the curve


class Point(NamedTuple):
    """The accuracies of classifiers that were trained on so many examples, one for each seed."""

    examples: int
    accuracies: tuple[float, ...]


class Place(NamedTuple):
    """The accuracy that is expected of so many examples, and the ends of its 95 % interval."""

    examples: float
    accuracy: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """How accuracy grows with the number of training examples.

    Attributes:
      classifier: what was trained on the features.
      validation_examples: how many the accuracies are of.
      points: what was measured, in order of their examples.
      limit, factor, exponent: the curve: accuracy = limit - factor * (examples / all) ** -exponent.
      places: the curve with its uncertainty, up to `TIMES` the examples that there are.
      gain: by how much twice the examples are expected to raise the accuracy, with the ends of the 95 % interval.
      head: the validation accuracy of the run's own head on all examples; None where nobody knows.
    """

    classifier: str
    validation_examples: int
    points: tuple[Point, ...]
    limit: float
    factor: float
    exponent: float
    places: tuple[Place, ...]
    gain: tuple[float, float, float]
    head: float | None = None

    @property
    def examples(self) -> int:
        """How many training examples there are."""
        return self.points[-1].examples

    def __str__(self) -> str:
        """Say in a line what more pictures would bring."""
        gain, low, high = self.gain
        text = (
            f"twice the {self.examples:,} training examples are expected to change the accuracy by {gain:+.3f} (95 % "
            f"interval {low:+.3f} to {high:+.3f})"
        )
        return (
            text
            if low >= 0.0005
            else f"{text}: with {self.validation_examples:,} validation examples, not told from none"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists and numbers."""
        value = dataclasses.asdict(self)
        value["points"] = [point._asdict() for point in self.points]
        value["places"] = [place._asdict() for place in self.places]
        return json.loads(json.dumps(value))

    @classmethod
    def from_json(cls, value: Any) -> LearningCurve:
        """Return what `to_json` gave.

        Raises:
          ValueError, TypeError, LookupError: it is something else.
        """
        points = tuple(
            Point(int(_number(row["examples"])), tuple(map(_number, row["accuracies"]))) for row in value["points"]
        )
        places = tuple(Place(*(_number(row[name]) for name in Place._fields)) for row in value["places"])
        sizes = [point.examples for point in points] + [place.examples for place in places]
        if not points or not places or min(sizes) <= 0 or not all(point.accuracies for point in points):
            raise ValueError("it has no points, or some without examples")
        limit, factor, exponent = (_number(value[name]) for name in ("limit", "factor", "exponent"))
        gain, low, high = map(_number, value["gain"])
        head = None if value["head"] is None else _number(value["head"])
        examples = int(_number(value["validation_examples"]))
        classifier = str(value["classifier"])
        return cls(classifier, examples, points, limit, factor, exponent, places, (gain, low, high), head)


def fit(
    right: Sequence[np.ndarray], sizes: Sequence[int], *, classifier: str, head: float | None = None
) -> LearningCurve:
    """Fit the curve to what classifiers said of validation examples.

    Its uncertainty comes from a bootstrap: seeds and validation examples are drawn anew, with replacement, and the
    curve is fitted again. It does not know whether the power law holds beyond the examples that there are.

    Source: Hestness et al., Deep Learning Scaling is Predictable, Empirically, 2017, for the law.

    Args:
      right: for each size, whether a classifier was right, bool [seeds, validation examples].
      sizes: how many training examples, ascending.
      classifier, head: as `LearningCurve` has them.

    Raises:
      DataError: there are fewer than three sizes, or no validation examples.
    """
    if len(sizes) < LEAST_SIZES or not right[0].size:
        raise DataError(
            f"a learning curve needs {LEAST_SIZES} sizes and validation examples; there are {len(sizes)} and "
            f"{right[0].shape[-1] if len(right) else 0}"
        )
    places = np.geomspace(sizes[0], TIMES * sizes[-1], _PLACES)
    shares = np.asarray(sizes) / sizes[-1]
    curve = _fitted(shares, np.array([rows.mean() for rows in right]))
    curves = [_fitted(shares, accuracies) for accuracies in _drawn_anew(right)]
    drawn = np.array([_values(each, places / sizes[-1]) for each in curves])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    middle = _values(curve, places / sizes[-1])
    rows = zip(places, middle, np.minimum(low, middle), np.maximum(high, middle), strict=True)
    gains = [float(np.diff(_values(each, np.array([1.0, 2.0])))[0]) for each in (curve, *curves)]
    ends = np.percentile(gains, [2.5, 97.5])
    return LearningCurve(
        classifier=classifier,
        validation_examples=right[0].shape[1],
        points=tuple(
            Point(int(size), tuple(map(float, rows.mean(axis=1)))) for size, rows in zip(sizes, right, strict=True)
        ),
        limit=float(curve[0]),
        factor=float(curve[1]),
        exponent=float(curve[2]),
        places=tuple(Place(*map(float, row)) for row in rows),
        gain=(gains[0], float(ends[0]), float(ends[1])),
        head=head,
    )


def to_bytes(curve: LearningCurve) -> bytes:
    """Return the bytes of the file."""
    return (json.dumps(curve.to_json(), indent=1) + "\n").encode()


def _drawn_anew(right: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return accuracies by size, each time of other seeds and other validation examples."""
    generator = np.random.default_rng(0)
    examples = right[0].shape[1]
    drawn = []
    for _ in range(DRAWS):
        chosen = generator.integers(0, examples, examples)
        seeds = [generator.integers(0, len(rows), len(rows)) for rows in right]
        drawn.append(np.array([rows[some][:, chosen].mean() for rows, some in zip(right, seeds, strict=True)]))
    return drawn


def _fitted(shares: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Return limit, factor and exponent by least squares, float64 [3]."""
    from scipy.optimize import least_squares

    top = float(accuracies.max())
    start = [min(1.0, top + 0.02), min(max(1e-3, top - float(accuracies[0])), 0.5), 0.5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fitted = least_squares(
            lambda values: _values(values, shares) - accuracies, start, bounds=([0, 0, 0.05], [1.0 + 1e-9, 1, 2])
        )
    return fitted.x


def _values(curve: np.ndarray, shares: np.ndarray) -> np.ndarray:
    limit, factor, exponent = curve
    return np.clip(limit - factor * shares**-exponent, 0, 1)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not -files.LARGEST <= value <= files.LARGEST:
        raise ValueError(f"{value!r} is not a number")
    return float(value)
