"""What a network makes of ready pixels in a bare session: the ceiling for who has to decode them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks import work
from benchmarks.peers import tf_networks


def main() -> None:
    """Compute, and report how long it took."""
    options, clock = work.options(), work.Clock()
    pixels = np.load(Path(options.folder, f"pixels-{options.pictures}-{options.side}", "pixels.npy"))
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, options.side, options.side, 3])
        codes = tf_networks.codes(options, images)
        tf_networks.load(sess, work.arrays(options))
        with clock.running():
            batches = range(0, len(pixels), options.batch)
            rows = np.concatenate([sess.run(codes, {images: pixels[i : i + options.batch]}) for i in batches])
    work.report(clock.seconds, {"codes": work.sample(rows)}, computing=clock.seconds)


if __name__ == "__main__":
    main()
