"""A trained network in use: exported as a SavedModel, checked, asked for predictions."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.serving import compare_outputs as compare_outputs
    from tfxfer.serving import computed_once as computed_once
    from tfxfer.serving import export as export
    from tfxfer.serving import export_check as export_check
    from tfxfer.serving import learning_curve as learning_curve
    from tfxfer.serving import model_pair as model_pair
    from tfxfer.serving import predict as predict
    from tfxfer.serving import run as run
    from tfxfer.serving import saved_model as saved_model
    from tfxfer.serving import trained_network as trained_network
else:
    __getattr__, __dir__ = attach(__name__)
