"""VGG16 into a session: all of it, the convolutions alone, or these into the whole network, the rest initialised."""

from __future__ import annotations

import contextlib
from pathlib import Path

import tensorflow.compat.v1 as tf

import tfxfer as tx
from benchmarks import work
from tfxfer.models import vgg

SEEN = ("conv1_2/kernel", "conv5_3/kernel")


def main() -> None:
    """Restore, and report how long it took."""
    options, clock = work.options(), work.Clock()
    folder = Path(options.folder, f"vgg16-{options.side}")
    with tf.Graph().as_default(), contextlib.ExitStack() as stack:
        images = tf.placeholder(tf.uint8, [None, options.side, options.side, 3])
        if options.part == "bias":
            tf.get_variable("conv1_1/bias", [64])
        else:
            vgg.vgg16(images, top=options.part != "convolutions", dropout=0.0)
        with clock.running():
            if options.file == "npz":
                weights = tx.open_weights(folder / "vgg16_weights.npz", rename=vgg.RENAMES)
            else:
                weights = tx.open_weights(folder / "vgg16.ckpt")
            plan = tx.plan(tx.select("conv.*" if options.part in ("convolutions", "whole") else ".*"), weights)
            sess = stack.enter_context(tx.session(plan))
        work.report(
            clock.seconds, {v.op.name: work.sample(sess.run(v)) for v in tf.global_variables() if v.op.name in SEEN}
        )


if __name__ == "__main__":
    main()
