"""What is compiled once gives what `Session.run` gives; and what is told of an error of TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer import callables


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.mark.parametrize("on_server", [False, True])
def test_a_compiled_call_gives_the_bits_of_session_run(graph, on_server):
    x = tf.placeholder(tf.float32, [None, 3], "x")
    counter = tf.Variable(0, name="counter")
    tensors, op = [tf.sin(x), tf.reduce_sum(x, axis=1)], counter.assign_add(1).op
    start = tf.global_variables_initializer()
    target = tf.distribute.Server.create_local_server().target if on_server else ""
    values = np.random.default_rng(0).normal(size=(4, 3))  # float64, cast to what is fed
    with tf.Session(target) as sess:
        sess.run(start)
        call = callables.compiled(sess, tensors, [x], [op])
        for got, wanted in zip(call(values), sess.run(tensors, {x: values}), strict=True):
            assert got.dtype == np.float32
            assert np.array_equal(got, wanted)
        call(values)
        assert sess.run(counter) == 2


def test_of_an_error_of_tensorflow_the_line_is_told_that_says_what_happened(graph):
    x = tf.placeholder(tf.int32, [], "x")
    y = 7 // x
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError) as info:
        sess.run(y, {x: 0})
    assert callables.message(info.value) == "Integer division by zero"


@pytest.mark.parametrize(
    ("error", "line"),
    [(OSError("disk full\nand more"), "disk full"), (KeyError(), "KeyError"), (ValueError(" x "), "x")],
)
def test_of_another_error_the_first_line_is_told_or_its_kind(error, line):
    assert callables.message(error) == line
