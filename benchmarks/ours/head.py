"""Train a head on the outputs of a frozen layer, which are in a store."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from benchmarks import work
from benchmarks.inputs.examples import CLASSES, CODES, SPLITS
from tfxfer.data import Data, Split
from tfxfer.graph import layers
from tfxfer.models import heads


def main() -> None:
    """Train, and report how long it took."""
    options, clock = work.options(), work.Clock()
    folder = Path(options.folder, f"codes-{options.examples}")
    arrays = np.load(folder / "examples.npz")
    splits = [Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in SPLITS]
    data = Data(*splits, tuple(map(str, range(CLASSES))))
    with tf.Graph().as_default(), tempfile.TemporaryDirectory(dir=options.folder) as logdir:
        images = tf.placeholder(tf.uint8, [None, *splits[0].images.shape[1:]])
        labels = tf.placeholder(tf.int64, [None])
        inner = layers.flatten(tf.cast(images, tf.float32) / 255 - 0.5, "inner")
        codes = layers.dense(inner, CODES, "codes")
        logits = heads.classifier(codes, hidden=[256], classes=CLASSES)
        plan = tx.plan(tx.select(".*"), tx.open_weights(folder / "weights.npz"))
        step = tx.train_step(images, labels, logits, train=tx.select("fc1/.*", "logits/.*"))
        with tx.session(plan) as sess:
            data = tx.precompute(sess, step, data, store=folder.with_name(f"{folder.name}-store"))
            with clock.running():
                tx.fit(sess, step, data, epochs=options.epochs, batch_size=options.batch, logdir=logdir)
            work.report(clock.seconds, {"accuracy": tx.evaluate(sess, step, data.test).accuracy})


if __name__ == "__main__":
    main()
