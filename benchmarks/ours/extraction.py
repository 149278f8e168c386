"""From a folder of JPEGs to the features of a network, through a store."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from benchmarks import work
from tfxfer.models import squeezenet, vgg
from tfxfer.store.extraction import extract


def network(options: Any, images: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Return the tensor that is computed, and the plan that restores its variables."""
    folder = Path(options.folder)
    if options.network == "vgg16":
        codes = vgg.vgg16(images, last="pool5")["pool5"]
        file = folder / f"vgg16-{options.side}" / "vgg16_weights.npz"
        return codes, tx.plan(tx.select(".*"), tx.open_weights(file, rename=vgg.RENAMES))
    codes = tf.reduce_mean(squeezenet.squeezenet1_0(images, last="fire9")["fire9"], axis=[1, 2])
    return codes, tx.plan(tx.select(".*"), tx.open_weights(folder / "squeezenet" / "squeezenet.npz"))


def main() -> None:
    """Extract, and report how long it took."""
    options, whole, computing = work.options(), work.Clock(), work.Clock()
    with tf.Graph().as_default(), contextlib.ExitStack() as stack:
        images = tf.placeholder(tf.uint8, [None, options.side, options.side, 3])
        codes, plan = network(options, images)
        sess = stack.enter_context(tx.session(plan))
        if options.precision == "bfloat16":
            from tfxfer.tools.extract import _bfloat16_session

            sess = stack.enter_context(_bfloat16_session(sess))
        store = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
        with whole.running():
            pictures = Path(options.folder, f"photographs-{options.pictures}")
            data = tx.data.folder(pictures, size=(options.side, options.side))
            parts = [data.train.images, data.validation.images, data.test.images]
            with computing.running():
                found = extract(sess, images, [codes], parts, store, batch_size=options.batch)
                rows = np.concatenate([column[np.arange(len(column))] for [column] in found])
        paths = np.concatenate([part.paths for part in parts])
        work.report(whole.seconds, {"codes": work.sample(rows[np.argsort(paths)])}, computing=computing.seconds)


if __name__ == "__main__":
    main()
