"""Train a head on frozen convolutions through all layers, step by step: the plain feed_dict loop, or with tf_slim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks import work
from benchmarks.peers import feed_loop, tf_networks

HEAD = ("fc1", "logits")


def plain(images: tf.Tensor, labels: tf.Tensor, rate: float) -> tuple[tf.Tensor, tf.Operation]:
    """Return the logits and what makes a step."""
    x = tf.cast(images, tf.float32) * (1 / 255)
    for name, filters in (("conv1", 16), ("conv2", 32)):
        x = tf_networks.convolution(x, filters, 5, name, stride=2)
    x = tf_networks.dense(tf.reshape(x, [-1, 7 * 7 * 32]), 200, "fc1", tf.nn.relu)
    logits = tf_networks.dense(x, 10, "logits")
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    trained = [variable for variable in tf.trainable_variables() if variable.op.name.startswith(HEAD)]
    return logits, tf.train.AdamOptimizer(rate).minimize(loss, var_list=trained)


def slim(images: tf.Tensor, labels: tf.Tensor, rate: float) -> tuple[tf.Tensor, tf.Operation]:
    """Return the logits and what makes a step: tf_slim's layers, its losses and its training op."""
    import tf_slim

    x = tf.cast(images, tf.float32) * (1 / 255)
    for name, filters in (("conv1", 16), ("conv2", 32)):
        x = tf_slim.conv2d(x, filters, 5, 2, scope=name)
    x = tf_slim.fully_connected(tf_slim.flatten(x), 200, scope="fc1")
    logits = tf_slim.fully_connected(x, 10, activation_fn=None, scope="logits")
    tf.losses.sparse_softmax_cross_entropy(labels, logits)
    trained = [variable for variable in tf.trainable_variables() if variable.op.name.startswith(HEAD)]
    optimizer = tf.train.AdamOptimizer(rate)
    return logits, tf_slim.learning.create_train_op(tf.losses.get_total_loss(), optimizer, variables_to_train=trained)


def main() -> None:
    """Train, and report how long it took."""
    options, clock = work.options(), work.Clock()
    folder = Path(options.folder, f"handwriting-{options.pretraining}")
    arrays, weights = np.load(folder / "examples.npz"), dict(np.load(folder / "weights.npz"))
    splits = {n: (arrays[f"{n}_images"], arrays[f"{n}_labels"]) for n in ("train", "validation", "test")}
    if options.way == "slim":
        weights = {n.replace("/kernel", "/weights").replace("/bias", "/biases"): each for n, each in weights.items()}
    with tf.Graph().as_default(), tf.Session() as sess:
        images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
        logits, apply = {"plain": plain, "slim": slim}[options.way](images, labels, float(options.rate))
        right = tf.equal(tf.argmax(logits, 1), labels)
        tf_networks.load(sess, weights)
        with clock.running():
            feed_loop.train(sess, apply, right, (images, labels), splits, options.epochs, options.batch)
            accuracy = feed_loop.accuracy(sess, right, (images, labels), splits["test"])
        work.report(clock.seconds, {"accuracy": accuracy}, epoch=clock.seconds / options.epochs)


if __name__ == "__main__":
    main()
