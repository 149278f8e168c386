"""The temperature of a network in a session: what is fitted, kept, and refused."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.statistics.test_calibration import drawn
from tfxfer.errors import DataError, RunError
from tfxfer.evaluation.calibrate import calibrate, record
from tfxfer.statistics import calibration
from tfxfer.statistics.calibration import fit_temperature, measure


def step_of(classes: int, loss: str = "softmax") -> tx.EvalStep:
    """A step whose images are logits already."""
    images = tf.placeholder(tf.float32, [None, classes])
    return tx.eval_step(images, tf.placeholder(tf.int64, [None]), tf.identity(images), loss=loss)


def test_it_is_fitted_on_validation_and_measured_on_both():
    (logits, labels), (others, truth) = drawn(600), drawn(300, seed=1)
    with tf.Graph().as_default():
        step = step_of(5)
        with tx.session() as sess:
            found = calibrate(sess, step, tx.Split(logits, labels), tx.Split(others, truth), use=True)
    assert found.temperature == pytest.approx(fit_temperature(logits, labels)[0], rel=1e-6)
    assert found.validation[0].ece == pytest.approx(measure(logits, labels).ece, abs=1e-6)
    assert found.test[1].ece == pytest.approx(measure(others, truth, found.temperature).ece, abs=1e-6)
    assert (found.used, found.test[0].examples) == (True, 300)


def test_a_sigmoid_is_calibrated_too_and_a_test_can_be_left_out():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (500, 1)).astype(np.float32)
    labels = (generator.random(500) < 1 / (1 + np.exp(-logits[:, 0] / 3))).astype(np.int64)
    with tf.Graph().as_default():
        step = step_of(1, "sigmoid")
        with tx.session() as sess:
            found = calibrate(sess, step, tx.Split(logits, labels))
    assert found.temperature == pytest.approx(3, rel=0.35)
    assert found.test is None
    assert found.shown == found.validation


def test_what_cannot_be_calibrated_is_refused():
    with tf.Graph().as_default():
        step, blind = step_of(2), tx.eval_step(tf.placeholder(tf.float32, [None, 2]), None, tf.zeros([3, 2]))
        empty = tx.Split(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
        with tx.session() as sess:
            with pytest.raises(DataError, match="the validation examples cannot be fed to the model: it has no exampl"):
                calibrate(sess, step, empty)
            with pytest.raises(DataError, match="a temperature needs labels, and the step has none"):
                calibrate(sess, blind, empty)


def test_it_is_kept_in_the_run_with_the_name_of_the_checkpoint(tmp_path):
    pair = measure(*drawn(50)), measure(*drawn(50), 2.0)
    fitted = calibration.Calibration(2.0, False, False, "", pair)
    kept = record(tmp_path, fitted, str(tmp_path / "best/model.ckpt-7"))
    assert kept.checkpoint == "best/model.ckpt-7"
    assert calibration.read(tmp_path) == kept
    with pytest.raises(RunError, match=r"cannot write calibration.json in .*: No such file or directory"):
        record(tmp_path / "nowhere", fitted, "x")
