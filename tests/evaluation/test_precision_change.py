"""By how much another precision of the frozen part changes what a model says: against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data.splits import Split
from tfxfer.evaluation.precision_change import EXAMPLES, measure_change

IMAGES = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
KERNEL, HEAD = np.eye(4, dtype=np.float32) * 2, np.float32([[1, -1], [-1, 1], [1, 0], [0, 0]])


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_it_is_what_numpy_makes_of_features_and_of_images():
    rows = np.maximum(IMAGES @ KERNEL, 0)
    changed = rows + np.float32([0.3, 0, 0, 0])
    changed.setflags(write=False)
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
        frozen = tf.nn.relu(tf.matmul(images, tf.get_variable("kernel", initializer=KERNEL)))
        logits = tf.matmul(frozen, tf.get_variable("head", initializer=HEAD))
        step = tx.train_step(images, labels, logits, train=["head"])
        [tensor] = tx.frontier.search.frontier(step).tensors
        split = Split(IMAGES, np.zeros(100, np.int64), features={tensor.name: changed})
        with tx.session() as sess:
            # Features in arrays must be what the session computes, to be fed; here they are compared and not fed.
            change = measure_change(sess, step, split)
    places = np.unique(np.linspace(0, 99, EXAMPLES).astype(int))
    low, exact = (softmax(each[places] @ HEAD) for each in (changed, rows))
    assert change["examples"] == len(places) == 32
    assert change["probabilities"] == pytest.approx(np.abs(low - exact).max(), rel=1e-4)
    assert change["first_class"] == (low.argmax(axis=1) != exact.argmax(axis=1)).mean() > 0
