"""Small data sets to train on."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Sizes
from benchmarks.inputs import REAL_DATA, ROOT, once
from benchmarks.inputs.networks import random

MNIST = REAL_DATA / "mnist"
SPLITS = ("train", "validation", "test")
PIXELS, CODES, CLASSES = (16, 16, 3), 4096, 5


def handwriting(inputs: Path, sizes: Sizes) -> None:
    """Write MNIST, where it is, or else the digits of scikit-learn; and an encoder's convolutions and a new head.

    The encoder has seen the training images so many times as `pretraining` says; with 0, it is the one that comes with
    tfxfer, which has seen those of scikit-learn.
    """
    import tfxfer as tx

    epochs = sizes["pretraining"]
    with once(inputs / f"handwriting-{epochs}") as folder:
        if folder:
            data = tx.data.mnist(MNIST) if MNIST.exists() else tx.data.digits()
            splits = {name: getattr(data, name) for name in SPLITS}
            arrays = {f"{name}_images": split.images for name, split in splits.items()}
            np.savez(folder / "examples.npz", **arrays, **{f"{n}_labels": s.labels for n, s in splits.items()})
            convolutions = _pretrained(data, epochs) if epochs else _of(ROOT / "checkpoints/digits_autoencoder")
            np.savez(folder / "weights.npz", **convolutions, **_head(7 * 7 * 32, 200, 10))


def _pretrained(data: Any, epochs: int) -> dict[str, np.ndarray]:
    """Train the autoencoder as `tfxfer pretrain` does, and return its convolutions."""
    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.models import autoencoder

    with tf.Graph().as_default(), tempfile.TemporaryDirectory() as logdir:
        images = tf.placeholder(tf.uint8, [None, 28, 28, 1])
        ends = autoencoder.autoencoder(images, mask=0.5, patch=7)
        step = tx.train_step(images, None, ends["reconstruction"], loss=ends["loss"], train=tx.select(".*"))
        with tx.session() as sess:
            fitted = tx.fit(sess, step, data, epochs=epochs, batch_size=64, logdir=logdir)
        return _of(fitted.last)


def _of(checkpoint: str | Path) -> dict[str, np.ndarray]:
    import tfxfer as tx

    weights = tx.open_weights(checkpoint)
    return {name: weights[name] for name in weights if re.fullmatch(r"conv\d/(kernel|bias)", name)}


def codes(inputs: Path, sizes: Sizes) -> None:
    """Write examples of five classes, noise with a pattern each, and the outputs of a frozen layer.

    Files: `examples.npz` (images, codes and labels a split) and `weights.npz` (the frozen layer and a new head).
    """
    count = sizes["examples"]
    with once(inputs / f"codes-{count}") as folder:
        if folder:
            generator = np.random.default_rng(0)
            patterns = generator.normal(0, 1, (CLASSES, *PIXELS))
            weights = random({"codes/kernel": (int(np.prod(PIXELS)), CODES), "codes/bias": (CODES,)}, {})
            arrays: dict[str, np.ndarray] = {}
            for name, n in zip(SPLITS, (count, count // 8, count // 8), strict=True):
                labels = generator.integers(0, CLASSES, n)
                noisy = 128 + generator.normal(0, 40, (n, *PIXELS)) + 6 * patterns[labels]
                images = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
                inner = images.reshape(n, -1).astype(np.float32) / 255 - 0.5
                arrays[f"{name}_images"], arrays[f"{name}_labels"] = images, labels
                arrays[f"{name}_codes"] = np.maximum(inner @ weights["codes/kernel"] + weights["codes/bias"], 0)
            np.savez(folder / "examples.npz", **arrays)
            np.savez(folder / "weights.npz", **weights, **_head(CODES, 256, CLASSES))


def _head(inputs: int, hidden: int, classes: int) -> dict[str, np.ndarray]:
    """Return a head's first values, Glorot and Bengio's: everybody begins with these."""
    generator = np.random.default_rng(1)
    arrays = {}
    for name, rows, units in (("fc1", inputs, hidden), ("logits", hidden, classes)):
        limit = np.sqrt(6 / (rows + units))
        arrays[f"{name}/kernel"] = generator.uniform(-limit, limit, (rows, units)).astype(np.float32)
        arrays[f"{name}/bias"] = np.zeros(units, np.float32)
    return arrays
