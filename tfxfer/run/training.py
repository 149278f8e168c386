"""Training that can be stopped at any moment and goes on, bit for bit, where it stood."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.data.batches import steps_per_epoch
from tfxfer.data.splits import Data
from tfxfer.errors import DataError, RunError
from tfxfer.graph.parts import wholes
from tfxfer.graph.train_step import Step
from tfxfer.run import evaluation
from tfxfer.run.directory import opened
from tfxfer.run.loop import Fitted, Training, log


def fit(
    sess: tf.Session,
    step: Step,
    data: Data,
    *,
    epochs: int,
    logdir: str | os.PathLike[str],
    batch_size: int = 32,
    seed: int = 0,
    save_steps: int | None = None,
    validation_steps: int | None = None,
    summary_steps: int = 100,
    keep: int = 5,
    keep_best: int = 1,
    patience: int | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    shown: Sequence[int] = (0, 1, 2, 3),
    loop: Callable[..., Training] = Training,
) -> Fitted:
    """Train, validate, write summaries and checkpoints; go on where an earlier start of the same call stopped.

    The order of the examples, what dropout drops and every state that matters are functions of the seed and the number
    of steps made, or lie in the checkpoint: a run that was stopped or killed, and started again, ends with the same
    bits as one that was not. SIGINT, SIGTERM and SIGHUP (unless it is ignored, as under nohup) save first.

    Args:
      sess: a session on the step's graph; what the run directory holds goes before what it restored.
      step: what `train_step` returned.
      data: trained on `data.train`, validated on `data.validation`; a `tfxfer.data.Data`.
      epochs: how many times to go through the training examples in all; may grow when a run goes on.
      logdir: the run directory; see `tfxfer.run.directory`.
      batch_size: examples a step; the last batch of an epoch may be short.
      seed: of the order of examples, 0 to 2**32 - 1.
      save_steps: steps between checkpoints; an epoch unless told. A kill loses the steps since the last one.
      validation_steps, summary_steps: steps between validations, an epoch unless told, and between batches shown.
      keep, keep_best: how many of the last and of the best checkpoints to keep.
      patience: stop after this many validations in a row that were not better than the best.
      settings: what else made this run (flags, say): stored, and compared when it goes on.
      overwrite: move what is in `logdir` aside and begin anew.
      shown: places in the validation split of the images that TensorBoard shows, feature maps of the first.
      loop: what goes through the steps; `tfxfer.run.cluster.training` has another.

    Raises:
      RunError: the directory is in use or was made with other settings, or a checkpoint cannot be written.
      DataError: the examples do not fit the model.
      DivergedError: the loss or a trained variable is no longer finite; the last checkpoint stays.
      FrozenError: a variable that no stage trains has changed.
      KeyboardInterrupt, SystemExit: after the checkpoint was saved, on SIGINT, or on SIGTERM and SIGHUP.
    """
    if not isinstance(data, Data):
        raise DataError(
            f"data is a {type(data).__name__}; fit needs examples to train on and others to validate on: "
            "tfxfer.data.Data(train=(x, y), validation=(x_val, y_val), test=(x_test, y_test), class_names=(...)), "
            "of arrays that tfxfer.data.splits.stratified(y, (8, 1, 1), seed=0) divides"
        )
    for name in ("train", "validation"):
        evaluation.check_split(step, getattr(data, name), name)
    every = steps_per_epoch(len(data.train), batch_size)
    asked = {
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "save_steps": save_steps or every,
        "validation_steps": validation_steps or every,
        "summary_steps": summary_steps,
        "keep": keep,
        "keep_best": keep_best,
        "patience": patience,
    }
    _check(asked, every)
    _check_shown(shown, len(data.validation))
    with opened(logdir, overwrite=overwrite) as directory, _logging_to(directory.path / "train.log"):
        directory.settle({**_signature(step, data), **(settings or {}), **asked}, growing=["epochs"])
        return loop(sess, step, data, directory, asked, shown).run()


def _check(asked: Mapping[str, Any], every: int) -> None:
    low = [f"{name}={value}" for name, value in asked.items() if name != "seed" and value is not None and value < 1]
    if low:
        raise RunError(f"{', '.join(low)}: must be 1 or more")
    if asked["validation_steps"] > every * asked["epochs"]:
        raise RunError(
            f"validation_steps={asked['validation_steps']} is more than the {every * asked['epochs']} steps "
            "of the run, so that it would never be validated; lower it"
        )


def _check_shown(shown: Sequence[int], examples: int) -> None:
    outside = [place for place in shown if place < 0]
    if outside or not shown or min(shown) >= examples:
        raise RunError(f"shown={list(shown)}: give places in the validation split, from 0 to {examples - 1}")


def _signature(step: Step, data: Data) -> dict[str, Any]:
    """Return what else must be the same for a run to go on: what is trained, in which stages, on what, by what loss."""
    stages = [{"epoch": stage.epoch, "train": list(wholes(stage.variables))} for stage in step.stages]
    return {
        "stages": stages,
        "l2": step.l2 or None,
        "class_weights": step.class_weights,
        "training_examples": len(data.train),
        "validation_examples": len(data.validation),
    }


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
