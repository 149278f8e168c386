"""Weights of VGG16, SqueezeNet 1.0 and MobileNet made of random numbers, in every kind of file that a side reads."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from benchmarks.case import Sizes
from benchmarks.inputs import once

CLASSES = 1000


def vgg16(inputs: Path, sizes: Sizes) -> None:
    """Write VGG16 for pictures of a side as `vgg16_weights.npz`, with the well-known names, `.h5` and a checkpoint."""
    side = sizes["side"]
    with once(inputs / f"vgg16-{side}") as folder:
        if folder:
            arrays = random_vgg16(side)
            write_npz(folder / "vgg16_weights.npz", arrays)
            _checkpoint(folder / "vgg16.ckpt", arrays)
            _keras(folder / "vgg16.h5", arrays, side)


def random_vgg16(side: int, classes: int = CLASSES) -> dict[str, np.ndarray]:
    """Return kernels and biases under tfxfer's names, scaled so that values stay of one size from layer to layer."""
    from tfxfer.models import vgg

    rows = (side // 32) ** 2 * 512
    shapes = {name: tuple(classes if n is None else n for n in shape) for name, shape in vgg.variables("vgg16").items()}
    # Pixels go in that are some 64 times as large as what a layer gives.
    return random({**shapes, "fc6/kernel": (rows, shapes["fc6/kernel"][1])}, {"conv1_1/kernel": 1 / 64})


def random(shapes: dict[str, tuple[int, ...]], factors: dict[str, float], seed: int = 0) -> dict[str, np.ndarray]:
    """Draw kernels as He et al. (2015) do, and small biases; some kernels times a factor."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        deviation = math.sqrt(2 / math.prod(shape[:-1])) if len(shape) > 1 else 0.01
        arrays[name] = generator.standard_normal(shape, np.float32) * np.float32(deviation * factors.get(name, 1))
    return arrays


def squeezenet(inputs: Path, sizes: Sizes) -> None:
    """Write SqueezeNet 1.0 as `.npz`, under tfxfer's names."""
    from tfxfer.models import squeezenet_sources

    with once(inputs / "squeezenet") as folder:
        if folder:
            named = squeezenet_sources.variables("squeezenet1_0")
            shapes = {name: tuple(CLASSES if n is None else n for n in shape) for name, shape in named.items()}
            np.savez(folder / "squeezenet.npz", **random(shapes, {"conv1/kernel": 1 / 64}))


def mobilenet(inputs: Path, sizes: Sizes) -> None:
    """Write MobileNet without its classifier, of so many percent of its width, as Keras saves it and as `.npz`."""
    from benchmarks.peers import keras_networks

    with once(inputs / f"mobilenet-{sizes['alpha']}") as folder:
        if folder:
            model = keras_networks.mobilenet(224, sizes["alpha"])
            variables = {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.variables}
            shapes = {name: tuple(v.shape) for name, v in variables.items() if name.endswith("kernel")}
            # A depthwise kernel sums over 3x3 values alone, and not over channels.
            factors = {name: math.sqrt(shape[2]) for name, shape in shapes.items() if "_dw_" in name}
            arrays = {name: v.numpy() for name, v in variables.items()} | random(shapes, factors)
            keras_networks.take_by_name(model, arrays)
            model.save_weights(folder / "mobilenet.weights.h5")
            np.savez(folder / "mobilenet.npz", **arrays)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays under the names that they have in `vgg16_weights.npz`."""
    np.savez(path, **{name.replace("/kernel", "_W").replace("/bias", "_b"): each for name, each in arrays.items()})


def _checkpoint(prefix: Path, arrays: dict[str, np.ndarray]) -> None:
    import tensorflow as tf

    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=list(arrays), shape_and_slices=[""] * len(arrays),
                      tensors=list(arrays.values()))  # fmt: skip


def _keras(path: Path, arrays: dict[str, np.ndarray], side: int) -> None:
    from benchmarks.peers import keras_networks

    model = keras_networks.vgg16(side, top=True)
    keras_networks.take(model, arrays)
    model.save(path)
