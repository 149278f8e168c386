"""Networks that others trained on MNIST, in the formats they saved them in, score what they scored there."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.graph import layers


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def accuracy(images: tf.Tensor, logits: tf.Tensor, weights: tx.weights.Weights, mnist) -> float:
    """Restore every variable of the default graph and return the accuracy on t10k."""
    labels = tf.placeholder(tf.int64, [None], name="labels")
    plan = tx.plan(tx.select(".*"), weights)
    step = tx.train_step(images, labels, logits, train=tx.select(".*"))
    with tx.session(plan) as sess:
        return round(tx.evaluate(sess, step, tx.data.mnist(mnist).test).accuracy, 4)


def pixels() -> tuple[tf.Tensor, tf.Tensor]:
    images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="images")
    return images, tf.cast(images, tf.float32) / 255


def dense_net(x: tf.Tensor, names: list[str], units: list[int]) -> tf.Tensor:
    x = layers.flatten(x)
    for name, count in zip(names[:-1], units[:-1], strict=True):
        x = layers.dense(x, count, name)
    return layers.dense(x, units[-1], names[-1], activation=None)


def test_a_convnet_of_keras_2(real_data):
    images, x = pixels()
    for number, filters in enumerate((32, 64, 64), 1):
        x = layers.conv2d(x, filters, 3, f"conv2d_{number}", padding="VALID")
        x = layers.max_pool2d(x, 2, f"pool{number}") if number < 3 else x
    logits = dense_net(x, ["dense_1", "dense_2"], [64, 10])
    weights = tx.open_weights(real_data("keras/keras2_mnist_cnn.h5"))
    assert accuracy(images, logits, weights, real_data("mnist")) == 0.9908


@pytest.mark.parametrize("file", ["keras3_mnist.h5", "keras3_mnist.keras", "keras3_mnist.weights.h5"])
def test_a_dense_net_of_keras_3(real_data, file):
    images, x = pixels()
    logits = dense_net(x, ["dense", "dense_1", "dense_2", "dense_3"], [64, 32, 16, 10])
    weights = tx.open_weights(real_data("keras") / file)
    assert accuracy(images, logits, weights, real_data("mnist")) == 0.9602


def test_a_dense_net_in_safetensors_whose_kernels_are_transposed(real_data):
    images, x = pixels()
    names = [f"fc{number}" for number in range(4)]
    logits = dense_net(x, names, [512, 128, 32, 10])
    weights = tx.open_weights(
        real_data("safetensors/mnist_dense.safetensors"),
        rename=[(r"^(\d)(\.0)?\.weight$", r"fc\1/kernel"), (r"^(\d)(\.0)?\.bias$", r"fc\1/bias")],
        layout=[("fc./kernel", "transpose")],
    )
    assert accuracy(images, logits, weights, real_data("mnist")) == 0.9849
