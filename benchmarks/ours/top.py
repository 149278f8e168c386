"""Train VGG16's fc6 to fc8 on pictures, the frozen convolutions computed once into a store."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from benchmarks import work
from tfxfer.data import Data, Pictures, Split
from tfxfer.models import vgg


class Epochs(logging.Handler):
    """Notes when each epoch's training ended, by what `fit` logs."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Look for the line of an epoch."""
        if record.getMessage().startswith("epoch ") and "train" in record.getMessage().split():
            self.ends.append(time.perf_counter())


def main() -> None:
    """Train, and report how long it took, and each epoch from the second on."""
    options, clock, epochs = work.options(), work.Clock(), Epochs()
    folder, side = Path(options.folder), options.side
    paths = [str(path) for path in sorted(work.pictures(options).rglob("*.jpg"))]
    whole = Split(Pictures(paths, (side, side)), np.array(["dogs" in path for path in paths], np.int64))
    few = whole.subset(np.arange(4))
    with tf.Graph().as_default(), tempfile.TemporaryDirectory(dir=options.folder) as where:
        images, labels = tf.placeholder(tf.uint8, [None, side, side, 3]), tf.placeholder(tf.int64, [None])
        logits = vgg.vgg16(images, classes=2, dropout=0.0)["fc8"]
        weights = tx.open_weights(folder / f"vgg16-{side}" / "vgg16_weights.npz", rename=vgg.RENAMES)
        plans = [
            tx.plan(tx.select(".*", exclude="fc8/.*"), weights),
            tx.plan(tx.select("fc8/.*"), tx.open_weights(folder / "vgg16-fc8" / "fc8.npz")),
        ]
        precision = work.option(tx.train_step, "train_precision", options.train_precision, usual="float32")
        step = tx.train_step(images, labels, logits, train=tx.select("fc.*"), learning_rate=1e-5, **precision)
        every = -(-len(paths) // options.batch) * options.epochs
        with tx.session(*plans) as sess, clock.running():
            logging.getLogger("tfxfer").addHandler(epochs)
            data = tx.precompute(sess, step, Data(whole, few, few, ("cats", "dogs")), store=f"{where}/store")
            fitted = tx.fit(sess, step, data, epochs=options.epochs, batch_size=options.batch, logdir=f"{where}/run",
                            validation_steps=every,
                            checkpoints=tx.CheckpointOptions(save_steps=every))  # fmt: skip
    losses = [row["loss"] for row in fitted.history if row["split"] == "train"]
    work.report(clock.seconds, {"losses": losses}, epoch=(epochs.ends[-1] - epochs.ends[0]) / (options.epochs - 1))


if __name__ == "__main__":
    main()
