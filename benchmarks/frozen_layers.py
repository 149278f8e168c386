"""What it saves to compute frozen layers once: VGG16's fc6 to fc8 trained from stored pool5 and from pictures.

    python benchmarks/frozen_layers.py [--steps=20] [--batch_size=128] [--examples=256]

The network has its full size and random weights; pictures are random too. Both ways take the same batches, with dropout
and Adam. Printed are the seconds a step (the median), their ratio, and by how much the trained variables differ at the
end, as a share of the largest magnitude of each.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time

import numpy as np
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.data.batches import batches
from tfxfer.models import vgg
from tfxfer.run.feeding import Feed


def train(data: Data, steps: int, batch_size: int, store: str | None) -> tuple[list[float], dict[str, np.ndarray]]:
    """Train for some steps; return the seconds of each and the values of the trained variables."""
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        images = tf.placeholder(tf.uint8, [None, 224, 224, 3], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        logits = vgg.vgg16(images, classes=2)["fc8"]
        step = tx.train_step(images, labels, logits, train=tx.select("fc.*"), learning_rate=1e-4)
        with tx.session() as sess:
            examples = tx.precompute(sess, step, data, store=store) if store else data
            stage = step.stages[0]
            feed = Feed(step, examples.train, stage)
            call = sess.make_callable([step.loss, stage.apply], [*feed.tensors, *stage.switches])
            seconds = []
            for indices in itertools.islice(batches(0, len(data.train), batch_size), steps):
                arrays = feed.arrays(indices)
                began = time.monotonic()
                call(*arrays, *(True for _ in stage.switches))
                seconds.append(time.monotonic() - began)
            return seconds, {variable.op.name: sess.run(variable) for variable in step.trained}


def main() -> None:
    """Run both ways and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("steps", 20), ("batch_size", 128), ("examples", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, options.examples)
    images = generator.integers(0, 256, (options.examples, 224, 224, 3), np.uint8)
    few = Split(images[:2], np.array([0, 1]))
    data = Data(Split(images, labels), few, few, ("cat", "dog"))
    with tempfile.TemporaryDirectory() as folder:
        stored, fast = train(data, options.steps, options.batch_size, f"{folder}/store")
    plain, slow = train(data, options.steps, options.batch_size, None)
    # The first step of each allocates memory and plans.
    one, other = statistics.median(plain[1:]), statistics.median(stored[1:])
    print(f"from pictures: {one:.2f} s a step; from stored pool5: {other:.3f} s; {one / other:.1f} times as fast")
    for name, value in slow.items():
        off = np.abs(fast[name] - value).max() / np.abs(value).max()
        print(f"{name:12} differs by {off:.1e} of its largest magnitude")


if __name__ == "__main__":
    main()
