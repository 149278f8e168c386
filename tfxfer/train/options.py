"""The numbers that `tfxfer.fit` takes: in groups for its caller, and all together for the training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfxfer.errors import RunError

MONITORS = ("accuracy", "loss")


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """How often `tfxfer.fit` saves, and what it keeps.

    Example:
      >>> tx.CheckpointOptions(keep=2)  # fit(..., checkpoints=tx.CheckpointOptions(keep=2))
      CheckpointOptions(save_steps=None, keep=2, keep_best=1, monitor='accuracy')

    Attributes:
      save_steps: steps between checkpoints (default: an epoch). A kill loses the steps since the last one.
      keep, keep_best: how many of the last and of the best checkpoints to keep.
      monitor: what the best checkpoint has on the validation examples, which `patience` waits for too: "accuracy", the
        highest, among equals the lowest loss; or "loss", the lowest. Of few examples the loss tells more: the accuracy
        of 60 moves in steps of 0.017. Without labels it is always the loss.
    """

    save_steps: int | None = None
    keep: int = 5
    keep_best: int = 1
    monitor: str = "accuracy"


@dataclasses.dataclass(frozen=True)
class SummaryOptions:
    """How often `tfxfer.fit` shows a batch in TensorBoard, and which images.

    Example:
      >>> tx.SummaryOptions(summary_steps=10)  # fit(..., summaries=tx.SummaryOptions(summary_steps=10))
      SummaryOptions(summary_steps=10, shown=(0, 1, 2, 3))

    Attributes:
      summary_steps: steps between batches that are shown.
      shown: places in the validation split of the images that are shown, feature maps of the first.
    """

    summary_steps: int = 100
    shown: Sequence[int] = (0, 1, 2, 3)

    def check_shown(self, examples: int) -> None:
        """Refuse places that are not in a validation split of so many examples.

        Raises:
          RunError: a place is negative, or there is none in the split.
        """
        if not self.shown or min(self.shown) < 0 or min(self.shown) >= examples:
            raise RunError(f"`shown={list(self.shown)}`: give places in the validation split, from 0 to {examples - 1}")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """All numbers of a run, as `tfxfer.fit` takes them, those that it is not given by their defaults."""

    steps_per_epoch: int
    epochs: int
    batch_size: int
    seed: int
    save_steps: int
    validation_steps: int
    summary_steps: int
    keep: int
    keep_best: int
    monitor: str
    patience: int | None

    def check(self) -> None:
        """Refuse what is not a metric, numbers that are too small, and validations that would never come.

        Raises:
          RunError: there are such; all that are too small are named.
        """
        if self.monitor not in MONITORS:
            listed = " or ".join(map(repr, MONITORS))
            raise RunError(f"`monitor={self.monitor!r}`: the best checkpoint is found by {listed}")
        others = ("seed", "monitor")
        numbers = {name: number for name, number in self.to_json().items() if name not in others and number is not None}
        low = [f"`{name}={number}`" for name, number in numbers.items() if number < 1]
        if low:
            raise RunError(f"{', '.join(low)}: must be 1 or more")
        if self.validation_steps > self.total:
            raise RunError(
                f"`validation_steps={self.validation_steps}` is more than the {self.total} steps of the run, so that "
                "it would never be validated; lower it"
            )

    @property
    def total(self) -> int:
        """The number of steps of the run."""
        return self.steps_per_epoch * self.epochs

    def epoch(self, step: int) -> int:
        """Return the epoch, counted from 0, of the step that comes after so many."""
        return step // self.steps_per_epoch

    def next_due(self, step: int) -> int:
        """Return the first step after one at which an epoch ends, or anything is saved, validated or shown."""
        dues = (self.steps_per_epoch, self.save_steps, self.validation_steps)
        shown = self.summary_steps  # of the step that follows
        return min(step + shown - (step + 1) % shown, *(step + due - step % due for due in dues))

    def rank(self, validation: Mapping[str, Any]) -> tuple[float, ...]:
        """Return by what validations are ordered from best to worst; of equals the earlier is the better."""
        accuracy = -validation.get("accuracy", 0.0) if self.monitor == "accuracy" else 0.0
        return accuracy, validation["loss"], validation["step"]

    def to_json(self) -> dict[str, Any]:
        """Return what `fit` takes, by name."""
        return {name: value for name, value in vars(self).items() if name != "steps_per_epoch"}
