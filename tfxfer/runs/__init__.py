"""What a training leaves on disk, the run directory, written and read in one place; no TensorFlow is loaded.

    settings.json                   what the run was started with; it goes on only under the same; see `runs.settings`
    plan.json, frozen.json          what was restored; digests of what must not move, see `runs.frozen`
    model.ckpt-N.{index,data...,meta}   the last checkpoints, N the number of steps made; see `tfxfer.train.checkpoints`
    model.ckpt-N.state.json         where training stood: epoch sums, history, the best so far; see `runs.state`
    best/                           the best checkpoints by validation
    checkpoint                      TensorFlow's own list of them, with relative paths
    train.log                       the log
    train/, validation/, results/   events for TensorBoard; see `tfxfer.tensorboard.results` for the last
    test.json, mistakes/            what the last test gave; see `tfxfer.evaluation.test_results`
    calibration.json                the temperature of its best network; see `tfxfer.statistics.calibration`
    learning_curve.json             accuracy by the number of examples; see `tfxfer.statistics.learning_curve`
    test_examples.csv               what it gave for each example; see `runs.test_examples`

A checkpoint that has an index is whole: its files are moved in together, the index last.
"""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.runs import files as files
    from tfxfer.runs import frozen as frozen
    from tfxfer.runs import settings as settings
    from tfxfer.runs import state as state
    from tfxfer.runs import test_examples as test_examples
else:
    __getattr__, __dir__ = attach(__name__)
