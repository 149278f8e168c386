"""Train VGG16's fully connected layers on pictures by the plain feed_dict loop, through all layers at each step."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from benchmarks import work
from benchmarks.peers import tf_networks


def decoded(path: Path, side: int) -> np.ndarray:
    """Return a picture's largest centred square, resized bilinearly."""
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    left, top = ((size - short) // 2 for size in image.size)
    return np.array(image.resize((side, side), Image.BILINEAR, box=(left, top, left + short, top + short)))


def main() -> None:
    """Train, and report how long it took, and each epoch from the second on."""
    options, clock, ends, losses = work.options(), work.Clock(), [], []
    folder = Path(options.folder)
    paths = sorted(work.pictures(options).rglob("*.jpg"))
    every = np.array([path.parent.name == "dogs" for path in paths], np.int64)
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.uint8, [None, options.side, options.side, 3])
        labels = tf.placeholder(tf.int64, [None])
        logits = tf_networks.vgg16(images, top=True, classes=2)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        trained = [variable for variable in tf.trainable_variables() if variable.op.name.startswith("fc")]
        apply = tf.train.AdamOptimizer(1e-5).minimize(tf.reduce_mean(each), var_list=trained)
        arrays = work.well_known(folder / f"vgg16-{options.side}" / "vgg16_weights.npz")
        tf_networks.load(sess, arrays | dict(np.load(folder / "vgg16-fc8" / "fc8.npz")))
        with clock.running():
            for epoch in range(options.epochs):
                order, found = work.order(0, epoch, len(paths)), []
                for start in range(0, len(paths), options.batch):
                    chosen = order[start : start + options.batch]
                    pixels = np.stack([decoded(paths[place], options.side) for place in chosen])
                    found.append(sess.run([each, apply], {images: pixels, labels: every[chosen]})[0])
                ends.append(time.perf_counter())
                losses.append(float(np.concatenate(found).mean()))
    work.report(clock.seconds, {"losses": losses}, epoch=(ends[-1] - ends[0]) / (options.epochs - 1))


if __name__ == "__main__":
    main()
