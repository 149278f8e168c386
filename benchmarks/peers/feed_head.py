"""Train a head on codes by the plain feed_dict loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks import work
from benchmarks.peers import feed_loop, tf_networks


def main() -> None:
    """Train, and report how long it took."""
    options, clock = work.options(), work.Clock()
    folder = Path(options.folder, f"codes-{options.examples}")
    arrays, weights = np.load(folder / "examples.npz"), dict(np.load(folder / "weights.npz"))
    splits = {n: (arrays[f"{n}_codes"], arrays[f"{n}_labels"]) for n in ("train", "validation", "test")}
    with tf.Graph().as_default(), tf.Session() as sess:
        codes = tf.placeholder(tf.float32, [None, splits["train"][0].shape[1]])
        labels = tf.placeholder(tf.int64, [None])
        hidden = tf_networks.dense(codes, 256, "fc1", tf.nn.relu)
        logits = tf_networks.dense(hidden, weights["logits/bias"].size, "logits")
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        apply = tf.train.AdamOptimizer(1e-3).minimize(loss)
        right = tf.equal(tf.argmax(logits, 1), labels)
        tf_networks.load(sess, weights)
        with clock.running():
            feed_loop.train(sess, apply, right, (codes, labels), splits, options.epochs, options.batch)
        work.report(clock.seconds, {"accuracy": feed_loop.accuracy(sess, right, (codes, labels), splits["test"])})


if __name__ == "__main__":
    main()
