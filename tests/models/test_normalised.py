"""Convolutions with a batch normalisation: how they pad, what they make; and the classifier behind them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.models.normalised import Convolutions, classify


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def ones(side: int) -> tf.Tensor:
    return tf.ones([1, side, side, 1])


def counted(x: tf.Tensor) -> list[list[float]]:
    """Return the values where all weights are 1: how many pixels the kernel met at each place."""
    with tx.session() as sess:
        for variable in tx.select(".*kernel"):
            sess.run(variable.initializer, {variable.initializer.inputs[1]: np.ones(variable.shape, np.float32)})
        return sess.run(x)[0, :, :, 0].round(4).tolist()


@pytest.mark.parametrize("layer", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize(("symmetric", "side", "wanted"), [
    (True, 4, [[4, 6], [6, 9]]),  # a row above and a column on the left
    (False, 4, [[9, 6], [6, 4]]),  # a row below and a column on the right
    (True, 5, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),
    (False, 5, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),
])  # fmt: skip
def test_zeros_lie_on_all_sides_alike_or_as_same_has_them(layer, symmetric, side, wanted):
    made = Convolutions(tf.nn.relu, symmetric=symmetric, epsilon=0.0, momentum=0.9)
    x = made.conv2d(ones(side), 1, 3, "layer", strides=2) if layer == "conv2d" else (
        made.depthwise_conv2d(ones(side), 3, "layer", strides=2)
    )  # fmt: skip
    assert counted(x) == wanted


@pytest.mark.parametrize("symmetric", [True, False])
def test_at_a_stride_of_1_both_are_the_same_and_nothing_is_padded_by_an_op_of_its_own(symmetric, graph):
    made = Convolutions(tf.nn.relu, symmetric=symmetric, epsilon=0.0, momentum=0.9)
    assert counted(made.conv2d(ones(3), 1, 3, "layer")) == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    assert not [op.name for op in graph.get_operations() if op.type == "Pad"]


def test_it_has_no_bias_but_a_batch_normalisation_with_these_options():
    made = Convolutions(tf.nn.relu6, symmetric=True, epsilon=3.0, momentum=0.5)
    x = tf.constant(np.float32([[[[-8.0]], [[20.0]]]]))
    activated, plain = made.conv2d(x, 1, 1, "a"), made.conv2d(x, 1, 1, "b", activated=False)
    assert [variable.op.name for variable in tx.select("a.*")] == [
        "a/kernel", "a_bn/gamma", "a_bn/beta", "a_bn/moving_mean", "a_bn/moving_variance",
    ]  # fmt: skip
    with tx.session() as sess:
        for variable in tx.select(".*kernel"):
            sess.run(variable.initializer, {variable.initializer.inputs[1]: np.ones((1, 1, 1, 1), np.float32)})
        assert sess.run(plain).ravel().tolist() == [-4, 10]  # by sqrt(1 + epsilon)
        assert sess.run(activated).ravel().tolist() == [0, 6]
        first = tx.graph.layers.batch_norms()[0]
        sess.run(first.updates, {first.switch: True})
        assert sess.run(tx.select("a_bn/moving_mean")[0])[0] == pytest.approx(3)  # half of the mean of the batch


@pytest.mark.parametrize(("last", "names"), [
    ("x", ["x"]), ("pool", ["x", "pool"]), ("fc", ["x", "pool", "fc", "prob"]), (None, ["x", "pool", "fc", "prob"]),
])  # fmt: skip
def test_a_classifier_is_built_as_far_as_it_is_wanted(last, names, graph):
    ends = {"x": tf.zeros([2, 3, 3, 4])}
    classify(ends, last, classes=5, dropout=0.3)
    assert list(ends) == names
    assert [v.op.name for v in tf.global_variables() if v.op.name != "global_step"] == (
        ["fc/kernel", "fc/bias"] if "fc" in names else []
    )
    assert bool(tf.get_collection(tx.graph.layers.DROPOUTS)) == ("fc" in names)
