"""Training: the loop, its run directory, its checkpoints, and the proof that nothing frozen moved."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.train import background as background
    from tfxfer.train import checkpoints as checkpoints
    from tfxfer.train import cluster as cluster
    from tfxfer.train import fit as fit
    from tfxfer.train import frozen_check as frozen_check
    from tfxfer.train import options as options
    from tfxfer.train import resume as resume
    from tfxfer.train import run_directory as run_directory
    from tfxfer.train import settings as settings
    from tfxfer.train import snapshots as snapshots
    from tfxfer.train import steps as steps
    from tfxfer.train import training as training
    from tfxfer.train import training_loop as training_loop
else:
    __getattr__, __dir__ = attach(__name__)
