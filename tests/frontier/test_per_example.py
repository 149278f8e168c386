"""What belongs to one example: in functions, branches and loops, and what cannot be proved."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.frontier.test_search import AROUND, fed, fed_behind, graph, placeholders  # noqa: F401
from tfxfer.graph import layers
from tfxfer.models import heads


def within(x):
    return x / tf.reduce_max(x)


@pytest.mark.parametrize("around", AROUND)
def test_a_statistic_of_the_batch_is_found_in_functions_branches_and_loops(control_flow, around):
    assert fed_behind(lambda x: tf.identity(AROUND[around](x, within), "after")) == ["features:0"]


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: tf.while_loop(lambda y: tf.reduce_max(y) > 0.5, lambda y: y * 0.8, [x]),
        lambda x: tf.cond(tf.reduce_max(x) > 0.5, lambda: x, lambda: x * 2),
        lambda x: (
            tf.reshape(tf.reduce_max(x, axis=tf.placeholder_with_default([1], [None]), keepdims=True), [-1, 1]) + x
        ),
        lambda x: tf.squeeze(x),
        lambda x: tf.reshape(tf.reshape(x, [-1, 16]), [-1, 8]),
        lambda x: x * tf.cast(tf.shape(x)[0], tf.float32),
        lambda x: x + tf.cast(tf.range(tf.shape(x)[0]), tf.float32)[:, None],
        lambda x: tf.gather(x, tf.argmax(x, 1) % 2),
        lambda x: tf.reshape(tf.transpose(x), [-1, 8]),
    ],
    ids=["loop", "cond", "unknown axes", "squeeze", "reshape", "size", "place", "gather", "transpose"],
)
def test_what_is_not_proved_to_belong_to_one_example_is_run_in_each_step(control_flow, mixing):
    assert fed_behind(lambda x: tf.ensure_shape(tf.nn.relu(mixing(x)), [None, 8]))[0] in ("features:0", "Max:0")


def test_a_loop_that_makes_rows_longer_is_not_taken_to_keep_their_shape(control_flow):
    """What would be one row for each example in the first pass, are rows of half of the examples in the second."""

    def body(i, long, taken):
        return i + 1, tf.concat([long, long + 1], 1), tf.reshape(long, [-1, 1])[: tf.shape(taken)[0]]

    def between(x):
        shapes = [tf.TensorShape([]), tf.TensorShape([None, None]), tf.TensorShape([None, 1])]
        return x + tf.while_loop(lambda i, *_: i < 3, body, [0, x[:, :1], x[:, 1:2]], shapes)[2]

    assert "features:0" in fed_behind(between)


def test_a_constant_that_is_repeated_for_each_example_is_not_taken_for_one():
    def between(x):
        constant = tf.placeholder_with_default(np.ones([1, 8], np.float32), [None, 8])
        return x + tf.reduce_sum(tf.where(tf.constant(True), constant, x), 0)

    assert fed_behind(between) == ["features:0"]


@pytest.mark.parametrize(("training", "expected"), [(False, "after:0"), (True, "features:0")])
def test_a_switch_that_is_always_fed_the_same_decides_whose_statistics_count(control_flow, training, expected):
    images, labels = placeholders()
    features = tf.reshape(layers.conv2d(images, 2, 3, "conv"), [-1, 128], name="features")
    switch = tf.placeholder(tf.bool, [])
    centred = tf.cond(switch, lambda: features - tf.reduce_mean(features, 0), lambda: features - 0.5)
    after = tf.identity(tf.nn.relu(tf.ensure_shape(centred, [None, 128])), name="after")
    step = tx.train_step(
        images,
        labels,
        heads.classifier(after, classes=3),
        train=tx.select("logits/.*"),
        train_feeds={switch: training},
        eval_feeds={switch: training},
    )
    assert fed(step) == [expected]


def test_where_a_constant_selects_the_moving_statistics_those_of_the_batch_do_not_count():
    def between(x):
        training = tf.placeholder_with_default(False, [])
        mean, variance = tf.nn.moments(x, [0])
        used = tf.where(training, mean, tf.zeros([8])), tf.where(training, variance, tf.ones([8]))
        return tf.identity(tf.nn.batch_normalization(x, *used, None, None, 1e-3), "after")

    assert fed_behind(between) == ["after:0"]
