"""A store of more and more rows: filled, and trained from for as many steps."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from benchmarks import work
from tfxfer.data import Data, Split
from tfxfer.graph import layers
from tfxfer.models import heads

BATCH = 100


def main() -> None:
    """Fill and train, and report how long a thousand rows took in either."""
    options, filling, training = work.options(), work.Clock(), work.Clock()
    count = options.rows // options.part
    folder = Path(options.folder, f"tiny-{count}")
    train = Split(np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "labels.npy"))
    few = train.take(np.arange(10))
    with tf.Graph().as_default(), tempfile.TemporaryDirectory(dir=options.folder) as where:
        images, labels = tf.placeholder(tf.uint8, [None, 8, 8, 1]), tf.placeholder(tf.int64, [None])
        codes = layers.dense(layers.flatten(tf.cast(images, tf.float32) / 255, "pixels"), 512, "codes")
        logits = heads.classifier(codes, classes=10)
        step = tx.train_step(images, labels, logits, train=tx.select("logits/.*"))
        steps = options.rows // BATCH
        with tx.session() as sess:
            sess.run(codes, {images: train.images[:32]})  # plans and allocates
            with filling.running():
                data = tx.precompute(sess, step, Data(train, few, few, tuple("0123456789")), store=f"{where}/store")
            with training.running():
                tx.fit(sess, step, data, epochs=options.part, batch_size=BATCH, logdir=f"{where}/run",
                       validation_steps=steps, checkpoints=tx.CheckpointOptions(save_steps=steps))  # fmt: skip
    work.report(filling.seconds + training.seconds, filling=1000 * filling.seconds / count,
                training=1000 * training.seconds / options.rows)  # fmt: skip


if __name__ == "__main__":
    main()
