"""What SqueezeNet makes of more and more small pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from benchmarks import work
from tfxfer.models import squeezenet
from tfxfer.store.extraction import extract


def main() -> None:
    """Extract, and report how long a thousand pictures took."""
    options, clock = work.options(), work.Clock()
    count = options.pictures // options.part
    with tf.Graph().as_default(), tempfile.TemporaryDirectory(dir=options.folder) as store:
        images = tf.placeholder(tf.uint8, [None, options.side, options.side, 3])
        codes = tf.reduce_mean(squeezenet.squeezenet1_1(images, last="fire9")["fire9"], axis=[1, 2])
        with tx.session() as sess:
            sess.run(codes, {images: np.zeros((32, options.side, options.side, 3), np.uint8)})  # plans and allocates
            with clock.running():
                data = tx.data.folder(
                    Path(options.folder, f"small-{count}-{options.side}"), size=(options.side, options.side)
                )
                parts = [data.train.images, data.validation.images, data.test.images]
                extract(sess, images, [codes], parts, store)
    work.report(clock.seconds, thousand=1000 * clock.seconds / count)


if __name__ == "__main__":
    main()
