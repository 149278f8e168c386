"""The accuracy of several folds: each one's, the mean with its spread, and how sure it is.

folds.json    what `Folds.to_json` gives
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from tfxfer.runs import files
from tfxfer.statistics import intervals

FILE = "folds.json"


@dataclasses.dataclass(frozen=True)
class Folds:
    """How many test examples of each fold are right; a network was trained for each, on the other folds.

    Attributes:
      right: how many are right, for each fold.
      counts: how many there are; 2 folds or more, with an example each.
      runs: the name of each fold's run.
    """

    right: tuple[int, ...]
    counts: tuple[int, ...]
    runs: tuple[str, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The share that is right, for each fold."""
        return tuple(right / count for right, count in zip(self.right, self.counts, strict=True))

    @property
    def accuracy(self) -> float:
        """The mean of the accuracies."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Their standard deviation."""
        return statistics.stdev(self.accuracies)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share of all examples that is right.

        It is for examples that are independent. The networks share most of what they were trained on, so that the
        accuracy of another training set may lie further off.
        """
        return intervals.wilson(sum(self.right), sum(self.counts))

    def __str__(self) -> str:
        """Say the mean and the spread."""
        return (
            f"test accuracy {self.accuracy:.4f} +- {self.spread:.4f} (mean and standard deviation of "
            f"{len(self.counts)} folds)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain dicts, lists and numbers."""
        rows = zip(self.runs, self.right, self.counts, self.accuracies, strict=True)
        return {
            "folds": [dict(zip(("run", "right", "examples", "accuracy"), row, strict=True)) for row in rows],
            "accuracy": self.accuracy,
            "standard_deviation": self.spread,
            "accuracy_interval": list(self.accuracy_interval),
        }

    @classmethod
    def from_json(cls, value: Any) -> Folds:
        """Return what `to_json` gave.

        Raises:
          ValueError, TypeError, LookupError: it is something else.
        """
        rows = [(row["right"], row["examples"], row["run"]) for row in value["folds"]]
        fit = [files.is_count(right) and files.is_count(count) and 0 < count >= right for right, count, _ in rows]
        if len(rows) < 2 or not all(fit):
            raise ValueError("it has no two folds, or one whose numbers cannot be")
        right, counts, runs = zip(*rows, strict=True)
        return cls(right, counts, tuple(map(str, runs)))
