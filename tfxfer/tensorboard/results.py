"""The end of a run in TensorBoard: a folder `results/` beside `train/` and `validation/`, that runs are compared by.

It holds the settings and the final metrics, so that the page of hyperparameters has one row for each run; the proof
that frozen variables did not move; and, once the run was tested, how good it is: confusion matrix, mistakes, precision
and recall. What an earlier end of the same run left there goes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import extras
from tfxfer.callables import message
from tfxfer.data.splits import Split
from tfxfer.errors import RunError
from tfxfer.evaluation.evaluate import Evaluation
from tfxfer.plots import confusion, predictions, reliability, tiles
from tfxfer.statistics.calibration import Calibration
from tfxfer.tensorboard import plugins
from tfxfer.tensorboard.events import Events, table

log = logging.getLogger("tfxfer")

FOLDER = "results"
MISTAKES = 18


def trained(run: Path, settings: Mapping[str, Any], frozen: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write how the training ended, in place of what was written of an earlier end or test.

    Args:
      run: the run directory.
      settings: of the run by name; see `RunSettings.by_name`.
      frozen: what frozen.json holds.
      state: of the last checkpoint, with `step`, `history` and `best`.
    """
    best, step = state["best"][0], state["step"]
    last: Mapping[str, Any] = next((row for row in reversed(state["history"]) if row["split"] == "train"), {})
    metrics = [name for name in best if name != "step"]
    finals = {f"validation/{name}": best[name] for name in metrics}
    finals |= {f"train/{name}": last[name] for name in metrics if name in last}
    with _events(run, ".trained", (".trained", ".tested", ".calibrated")) as events:
        for summary in plugins.hparams(settings, time.time()):
            events.add(FOLDER, summary, 0)
        events.scalars(FOLDER, finals, step)
        events.text(FOLDER, "frozen", proof(frozen), step)


def tested(run: Path, result: Evaluation, split: Split, step: int) -> None:
    """Write how a run did in its test, in place of what was written of an earlier one.

    Args:
      run: the run directory.
      result: what `tfxfer.evaluate` said of the test split.
      split: the test split itself.
      step: the number of steps made.

    Raises:
      RunError: it cannot be written.
    """
    try:
        with _events(run, ".tested", (".tested",)) as events:
            events.scalars(FOLDER, {f"test/{name}": value for name, value in result.metrics.items()}, step)
            show_confusion(events, FOLDER, result, step)
            show_mistakes(events, FOLDER, result, split, step)
            show_curves(events, FOLDER, result, step)
    except (OSError, tf.errors.OpError) as error:
        raise RunError(f"cannot write the test for TensorBoard in {run}: {message(error)}") from None


def calibrated(run: str | os.PathLike[str], calibration: Calibration, step: int) -> None:
    """Write the reliability diagram with its expected calibration errors, in place of an earlier one.

    Args:
      run: the run directory.
      calibration: as `tfxfer.evaluation.calibrate.calibrate` returned it.
      step: the number of steps made.

    Raises:
      RunError: it cannot be written.
    """
    if not can_draw():
        return
    # No scalars: the table that compares runs would show them in the place of the accuracies.
    try:
        with _events(Path(run), ".calibrated", (".calibrated",)) as events:
            events.image(FOLDER, "reliability", reliability.draw(*calibration.shown), step)
    except (OSError, tf.errors.OpError) as error:
        raise RunError(f"cannot write the calibration for TensorBoard in {run}: {message(error)}") from None


@functools.cache
def can_draw() -> bool:
    """Say whether matplotlib is installed; without it, note once what is left out."""
    installed = extras.installed("matplotlib")
    if not installed:
        log.warning("confusion matrix and mistakes are not drawn: %s", extras.cure("matplotlib"))
    return installed


def show_confusion(events: Events, name: str, result: Evaluation, step: int) -> None:
    """Write the confusion matrix of an evaluation, where matplotlib is there to draw it."""
    if can_draw():
        events.image(name, "confusion", confusion.draw(result.confusion, result.class_names), step)


def show_mistakes(events: Events, name: str, result: Evaluation, split: Split, step: int) -> None:
    """Write the most confident mistakes of an evaluation, if there are any and the examples are pictures."""
    worst = result.mistakes(MISTAKES)
    if not len(worst) or not tiles.are_pictures(split.images) or not can_draw():
        return
    thumbnails = tiles.thumbnails(split.images, worst, predictions.TILE)
    classes = result.class_names
    captions = [
        (classes[result.labels[place]], classes[result.predictions[place]], float(result.probabilities[place].max()))
        for place in worst
    ]
    events.image(name, "mistakes", predictions.mistakes(thumbnails, captions), step)


def show_curves(events: Events, name: str, result: Evaluation, step: int) -> None:
    """Write the precision-recall curves of an evaluation."""
    for summary in plugins.pr_curves(result.probabilities, result.labels, result.class_names):
        events.add(name, summary, step)


def proof(frozen: Mapping[str, Any]) -> str:
    """Return frozen.json in markdown: when it was checked that frozen variables had not moved, and their digests."""
    variables = frozen["variables"]
    if not variables:
        return "Nothing is frozen: all variables are trained."
    checks = [(check["when"], check["step"], f"{check['unchanged']} unchanged") for check in frozen["checks"]]
    return "\n\n".join(
        [
            f"{len(variables)} variables were frozen when the run began. At each of these checks, those that no stage "
            "had trained so far had the same digests as at the start: not a bit of them had changed.",
            table(("checked", "step", "frozen variables"), checks),
            f"The digests at the start ({frozen['method']}):",
            table(("variable", "digest"), list(variables.items())),
        ]
    )


@contextlib.contextmanager
def _events(run: Path, suffix: str, replaced: tuple[str, ...]) -> Iterator[Events]:
    for ending in replaced:
        for file in (run / FOLDER).glob(f"events.out.tfevents.*{ending}"):
            file.unlink()
    with contextlib.closing(Events(run, (FOLDER,), suffix, None)) as events:
        yield events
