"""Train a head on codes by Keras's `fit`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from benchmarks import work


def main() -> None:
    """Train, and report how long it took."""
    options, clock = work.options(), work.Clock()
    folder = Path(options.folder, f"codes-{options.examples}")
    arrays, weights = np.load(folder / "examples.npz"), np.load(folder / "weights.npz")
    train, validation, test = (
        (arrays[f"{name}_codes"], arrays[f"{name}_labels"]) for name in ("train", "validation", "test")
    )
    keras.utils.set_random_seed(0)
    hidden, logits = keras.layers.Dense(256, "relu"), keras.layers.Dense(weights["logits/bias"].size)
    model = keras.Sequential([keras.Input(train[0].shape[1:]), hidden, logits])
    for layer, name in ((hidden, "fc1"), (logits, "logits")):
        layer.set_weights([weights[f"{name}/kernel"], weights[f"{name}/bias"]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    with clock.running():
        model.fit(*train, batch_size=options.batch, epochs=options.epochs, validation_data=validation, verbose=0)
    work.report(clock.seconds, {"accuracy": float(model.evaluate(*test, verbose=0)[1])})


if __name__ == "__main__":
    main()
