"""Train a head on an encoder's frozen convolutions: these are computed once, into a new store."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from benchmarks import work
from benchmarks.inputs.examples import SPLITS
from tfxfer.data import Data, Split
from tfxfer.models import autoencoder, heads


def main() -> None:
    """Train, and report the time, including that of filling the store."""
    options, clock, computing = work.options(), work.Clock(), work.Clock()
    folder = Path(options.folder, f"handwriting-{options.pretraining}")
    arrays = np.load(folder / "examples.npz")
    data = Data(*(Split(arrays[f"{n}_images"], arrays[f"{n}_labels"]) for n in SPLITS), tuple("0123456789"))
    with tf.Graph().as_default(), tempfile.TemporaryDirectory(dir=options.folder) as where:
        images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
        logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[200], classes=10)
        plan = tx.plan(tx.select(".*"), tx.open_weights(folder / "weights.npz"))
        step = tx.train_step(
            images, labels, logits, train=tx.select("fc1/.*", "logits/.*"), learning_rate=float(options.rate)
        )
        with tx.session(plan) as sess:
            with clock.running():
                with computing.running():
                    data = tx.precompute(sess, step, data, store=f"{where}/store")
                tx.fit(sess, step, data, epochs=options.epochs, batch_size=options.batch, logdir=f"{where}/run")
                accuracy = tx.evaluate(sess, step, data.test).accuracy
            work.report(clock.seconds, {"accuracy": accuracy}, once=computing.seconds,
                        epoch=(clock.seconds - computing.seconds) / options.epochs)  # fmt: skip


if __name__ == "__main__":
    main()
