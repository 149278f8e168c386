"""What is neither restored nor trained: refused where the file has it, and else named."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.errors import RestoreError

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
DATA = Data(*(Split(IMAGES[a : a + 20], np.arange(20) % 3) for a in (0, 20, 40)), ("a", "b", "c"))


@pytest.fixture
def weights(tmp_path):
    arrays = {"first": np.eye(16, dtype=np.float32), "second": np.eye(16, dtype=np.float32)}
    np.savez(tmp_path / "w.npz", **arrays)
    return tmp_path / "w.npz"


def fit(logdir, weights, chosen, *, train="head", old_head=False, **options):
    """Train dense layers of plain variables, of which some are restored."""
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.uint8, [None, 4, 4, 1]), tf.placeholder(tf.int64, [None])
        x = tf.reshape(tf.cast(images, tf.float32) / 255, [-1, 16])
        for name in ("first", "second"):
            x = tf.nn.relu(tf.matmul(x, tf.get_variable(name, [16, 16])))
        if old_head:
            tf.nn.softmax(tf.matmul(x, tf.get_variable("third", [16, 2])))  # as of an imported graph; not of the step
        else:
            x = tf.nn.relu(tf.matmul(x, tf.get_variable("third", [16, 16])))
        logits = tf.matmul(x, tf.get_variable("head", [16, 3]))
        step = tx.train_step(images, labels, logits, train=train, summaries=())
        with tx.session(tx.plan(chosen, weights, **options)) as sess:
            return tx.fit(sess, step, DATA, epochs=1, batch_size=10, logdir=logdir)


def test_what_the_file_has_and_nobody_restores_or_trains_is_refused_by_name(tmp_path, weights):
    with pytest.raises(RestoreError, match=r"1 variables are neither restored nor trained, and .*w.npz.*: second; "):
        fit(tmp_path / "run", weights, "first")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("chosen", "options"),
    [(["first", "second"], {}), ("first", {"train": ["second", "head"]}), ("first", {"exclude": "second"})],
)
def test_each_cure_that_the_message_names_cures(tmp_path, weights, caplog, chosen, options):
    with caplog.at_level(logging.WARNING, "tfxfer"):
        assert fit(tmp_path / "run", weights, chosen, **options).epochs == 1
    (note,) = [record.getMessage() for record in caplog.records if "neither restored" in record.getMessage()]
    assert note == "neither restored nor trained, so as they were initialised: third"


def test_what_the_step_does_not_read_may_stay_as_it_is(tmp_path, weights, caplog):
    np.savez(weights, third=np.ones((16, 2), np.float32), **np.load(weights))
    with caplog.at_level(logging.WARNING, "tfxfer"):
        assert fit(tmp_path / "run", weights, ["first", "second"], old_head=True).epochs == 1
    assert not [record for record in caplog.records if "neither restored" in record.getMessage()]
