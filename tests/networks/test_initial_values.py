"""What variables of an imported network start from, where nobody restores them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.graph.variables import inference

SEED = 3


def norm_by_hand(x, name, scale=True):
    """Batch normalisation as `tf.nn` has it, with given statistics."""
    with tf.variable_scope(name):
        gamma = tf.get_variable("g", [8], initializer=tf.ones_initializer()) if scale else None
        beta, mean, variance = (
            tf.get_variable(part, [8], initializer=tf.random_normal_initializer()) for part in ("b", "m", "v")
        )
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


def fused_norm(x, name):
    with tf.variable_scope(name):
        parts = [tf.get_variable(part, [8], initializer=tf.random_normal_initializer()) for part in "gbmv"]
        return tf.nn.fused_batch_norm(x, *parts, is_training=False)[0]


def write(resource: bool) -> None:
    """Write a network whose variables have names that tell nothing, and values that nobody restores."""
    with tf.Graph().as_default(), tf.variable_scope("", use_resource=resource):
        x = tf.placeholder(tf.float32, [None, 6, 6, 3], "x")
        x = tf.nn.conv2d(x, tf.get_variable("a", [3, 3, 3, 8]), 1, "SAME")
        x = norm_by_hand(x, "one")
        x = tf.nn.depthwise_conv2d(x, tf.get_variable("d", [3, 3, 8, 1]), [1, 1, 1, 1], "SAME")
        x = fused_norm(norm_by_hand(x, "two", scale=False), "three")
        x = tf.reduce_mean(x, [1, 2]) * tf.get_variable("scale", [1, 8])
        tf.nn.bias_add(tf.matmul(x, tf.get_variable("w", [8, 4])), tf.get_variable("c", [4]), name="y")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            tf.train.Saver().save(sess, "model.ckpt")


def values(build, seed: int = SEED) -> dict[str, np.ndarray]:
    with tf.Graph().as_default():
        tf.set_random_seed(seed)
        variables = build()
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            return {variable.op.name: value for variable, value in zip(variables, sess.run(variables), strict=True)}


def imported():
    return tx.network("model.ckpt.meta", endpoint="y").variables


@pytest.mark.parametrize("resource", [False, True], ids=["reference", "resource"])
def test_kernels_are_drawn_scales_and_variances_are_one_and_all_else_is_zero(tmp_path, monkeypatch, resource):
    monkeypatch.chdir(tmp_path)
    write(resource)
    start = values(imported)
    ones = {name for name, value in start.items() if (value == 1).all()}
    zeros = {name for name, value in start.items() if not value.any()}
    assert ones == {"one/g", "one/v", "two/v", "three/g", "three/v", "scale"}
    assert zeros == {"one/b", "one/m", "two/b", "two/m", "three/b", "three/m", "c"}
    assert start.keys() - ones - zeros == {"a", "d", "w"}
    limit = np.sqrt(6 / (9 * 3 + 9 * 8))
    assert 0.9 * limit < np.abs(start["a"]).max() <= limit
    depthwise = np.sqrt(6 / (9 * 1 + 9 * 1))
    assert 0.9 * depthwise < np.abs(start["d"]).max() <= depthwise
    assert all(np.array_equal(value, start[name]) for name, value in values(imported).items())
    assert not np.array_equal(values(imported, seed=4)["a"], start["a"])


def test_a_kernel_starts_as_that_of_a_layer_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def layer():
        x = tf.placeholder(tf.float32, [None, 6, 6, 3], "x")
        tf.identity(tx.graph.layers.conv2d(x, 4, 3, "conv1"), "y")
        return tx.select(".*")

    with tf.Graph().as_default(), tf.Session() as sess:
        layer()
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, "model.ckpt")
    of_layer, of_file = values(layer), values(imported)
    assert all(np.array_equal(of_layer[name], value) for name, value in of_file.items())


def test_what_is_restored_as_a_whole_is_not_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(True)
    with inference():
        assert not any(value.any() for value in values(imported).values())


def test_a_random_network_of_keras_tells_pictures_apart():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    with tf.Graph().as_default():
        net = tx.network("MobileNet", input_size=32, alpha=0.25, include_top=False)
        with tx.session() as sess:
            features = sess.run(list(net.endpoints.values())[-1], {net.images: pictures})
    assert features.std() > 0
    assert np.abs(features[0] - features[1]).max() > 0.01 * np.abs(features).max()
