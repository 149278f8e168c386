"""Train a head on frozen convolutions by Keras: `trainable=False` and `fit`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from benchmarks import work


def main() -> None:
    """Train, and report how long it took."""
    options, clock = work.options(), work.Clock()
    folder = Path(options.folder, f"handwriting-{options.pretraining}")
    arrays, weights = np.load(folder / "examples.npz"), np.load(folder / "weights.npz")
    train, validation, test = ((arrays[f"{n}_images"], arrays[f"{n}_labels"]) for n in ("train", "validation", "test"))
    keras.utils.set_random_seed(0)
    layers = {
        "conv1": keras.layers.Conv2D(16, 5, 2, "same", activation="relu", trainable=False),
        "conv2": keras.layers.Conv2D(32, 5, 2, "same", activation="relu", trainable=False),
        "flatten": keras.layers.Flatten(),
        "fc1": keras.layers.Dense(200, "relu"),
        "logits": keras.layers.Dense(10),
    }
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255), *layers.values()])
    for name, layer in layers.items():
        if f"{name}/kernel" in weights:
            layer.set_weights([weights[f"{name}/kernel"], weights[f"{name}/bias"]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(float(options.rate)), loss, metrics=["accuracy"])
    with clock.running():
        model.fit(*train, batch_size=options.batch, epochs=options.epochs, validation_data=validation, verbose=0)
        accuracy = float(model.evaluate(*test, batch_size=256, verbose=0)[1])
    work.report(clock.seconds, {"accuracy": accuracy}, epoch=clock.seconds / options.epochs)


if __name__ == "__main__":
    main()
