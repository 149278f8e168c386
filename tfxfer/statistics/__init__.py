"""How sure a number is: intervals and tests. No TensorFlow is loaded."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.statistics import calibration as calibration
    from tfxfer.statistics import diff_runs as diff_runs
    from tfxfer.statistics import folds as folds
    from tfxfer.statistics import intervals as intervals
    from tfxfer.statistics import learning_curve as learning_curve
else:
    __getattr__, __dir__ = attach(__name__)
