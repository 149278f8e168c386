"""The rules: what each kind of op does to the batch, with TensorFlow as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests import random_graphs
from tests.frontier.test_search import fed_behind, graph  # noqa: F401
from tfxfer.frontier.search import find


@pytest.mark.parametrize(
    "cut",
    [lambda x, n: x[:, :n], lambda x, n: x[tf.newaxis, :, n - 1 :][0], lambda x, n: x[..., : n * 2]],
    ids=["end", "begin", "ellipsis"],
)
def test_a_slice_that_takes_more_of_each_example_the_more_there_are_is_run_in_each_step(cut):
    def between(x):
        return x + tf.reduce_sum(cut(x, tf.shape(x)[0]), 1, keepdims=True)

    assert fed_behind(between) == ["features:0"]


HEADS = {
    "dilated": lambda x, v: tf.batch_to_space_nd(
        tf.nn.conv2d(tf.space_to_batch_nd(x, [2, 2], [[2, 2], [2, 2]]), v([3, 3, 2, 2]), 1, "VALID"),
        [2, 2],
        [[0, 0]] * 2,
    ),
    "per pixel": lambda x, v: tf.matmul(tf.reshape(x, [-1, 2]), v([2, 3])),
    "two views": lambda x, v: tf.matmul(tf.reshape(tf.concat([x, x[:, ::-1]], 0), [-1, 32]), v([32, 3])),
    "sparse": lambda x, v: tf.sparse.sparse_dense_matmul(tf.sparse.from_dense(tf.reshape(x, [-1, 32])), v([32, 3])),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_joins_or_divides_examples_is_fed_with_what_is_stored_before(head):
    images = tf.placeholder(tf.float32, [None, 4, 4, 2])
    features = tf.nn.relu(tf.nn.conv2d(images, tf.ones([3, 3, 2, 2]), 1, "SAME"), name="features")
    kernel = []
    loss = tf.reduce_mean(HEADS[head](features, lambda shape: kernel.append(tf.get_variable("k", shape)) or kernel[0]))
    step = tf.train.GradientDescentOptimizer(1.0).minimize(loss)
    tensors = find(images, [step]).tensors
    if head == "sparse":  # The reshaped features, and where they are zero.
        assert {str(tensor.shape) for tensor in tensors} == {"(None, 32)"}
    else:
        assert [tensor.name for tensor in tensors] == ["features:0"]


def test_an_embedding_is_fed_with_the_numbers_of_its_rows():
    def between(x):
        return tf.nn.embedding_lookup(tf.get_variable("table", [8, 8]), tf.argmax(x, 1))

    assert fed_behind(between, "table") == ["ArgMax:0"]


@pytest.mark.parametrize("kind", random_graphs.SIMPLE)
def test_no_row_that_is_stored_depends_on_other_rows_or_on_their_number(kind):
    """With TensorFlow as the oracle: the other examples are replaced, and some are left out."""
    images = tf.placeholder(tf.float32, [None, 4, 4, 2])
    y = tf.identity(random_graphs.SIMPLE[kind](random_graphs.Builder(0), tf.tanh(images)), "after")
    trained = tf.get_variable("trained", [2])
    found = find(images, [tf.train.GradientDescentOptimizer(1.0).minimize(y * trained, var_list=[trained])])
    random = np.random.default_rng(0)
    first, other = random.normal(size=(2, 4, 4, 4, 2))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for tensor in found.tensors:
            whole = sess.run(tensor, {images: first})
            for fewer in (
                first[:1],
                np.concatenate([first[:1], other[:2] * 9]),
                np.concatenate([first[:1], other[1:]]),
            ):
                assert np.allclose(sess.run(tensor, {images: fewer})[0], whole[0], 1e-5, 1e-6)
    per_example = kind not in MIXING
    assert ([tensor.name for tensor in found.tensors] == ["after:0"]) == per_example


MIXING = {
    "unit length of batch", "batch mean", "batch maximum", "first", "reversed batch", "rolled batch", "cumulated batch",
    "sorted batch", "moments", "fused in training", "halves", "neighbours", "by size", "python", "quantized by batch",
    "mapped", "dropout",
}  # fmt: skip
