"""How good a step is on a split, and what is kept of a run's test."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.evaluation import calibrate as calibrate
    from tfxfer.evaluation import evaluate as evaluate
    from tfxfer.evaluation import feed as feed
    from tfxfer.evaluation import normalization as normalization
    from tfxfer.evaluation import precision_change as precision_change
    from tfxfer.evaluation import stored_rows as stored_rows
    from tfxfer.evaluation import test_results as test_results
else:
    __getattr__, __dir__ = attach(__name__)
