"""VGG16, SqueezeNet 1.0 and MobileNet in Keras, with tfxfer's names of variables made Keras's."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from benchmarks import work

MEAN_RGB, MEAN_BGR = (123.68, 116.779, 103.939), (104.0, 117.0, 123.0)
TOP = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
SQUEEZE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}


def codes(options: Any) -> keras.Model:
    """Return `options.network`, with its weights, from pixels 0..255, RGB, to its codes."""
    arrays = work.arrays(options)
    if options.network == "vgg16":
        model = vgg16(options.side, top=False)
        take(model, arrays)
        return with_preprocessing(model, options.side)
    model = mobilenet(options.side, options.alpha) if options.network == "mobilenet" else squeezenet(options.side)
    take_by_name(model, arrays)
    return model


def vgg16(side: int, top: bool, classes: int = 1000) -> keras.Model:
    """Return Keras's own VGG16, logits at the end where it has a top."""
    return keras.applications.VGG16(weights=None, include_top=top, input_shape=(side, side, 3), classes=classes,
                                    classifier_activation=None)  # fmt: skip


def take(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Put arrays with tfxfer's names into a model of Keras's VGG16, all layers of it or the convolutions."""
    for name in {name.rpartition("/")[0] for name in arrays}:
        theirs = TOP.get(name) or f"block{name[4]}_conv{name[6]}"
        if theirs in {layer.name for layer in model.layers}:
            model.get_layer(theirs).set_weights([arrays[f"{name}/kernel"], arrays[f"{name}/bias"]])


def take_by_name(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """Put arrays into the layers of the same names, `fire2/squeeze1x1` being `fire2_squeeze1x1` in Keras."""
    known = {name.replace("/", "_"): array for name, array in arrays.items()}
    for layer in model.layers:
        layer.set_weights([known[f"{layer.name}_{variable.name}"] for variable in layer.variables])


def with_preprocessing(model: keras.Model, side: int) -> keras.Model:
    """Return VGG16 that takes pixels 0..255, RGB, as tfxfer's does: the means are subtracted inside."""
    pixels = keras.Input((side, side, 3))
    return keras.Model(pixels, model(_rescaled(pixels, 1.0, [-mean for mean in MEAN_RGB])))


def squeezenet(side: int) -> keras.Model:
    """Return SqueezeNet 1.0 from pixels 0..255, RGB, to fire9 averaged over positions."""
    x = pixels = keras.Input((side, side, 3))
    x = keras.layers.Lambda(lambda rgb: rgb[..., ::-1])(x)
    x = _rescaled(x, 1.0, [-mean for mean in MEAN_BGR])
    x = keras.layers.Conv2D(96, 7, 2, activation="relu", name="conv1")(x)
    for number in range(1, 10):
        x = _fire(x, SQUEEZE[number], f"fire{number}") if number in SQUEEZE else x
        x = keras.layers.MaxPooling2D(3, 2)(x) if number in (1, 4, 8) else x
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))


def mobilenet(side: int, alpha: int) -> keras.Model:
    """Return MobileNet, of so many percent of its width, from pixels 0..255, RGB, to its last layer averaged."""
    pixels = keras.Input((side, side, 3))
    network = keras.applications.MobileNet(
        weights=None, include_top=False, pooling="avg", alpha=alpha / 100, input_tensor=_rescaled(pixels, 1 / 127.5, -1)
    )
    return keras.Model(pixels, network.output)


def _rescaled(pixels: keras.KerasTensor, scale: float, offset: float | list[float]) -> keras.KerasTensor:
    # In bfloat16, means would lose their digits before they are subtracted.
    return keras.layers.Rescaling(scale, offset=offset, dtype="float32")(pixels)


def _fire(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
    def convolution(y: keras.KerasTensor, count: int, size: int, role: str) -> keras.KerasTensor:
        layer = keras.layers.Conv2D(count, size, padding="same", activation="relu", name=f"{name}_{role}{size}x{size}")
        return layer(y)

    x = convolution(x, filters, 1, "squeeze")
    return keras.layers.Concatenate()([convolution(x, 4 * filters, size, "expand") for size in (1, 3)])
