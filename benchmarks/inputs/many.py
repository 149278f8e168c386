"""A checkpoint of very many variables, and very many examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.case import Sizes
from benchmarks.inputs import once

SHAPES = {"kernel": (3, 3, 4, 8), "bias": (8,), "gamma": (8,), "beta": (8,)}


def variables(inputs: Path, sizes: Sizes) -> None:
    """Write a checkpoint of TensorFlow's with so many variables, four a layer."""
    import tensorflow as tf

    count = sizes["variables"]
    with once(inputs / f"variables-{count}") as folder:
        if folder:
            names = [f"block{n // 400}/layer{n // 4}/{list(SHAPES)[n % 4]}" for n in range(count)]
            arrays = [np.full(SHAPES[name.rpartition("/")[2]], 0.5, np.float32) for name in names]
            tf.raw_ops.SaveV2(prefix=str(folder / "model.ckpt"), tensor_names=names, shape_and_slices=[""] * count,
                              tensors=arrays)  # fmt: skip


def pixels(inputs: Path, sizes: Sizes) -> None:
    """Write tiny grey images as one array, which may lie on disk while they are used, and labels."""
    with once(inputs / f"tiny-{sizes['rows']}") as folder:
        if folder:
            generator = np.random.default_rng(0)
            np.save(folder / "images.npy", generator.integers(0, 256, (sizes["rows"], 8, 8, 1), np.uint8))
            np.save(folder / "labels.npy", generator.integers(0, 10, sizes["rows"]))
