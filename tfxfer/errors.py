"""What can go wrong, by kind.

    ValueError
      TfxferError           anything tfxfer refuses; the message says what failed, for which names, and the cure
        GraphError          layers, a loss or stages that cannot be built as asked
        SelectionError      a pattern that is not a regex or that matches no variable
        WeightsError        a file that cannot be read as weights: wrong kind, cut short, corrupt, hostile
        RestoreError        variables and weights that do not fit together; `.plan` holds the whole comparison
        NotOpenError        a session that is used without `with`
        DataError           examples, labels or splits that cannot be used
        MissingPackageError a package that only some jobs need and that is not installed
        RunError            a run directory that is in use, foreign, or made with other settings
          FrozenError       a variable that nobody trains has changed
          DivergedError     the loss or a variable is no longer finite

Every class is a ValueError, so that code which does not know tfxfer can still catch a refusal.
"""

from __future__ import annotations

from typing import Protocol

# How lines begin that TensorFlow prints while it is loaded, and that tell of no error.
START_NOTES = ("I0000 ", "WARNING: All log messages before absl::InitializeLog()")


class Report(Protocol):
    """What tells of a comparison in full, as `tfxfer.Plan` does."""

    def report(self) -> str:
        """Return a table with a line for each variable."""


class TfxferError(ValueError):
    """A refusal by tfxfer; the message is meant for the person who made the call."""


class GraphError(TfxferError):
    """Layers, a loss or stages that cannot be built as asked."""


class SelectionError(TfxferError):
    """A pattern that is not a regular expression, or that matches no variable."""


class WeightsError(TfxferError):
    """A file that cannot be read as weights, or weights that cannot be written or joined."""


class RestoreError(TfxferError):
    """Variables and weights that do not fit together.

    Attributes:
      plan: the whole comparison, whose `report()` lists every variable; None where it was not made.
    """

    def __init__(self, message: str, plan: Report | None = None) -> None:
        super().__init__(message)
        self.plan = plan


class NotOpenError(TfxferError, AttributeError):
    """A session that is used before `with` has opened it."""


class DataError(TfxferError):
    """Examples, labels or splits that cannot be used."""


class MissingPackageError(TfxferError, ImportError):
    """A package that only some jobs need and that is not installed; the message says how to install it."""


class RunError(TfxferError):
    """A run directory that cannot be used as asked."""


class FrozenError(RunError):
    """A variable that no stage so far has trained has changed."""


class DivergedError(RunError):
    """The loss, or a variable that is trained, is no longer finite."""
