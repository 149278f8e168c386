"""Many heads tried side by side on the same stored features, by cross-validation."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.tuning import baselines as baselines
    from tfxfer.tuning import cross_validation as cross_validation
    from tfxfer.tuning import hparams as hparams
    from tfxfer.tuning import rows as rows
    from tfxfer.tuning import side_by_side as side_by_side
    from tfxfer.tuning import trials as trials
    from tfxfer.tuning import tune as tune
else:
    __getattr__, __dir__ = attach(__name__)
