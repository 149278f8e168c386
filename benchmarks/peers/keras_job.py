"""From a folder of JPEGs to test accuracy by Keras: `image_dataset_from_directory`, a frozen VGG16, `fit`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks import work
from benchmarks.peers import keras_networks


def vgg16(options: object) -> keras.Model:
    """Return the frozen convolutions, from pixels to pool5 averaged."""
    convolutions = keras.applications.VGG16(
        weights=None, include_top=False, pooling="avg", input_shape=(options.side, options.side, 3)
    )
    keras_networks.take(convolutions, work.well_known(Path(options.folder, f"vgg16-{options.of}", "vgg16_weights.npz")))
    convolutions.trainable = False
    return keras_networks.with_preprocessing(convolutions, options.side)


def head(options: object, classes: int) -> list[keras.Layer]:
    """Return the layers that are trained."""
    return [keras.layers.Dense(options.hidden, "relu"), keras.layers.Dense(classes, dtype="float32")]


def once(model: keras.Model, pictures: tf.data.Dataset) -> tf.data.Dataset:
    """Return what the frozen layers make of pictures, computed once, and the labels."""
    batches = [(model.predict_on_batch(pixels), labels) for pixels, labels in pictures]
    codes, labels = (np.concatenate(columns) for columns in zip(*batches, strict=True))
    return tf.data.Dataset.from_tensor_slices((codes, labels)).shuffle(len(labels)).batch(len(batches[0][1]))


def main() -> None:
    """Train and test."""
    options, clock = work.options(), work.Clock()
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(options.policy)
    with clock.running():
        folder, size = Path(options.folder, f"{options.of}-{options.pictures}"), (options.side, options.side)
        splits = {
            split: keras.utils.image_dataset_from_directory(
                folder / split, image_size=size, crop_to_aspect_ratio=True, batch_size=options.batch,
                shuffle=split == "train", verbose=False)
            for split in ("train", "validation", "test")
        }  # fmt: skip
        frozen, trained = vgg16(options), head(options, len(splits["train"].class_names))
        if options.way == "once":
            splits = {split: once(frozen, pictures) for split, pictures in splits.items()}
            model = keras.Sequential([keras.Input(frozen.output.shape[1:]), *trained])
        else:
            model = keras.Sequential([frozen, *trained])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
        model.fit(splits["train"], epochs=options.epochs, validation_data=splits["validation"], verbose=0)
        accuracy = float(model.evaluate(splits["test"], verbose=0)[1])
    work.report(clock.seconds, {"accuracy": accuracy})


if __name__ == "__main__":
    main()
