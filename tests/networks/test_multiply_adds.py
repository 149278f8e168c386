"""Multiply-adds of single ops, counted here by formulas of their own."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

from tfxfer.networks import multiply_adds

CASES = {
    "conv": (lambda x: tf.nn.conv2d(x, tf.zeros([3, 5, 4, 7]), [1, 2, 2, 1], "SAME"), 4 * 3 * 7 * 3 * 5 * 4),
    "grouped": (lambda x: tf.nn.conv2d(x, tf.zeros([3, 3, 2, 6]), 1, "VALID"), 6 * 4 * 6 * 3 * 3 * 2),
    "dilated": (lambda x: tf.nn.conv2d(x, tf.zeros([3, 3, 4, 1]), 1, "SAME", dilations=2), 8 * 6 * 9 * 4),
    "depthwise": (lambda x: tf.nn.depthwise_conv2d(x, tf.zeros([3, 3, 4, 2]), [1, 1, 1, 1], "SAME"), 8 * 6 * 8 * 9),
    "matmul": (lambda x: tf.matmul(tf.reshape(x, [-1, 192]), tf.zeros([192, 10])), 1920),
    "turned": (lambda x: tf.matmul(tf.reshape(x, [-1, 192]), tf.zeros([10, 192]), transpose_b=True), 1920),
    "batched": (lambda x: tf.matmul(x, tf.zeros([4, 5])), 8 * 6 * 4 * 5),
    "einsum": (lambda x: tf.einsum("bhwc,cd->bhwd", x, tf.zeros([4, 5])), 8 * 6 * 4 * 5),
    "relu": (tf.nn.relu, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_they_are_counted_for_one_example(name):
    build, expected = CASES[name]
    with tf.Graph().as_default() as graph:
        build(tf.placeholder(tf.float32, [None, 8, 6, 4]))
        counts = [multiply_adds.of(op) for op in graph.get_operations()]
    assert sum(count or 0 for count in counts) == expected
    assert None not in counts


def test_unknown_shapes_give_no_number():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, None, None, 3])
        assert multiply_adds.of(tf.nn.conv2d(x, tf.zeros([3, 3, 3, 2]), 1, "SAME").op) is None
        assert multiply_adds.of(tf.matmul(tf.placeholder(tf.float32), tf.zeros([3, 2])).op) is None
