"""The temperature of a trained network: fitted on validation examples, measured, and kept in the run."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import files
from tfxfer.data.splits import Split, class_numbers
from tfxfer.errors import DataError, RunError
from tfxfer.evaluation.evaluate import Pass, check_split
from tfxfer.graph.eval_step import EvalStep
from tfxfer.statistics import calibration
from tfxfer.statistics.calibration import Calibration, Reliability, fit_temperature, measure
from tfxfer.store import provenance


def calibrate(
    sess: tf.Session, step: EvalStep, validation: Split, test: Split | None = None, *, use: bool = False
) -> Calibration:
    """Fit the temperature of the model, as it is in the session; no variable changes, and no prediction does.

    Args:
      sess: a session on the step's graph.
      step: what `eval_step` or `train_step` returned, with labels.
      validation: the examples that it is fitted on, with labels.
      test: those that it is measured on besides.
      use: whether predictions and exports of the run are to divide logits by it, once it is kept there by `record`.

    Raises:
      DataError: the step or a split has no labels, or a split is empty, or their logits are not finite.

    Example:
      >>> images, labels = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.int64, [None])
      >>> step = tx.eval_step(images, labels, 3 * images)
      >>> examples = tx.Split(np.float32([[1, 0], [0, 1], [2, 0], [0, 2]]), np.array([0, 1, 0, 0]))
      >>> with tf.Session() as sess:
      ...     calibration = tx.evaluation.calibrate.calibrate(sess, step, examples)
      >>> calibration.temperature > 1
      True
    """
    if step.labels is None or step.probabilities is None:
        raise DataError("a temperature needs labels, and the step has none")
    splits = {"the validation examples": validation} | ({} if test is None else {"the test examples": test})
    for name, split in splits.items():
        check_split(step, split, name)
    provenance.check(sess, step, splits)
    logits, labels = _logits(sess, step, validation)
    temperature, at_bound = fit_temperature(logits, labels)

    def before_and_after(logits: np.ndarray, labels: np.ndarray) -> tuple[Reliability, Reliability]:
        return measure(logits, labels), measure(logits, labels, temperature)

    on_validation = before_and_after(logits, labels)
    on_test = None if test is None else before_and_after(*_logits(sess, step, test))
    return Calibration(temperature, at_bound, use, "", on_validation, on_test)


def record(run: str | os.PathLike[str], fitted: Calibration, checkpoint: str) -> Calibration:
    """Keep a calibration in a run directory, in place of an earlier one.

    Args:
      run: the run directory.
      fitted: what `calibrate` returned.
      checkpoint: the prefix of the checkpoint that was in the session.

    Returns:
      The calibration with the checkpoint's name.

    Raises:
      RunError: it cannot be written.
    """
    kept = dataclasses.replace(fitted, checkpoint=os.path.relpath(checkpoint, run))
    try:
        files.write_bytes(Path(run, calibration.FILE), calibration.to_bytes(kept))
    except OSError as error:
        raise RunError(f"cannot write {calibration.FILE} in {run}: {error.strerror or error}") from None
    return kept


def _logits(sess: tf.Session, step: EvalStep, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of examples, and the numbers of their classes."""
    rows = Pass(sess, step, split, fetches=[step.outputs]).run()[1]
    return rows[0], class_numbers(np.asarray(split.labels))
