"""Checkpoints that this project did not write, restored into layers of ours; skipped where they are not there."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import RestoreError
from tfxfer.graph import layers


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_a_convnet_restored_by_renaming_scores_what_it_scored_where_it_was_trained(real_data):
    images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    x = tf.cast(images, tf.float32) / 255
    for number, (filters, size, stride) in enumerate([(4, 6, 1), (8, 5, 2), (12, 4, 2)], 1):
        x = layers.conv2d(x, filters, size, f"conv{number}", strides=stride)
    x = layers.dense(layers.flatten(x), 200, "fc1")
    logits = layers.dense(x, 10, "logits", activation=None)
    ours = ["conv1", "conv2", "conv3", "fc1", "logits"]
    table = {
        f"convolutional/Variable{f'_{k}' if k else ''}": f"{ours[k // 2]}/{('kernel', 'bias')[k % 2]}"
        for k in range(10)
    }
    weights = tx.open_weights(real_data("checkpoints/mnist_convnet") / "convolutional.ckpt", rename=table.__getitem__)
    plan = tx.plan(tx.select(".*"), weights)
    assert {(pairing.source, pairing.variable, pairing.by) for pairing in plan.chosen()} == {
        (old, new, "Saver") for old, new in table.items()
    }
    step = tx.train_step(images, labels, logits, train=tx.select("logits/.*"))
    data = tx.data.mnist(real_data("mnist"))
    assert len(data.test) == 10_000
    with tx.session(plan) as sess:
        found = tx.evaluate(sess, step, data.test)
    assert round(found.accuracy, 4) == 0.9912


def by_its_own_graph(meta, fetch, feed, images):
    """Return what the graph that was stored with a checkpoint makes of images, restored by its own Saver."""
    with tf.Graph().as_default():
        saver = tf.train.import_meta_graph(str(meta), clear_devices=True)
        with tf.Session() as sess:
            saver.restore(sess, str(meta.with_suffix("")))
            return sess.run(fetch, {feed: images})


def restored_equals_the_file(sess, plan, prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    for pairing, value in zip(plan.chosen(), sess.run(list(plan.variables)), strict=True):
        assert value.tobytes() == reader.get_tensor(pairing.source).tobytes(), pairing


IMAGES = np.random.default_rng(0).random((5, 28, 28, 1)).astype(np.float32)


def test_an_autoencoder_of_tf_1_13_fits_layers_of_the_same_names_without_renaming(real_data):
    folder = real_data("checkpoints/autoencoder_tf1_13")
    x = layers.max_pool2d(layers.conv2d(tf.constant(IMAGES), 8, 3, "conv2d"), 2, "max_pooling2d", padding="SAME")
    x = layers.max_pool2d(layers.conv2d(x, 4, 3, "conv2d_1"), 2, "encoding", padding="SAME")
    x = layers.conv2d_transpose(x, 8, 3, "conv2d_transpose", strides=2)
    x = layers.conv2d_transpose(x, 8, 3, "conv2d_transpose_1", strides=2)
    y = layers.conv2d(x, 1, 3, "conv2d_2", activation=None)
    plan = tx.plan(tx.select(".*"), tx.open_weights(folder))
    assert len(plan.variables) == 10
    assert len(plan.unused) == 22
    assert all("Adam" in name or name in ("beta1_power", "beta2_power") for name in plan.unused)
    with tx.session(plan) as sess:
        restored_equals_the_file(sess, plan, folder / "autoencoder.ckpt")
        got = sess.run(y)
    flat = IMAGES.reshape(5, 784)
    wanted = by_its_own_graph(folder / "autoencoder.ckpt.meta", "conv2d_2/BiasAdd:0", "inputs:0", flat)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_of_an_autoencoder_of_tf_1_13_a_part_can_be_chosen(real_data):
    folder = real_data("checkpoints/autoencoder_tf1_13")
    layers.conv2d(layers.conv2d(tf.constant(IMAGES), 8, 3, "conv2d"), 4, 3, "conv2d_1")
    plan = tx.plan(tx.select("conv2d/.*"), tx.open_weights(folder))
    assert [pairing.status for pairing in plan.pairings] == ["restored"] * 2 + ["initialised"] * 2
    with tx.session(plan) as sess:
        restored_equals_the_file(sess, plan, folder / "autoencoder.ckpt")
        (bias,) = tx.select("conv2d_1/bias")
        assert not sess.run(bias).any()


def test_an_autoencoder_of_tf_1_5_with_numbered_names_is_restored_by_renaming(real_data):
    folder = real_data("checkpoints/conv_autoencoder_tf1_5")
    x = layers.conv2d(tf.constant(IMAGES), 16, 3, "conv1", strides=2, activation=tf.tanh)
    x = layers.conv2d(x, 32, 3, "conv2", strides=2, activation=tf.tanh)
    x = layers.conv2d(x, 64, 3, "conv3", strides=2, padding="VALID", activation=tf.tanh)
    code = layers.dense(layers.flatten(x), 32, "code", activation=None)
    x = tf.reshape(layers.dense(code, 576, "dec_fc", activation=tf.tanh), [-1, 3, 3, 64])
    x = layers.conv2d_transpose(x, 32, 3, "deconv3", strides=2, padding="VALID", activation=tf.tanh)
    x = layers.conv2d_transpose(x, 16, 3, "deconv2", strides=2, activation=tf.tanh)
    y = layers.conv2d_transpose(x, 1, 3, "deconv1", strides=2, activation=tf.sigmoid)
    order = ["conv1", "conv2", "conv3", "code", "deconv3", "deconv2", "deconv1", "dec_fc"]
    rules = [("^Variable$", "Variable_0")]
    rules += [(f"^Variable_{2 * k}$", f"{name}/kernel") for k, name in enumerate(order)]
    rules += [(f"^Variable_{2 * k + 1}$", f"{name}/bias") for k, name in enumerate(order)]
    plan = tx.plan(tx.select(".*"), tx.open_weights(folder, rename=rules))
    assert {pairing.variable: pairing.source for pairing in plan.chosen()}["deconv3/bias"] == "Variable_9"
    assert len(plan.unused) == 34
    with tx.session(plan) as sess:
        restored_equals_the_file(sess, plan, folder / "model.ckpt")
        got = sess.run(y)
    assert got.shape == (5, 28, 28, 1)
    wanted = by_its_own_graph(folder / "model.ckpt.meta", "Sigmoid:0", "Placeholder:0", IMAGES)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_numbered_names_that_were_not_renamed_are_refused_with_what_the_file_holds(real_data):
    folder = real_data("checkpoints/conv_autoencoder_tf1_5")
    layers.conv2d(tf.constant(IMAGES), 16, 3, "conv1")
    with pytest.raises(
        RestoreError, match=r"conv1/kernel  not in the file\n(.*\n)*the file holds: Variable, Variable/Adam"
    ):
        tx.plan(tx.select("conv1/.*"), tx.open_weights(folder))
