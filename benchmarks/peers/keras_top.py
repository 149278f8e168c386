"""Train VGG16's fully connected layers on pictures by Keras, `trainable=False` on the convolutions."""

from __future__ import annotations

import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks import work
from benchmarks.peers import keras_networks


class Epochs(keras.callbacks.Callback):
    """Notes when each epoch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


def pictures(paths: list[Path], labels: np.ndarray, options: object) -> tf.data.Dataset:
    """Return the batches of all epochs, in the order in which tfxfer goes through the pictures."""

    def decode(path: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), 3)
        short = tf.minimum(tf.shape(pixels)[0], tf.shape(pixels)[1])
        top, left = ((tf.shape(pixels)[axis] - short) // 2 for axis in (0, 1))
        square = pixels[top : top + short, left : left + short]
        return tf.round(tf.image.resize(square, (options.side, options.side), antialias=True))

    orders = [work.order(0, epoch, len(paths)) for epoch in range(options.epochs)]
    every = np.array([str(path) for path in paths])
    parts = [
        tf.data.Dataset.from_tensor_slices((every[order], labels[order]))
        .map(lambda path, label: (decode(path), label), tf.data.AUTOTUNE)
        .batch(options.batch)
        for order in orders
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.concatenate(part)
    return whole.prefetch(tf.data.AUTOTUNE)


def main() -> None:
    """Train, and report how long it took, and each epoch from the second on."""
    options, clock, epochs = work.options(), work.Clock(), Epochs()
    folder = Path(options.folder)
    paths = sorted(work.pictures(options).rglob("*.jpg"))
    labels = np.array([path.parent.name == "dogs" for path in paths], np.int64)
    vgg16 = keras_networks.vgg16(options.side, top=True, classes=2)
    arrays = work.well_known(folder / f"vgg16-{options.side}" / "vgg16_weights.npz")
    keras_networks.take(vgg16, arrays | dict(np.load(folder / "vgg16-fc8" / "fc8.npz")))
    for layer in vgg16.layers:
        layer.trainable = layer.name in keras_networks.TOP.values()
    model = keras_networks.with_preprocessing(vgg16, options.side)
    model.compile(keras.optimizers.Adam(1e-5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with clock.running():
        steps = -(-len(paths) // options.batch)
        fitted = model.fit(pictures(paths, labels, options), epochs=options.epochs, steps_per_epoch=steps, verbose=0,
                           callbacks=[epochs])  # fmt: skip
    epoch = (epochs.ends[-1] - epochs.ends[0]) / (options.epochs - 1)
    work.report(clock.seconds, {"losses": fitted.history["loss"]}, epoch=epoch)


if __name__ == "__main__":
    main()
