"""From a folder of JPEGs to the features of a network, through a store."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from benchmarks import work
from tfxfer.models import heads, squeezenet, vgg


def network(options: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
    """Return the placeholder of pixels, the tensor that is computed, and the plan that restores its variables."""
    folder = Path(options.folder)
    if options.network == "mobilenet":
        weights = folder / f"mobilenet-{options.alpha}" / "mobilenet.weights.h5"
        net = tx.network("MobileNet", weights=weights, input_size=options.side, include_top=False)
        return net.images, tf.reduce_mean(net["conv_pw_13_relu"], axis=[1, 2]), tx.plan(net.variables, net.weights)
    images = tf.placeholder(tf.uint8, [None, options.side, options.side, 3])
    if options.network == "vgg16":
        codes = vgg.vgg16(images, last="pool5")["pool5"]
        file, renames = folder / f"vgg16-{options.side}" / "vgg16_weights.npz", vgg.RENAMES
    else:
        codes = tf.reduce_mean(squeezenet.squeezenet1_0(images, last="fire9")["fire9"], axis=[1, 2])
        file, renames = folder / "squeezenet" / "squeezenet.npz", []
    return images, codes, tx.plan(tx.select(".*"), tx.open_weights(file, rename=renames))


def main() -> None:
    """Extract, and report how long it took."""
    options, whole, computing = work.options(), work.Clock(), work.Clock()
    precision = work.option(tx.precompute, "precision", options.precision, usual="float32")
    decode = work.option(tx.data.folder, "decode", options.decode, usual="exact")
    with tf.Graph().as_default(), tempfile.TemporaryDirectory(dir=options.folder) as store:
        images, codes, plan = network(options)
        logits = heads.classifier(codes, classes=2)  # what is frozen is what a trained head stands on
        labels = tf.placeholder(tf.int64, [None])
        step = tx.train_step(images, labels, logits, train=tx.select("logits/.*"))
        with tx.session(plan) as sess, whole.running():
            data = tx.data.folder(work.pictures(options), size=(options.side, options.side), **decode)
            paths = [path for split in (data.train, data.validation, data.test) for path in split.images.paths]
            with computing.running():
                data = tx.precompute(sess, step, data, store=store, batch_size=options.batch, **precision)
                rows = np.concatenate([everything(split) for split in (data.train, data.validation, data.test)])
        work.report(whole.seconds, {"codes": work.sample(rows[np.argsort(paths)])}, computing=computing.seconds)


def everything(split: Any) -> np.ndarray:
    """Return the stored codes of all examples of a split."""
    [rows] = split.features.values()
    return rows[np.arange(len(rows))]


if __name__ == "__main__":
    main()
