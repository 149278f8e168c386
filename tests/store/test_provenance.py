"""Features are refused that something else has computed than what the session holds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.store.test_extraction import IMAGES, LABELS, graph, same_data, small_step  # noqa: F401
from tfxfer.data import Split
from tfxfer.errors import DataError


def test_features_of_other_weights_are_refused_by_fit_and_evaluate(tmp_path):
    step, kernel = small_step()
    assigned = tf.assign(kernel, kernel * 2)
    with tx.session() as sess:
        data = tx.precompute(sess, step, same_data(), store=tmp_path / "store")
        assert tx.evaluate(sess, step, data.test).metrics == tx.evaluate(sess, step, same_data().test).metrics
        sess.run(assigned)
        for call in (
            lambda: tx.evaluate(sess, step, data.test),
            lambda: tx.fit(sess, step, data, epochs=1, logdir=tmp_path / "run"),
        ):
            with pytest.raises(DataError, match=r"are not what this session .*values: conv\):\n  Reshape:0: was"):
                call()
        again = tx.precompute(sess, step, same_data(), store=tmp_path / "store")
        assert tx.evaluate(sess, step, again.test).metrics == tx.evaluate(sess, step, same_data().test).metrics


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_in_arrays_of_other_weights_are_refused(tmp_path, dtype):
    """They carry no address: a few are computed again."""
    step, kernel = small_step()
    assigned = tf.assign(kernel, kernel * 1.01)
    with tx.session() as sess:
        data = tx.precompute(sess, step, same_data(), store=tmp_path / "store", dtype=dtype)
        taken = data.test.take(np.arange(10))
        taken = dataclasses.replace(taken, features={name: rows[:] for name, rows in taken.features.items()})
        arrays = dataclasses.replace(data, train=taken, validation=taken, test=taken)
        assert isinstance(taken.features["Reshape:0"], np.ndarray)
        expected = tx.evaluate(sess, step, Split(IMAGES[:10], LABELS[:10])).metrics
        assert tx.evaluate(sess, step, taken).metrics == pytest.approx(expected, rel=1e-3)
        sess.run(assigned)
        for call in (
            lambda: tx.evaluate(sess, step, taken),
            lambda: tx.fit(sess, step, arrays, epochs=1, logdir=tmp_path / "run"),
        ):
            with pytest.raises(DataError, match=r"Reshape:0: 4 examples of .* were computed again and differ by"):
                call()


def test_features_of_another_graph_are_refused(tmp_path):
    step, _ = small_step()
    with tx.session() as sess:
        data = tx.precompute(sess, step, same_data(), store=tmp_path)
    with tf.Graph().as_default():
        other, _ = small_step(scale=128.0)
        with tx.session() as sess, pytest.raises(DataError, match="the graph, or what it reads, differs"):
            tx.evaluate(sess, other, data.test)
