"""Models that Keras makes, with random values also in moving statistics, and what Keras itself says of their layers."""

from __future__ import annotations

import functools

import h5py
import keras
import numpy as np


def randomise(model, seed=0):
    """Give all variables random values of a size that keeps a deep network alive."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape = variable.shape
        if variable.name in ("gamma", "moving_variance", "variance"):
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif variable.name in ("beta", "bias", "moving_mean", "mean"):
            variable.assign(rng.normal(0, 0.1, shape))
        elif variable.name.endswith("kernel"):
            variable.assign(rng.normal(0, (2 / max(1, np.prod(shape[:-1]))) ** 0.5, shape))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def application(name, side, **options):
    """Build a network of `keras.applications` with random values."""
    return randomise(getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), **options))


def layers_of(model):
    """List all layers of a model but its inputs."""
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def outputs(model, images):
    """Return what Keras computes of images in each layer, by name."""
    layers = layers_of(model)
    whole = keras.Model(model.inputs, [layer.output for layer in layers])
    return dict(zip([layer.name for layer in layers], map(np.asarray, whole([images])), strict=True))


@functools.cache
def pictures(side, count=2, low=0):
    """Return float32 [count, side, side, 3] of 0..255."""
    return np.random.default_rng(1).integers(low, 256, (count, side, side, 3)).astype(np.float32)


def save_weights_as_keras_2(model, path, rename=lambda name: name):
    """Write weights alone to HDF5, as the files of `keras.applications` are: names of layers and of weights.

    `rename` maps the name of a layer to that in the file.
    """

    def old(variable, depthwise):
        owner, name = variable.path.split("/")[-2:]
        name = "Variable" if name.startswith("variable") else name  # one that its layer does not name
        return f"{rename(owner)}/{'depthwise_kernel' if depthwise and name == 'kernel' else name}:0".encode()

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [rename(layer.name).encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(rename(layer.name))
            variables = [v for v in (*layer.trainable_weights, *layer.non_trainable_weights) if "seed" not in v.path]
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            written = [old(variable, depthwise) for variable in variables]
            group.attrs["weight_names"] = written
            for name, variable in zip(written, variables, strict=True):
                group[name.decode()] = variable.numpy()
