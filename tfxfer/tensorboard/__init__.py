"""What a run writes for TensorBoard: scalars, histograms, pictures, texts, and features for its projector."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.tensorboard import events as events
    from tfxfer.tensorboard import graph_layout as graph_layout
    from tfxfer.tensorboard import plugins as plugins
    from tfxfer.tensorboard import projector as projector
    from tfxfer.tensorboard import results as results
    from tfxfer.tensorboard import run_writer as run_writer
else:
    __getattr__, __dir__ = attach(__name__)
