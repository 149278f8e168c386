"""Padding folded into convolutions: where SAME pads as much, the numbers stay; elsewhere all stays as it is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tfxfer as tx
from tfxfer.store import precision
from tfxfer.store.compute import Network

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def kernel(shape=(3, 3, 3, 4)):
    return tf.get_variable("kernel", initializer=RNG.normal(size=shape).astype(np.float32), use_resource=True)


def convolved(x, paddings, *, stride=2, depthwise=False, size=(3, 3), dilation=1, **options):
    x = tf.pad(x, [[0, 0], *paddings, [0, 0]], **options)
    if depthwise:
        return tf.nn.depthwise_conv2d(x, kernel((*size, 3, 2)), [1, stride, stride, 1], "VALID")
    return tf.nn.conv2d(x, kernel((*size, 3, 4)), stride, "VALID", dilations=dilation)


def both(build, shape=(8, 8)):
    """Return what a network gives and what it gives folded, and the types of ops and paddings there."""
    images = tf.placeholder(tf.float32, [None, *shape, 3])
    tensors = build(images)
    values = RNG.normal(size=(2, *[n or 8 for n in shape], 3)).astype(np.float32)
    with tx.session() as sess:
        network = Network(sess, images, tensors if isinstance(tensors, list) else [tensors])
        with precision.computing(network, "folded") as low:
            plain, folded = (each.make_callable(2)(values) for each in (network, low))
            ops = low.sess.graph.get_operations()
            kinds = {op.type for op in ops}
            paddings = {op.get_attr("padding") for op in ops if op.type in ("Conv2D", "DepthwiseConv2dNative")}
    for a, b in zip(plain, folded, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6)
    return kinds, paddings


@pytest.mark.parametrize("depthwise", [False, True], ids=["convolution", "depthwise"])
@pytest.mark.parametrize(("shape", "paddings"), [
    ((8, 8), [[0, 1], [0, 1]]),  # as Keras pads before a stride of 2
    ((9, 9), [[1, 1], [1, 1]]),
    ((8, 9), [[0, 1], [1, 1]]),
])  # fmt: skip
def test_what_same_pads_is_padded_by_the_convolution(depthwise, shape, paddings):
    kinds, found = both(lambda x: convolved(x, paddings, depthwise=depthwise), shape)
    assert "Pad" not in kinds
    assert found == {b"SAME"}


STAYS = {
    "more than SAME": lambda x: convolved(x, [[1, 1], [1, 1]]),
    "less than SAME": lambda x: convolved(x, [[0, 0], [0, 1]]),
    "on the other side": lambda x: convolved(x, [[1, 0], [1, 0]]),
    "not zeros": lambda x: convolved(x, [[0, 1], [0, 1]], constant_values=1.0),
    "mirrored": lambda x: convolved(x, [[0, 1], [0, 1]], mode="REFLECT"),
    "channels": lambda x: tf.nn.depthwise_conv2d(  # a Conv2D so padded fails in TensorFlow itself
        tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 1]]), kernel((3, 3, 4, 2)), [1, 2, 2, 1], "VALID"
    ),
    "by the number of pictures": lambda x: tf.nn.conv2d(
        tf.pad(x, tf.shape(x)[0] // 2 * tf.constant([[0, 0], [0, 1], [0, 1], [0, 0]])), kernel(), 2, "VALID"
    ),
}


@pytest.mark.parametrize("build", STAYS.values(), ids=STAYS)
def test_what_is_not_the_same_stays(build):
    _, found = both(build)
    assert found == {b"VALID"}


def test_a_size_that_is_not_known_stays():
    assert both(lambda x: convolved(x, [[0, 1], [0, 1]]), (None, 8))[1] == {b"VALID"}


def test_the_body_of_a_function_is_folded_by_its_own_shapes():
    @tf.function
    def call(x):
        return tf.nn.conv2d(tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]], name="pad"), tf.ones([3, 3, 3, 4]), 2, "VALID")

    for size, padding in ((8, b"SAME"), (9, b"VALID")):
        with tf.Graph().as_default():
            assert both(call, (size, size))[1] == {padding}


def test_padding_that_is_taken_elsewhere_too_is_kept_there():
    def build(x):
        padded = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])
        return [tf.nn.conv2d(padded, kernel(), 2, "VALID"), tf.reduce_sum(padded, [1, 2])]

    kinds, found = both(build)
    assert "Pad" in kinds
    assert found == {b"SAME"}


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    amounts=st.tuples(*[st.integers(0, 2)] * 4),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_any_padding_gives_the_same_as_before(shape, amounts, size, stride, dilation):
    top, bottom, left, right = amounts
    stride = 1 if dilation > 1 else stride  # TensorFlow has no convolution with both
    reach = [(length - 1) * dilation + 1 for length in size]
    assume(reach[0] <= shape[0] + top + bottom and reach[1] <= shape[1] + left + right)
    with tf.Graph().as_default():
        paddings = [[top, bottom], [left, right]]
        _, found = both(lambda x: convolved(x, paddings, stride=stride, size=size, dilation=dilation), shape)
    same = all(amounts == fewest(*side, stride) for amounts, *side in zip(paddings, shape, reach, strict=True))
    assert found == {b"SAME" if same else b"VALID"}


def fewest(size, reach, stride):
    """Return the fewest zeros before and after with which the windows begin at each multiple of the stride."""
    windows = len(range(0, size, stride))
    total = next(count for count in itertools.count() if (size + count - reach) // stride + 1 >= windows)
    return [total // 2, total - total // 2]
