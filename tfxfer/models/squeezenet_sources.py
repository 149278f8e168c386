"""Under which names, in which layout and with which input spec the weights of SqueezeNet circulate.

No TensorFlow is loaded: tools that only read files recognise them by this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tfxfer.input_spec import InputSpec
from tfxfer.models.sources import Shape, Source, torch_input_spec
from tfxfer.names import Rules

# Table 1 of the paper: the filters of the squeezing convolution in each fire module. Either of those that expand has
# four times as many.
SQUEEZE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
# Version: filters and kernel size of conv1, and after which layers a pooling follows. Version 1.0 is that of the paper,
# 1.1 (https://github.com/forresti/SqueezeNet, SqueezeNet_v1.1) computes 2.4 times less.
VERSIONS = {"squeezenet1_0": (96, 7, (1, 4, 8)), "squeezenet1_1": (64, 3, (1, 3, 5))}
# train_val.prototxt there: crop_size, and mean_value of B, G, R.
SIDE, MEAN = 227, (104, 117, 123)


def variables(model: str) -> dict[str, Shape]:
    """Return the shape of every variable of `squeezenet1_0` or `squeezenet1_1`, for any number of classes."""
    channels, size, _ = VERSIONS[model]
    shapes: dict[str, Shape] = {"conv1/kernel": (size, size, 3, channels), "conv1/bias": (channels,)}
    for number, filters in SQUEEZE.items():
        for layer, side, incoming, outgoing in (
            ("squeeze1x1", 1, channels, filters),
            ("expand1x1", 1, filters, 4 * filters),
            ("expand3x3", 3, filters, 4 * filters),
        ):
            name = f"fire{number}/{layer}"
            shapes |= {f"{name}/kernel": (side, side, incoming, outgoing), f"{name}/bias": (outgoing,)}
        channels = 8 * filters
    return shapes | {"conv10/kernel": (1, 1, channels, None), "conv10/bias": (None,)}


def layers(model: str) -> dict[str, int]:
    """Return what follows conv1, in order: a fire module and the filters that it squeezes to, or a pooling and 0."""
    filters = {}
    for number in range(1, 10):
        if number in SQUEEZE:
            filters[f"fire{number}"] = SQUEEZE[number]
        if number in VERSIONS[model][2]:
            filters[f"pool{number}"] = 0
    return filters


def bgr(model: str, source: str) -> InputSpec:
    """Return the input spec of the authors' weights."""
    return InputSpec(model, source, (SIDE, SIDE), "BGR", MEAN, (1, 1, 1))


# How files call our layers and their variables.
_FIRE = "squeeze1x1|expand1x1|expand3x3"
_NPZ: Rules = tuple(
    (f"{theirs}/{variable}", f"{ours}/{name}")
    for theirs, ours in (
        ("conv1", "conv1"),
        (r"(fire\d)/conv1x1_1", r"\1/squeeze1x1"),
        (r"(fire\d)/conv1x1_2", r"\1/expand1x1"),
        (r"(fire\d)/conv3x3_2", r"\1/expand3x3"),
        ("conv_final", "conv10"),
    )
    for variable, name in (("weights", "kernel"), ("biases", "bias"))
)
_CAFFE: Rules = tuple(
    (f"{theirs}/{variable}", f"{ours}/{name}")
    for theirs, ours in ((r"(conv1|conv10)", r"\1"), (rf"(fire\d)[/_]({_FIRE})", r"\1/\2"))
    for variable, name in (("weights", "kernel"), ("biases", "bias"))
)
# Keras 1 called kernels `conv1_W` or, in files that live on, `uniform1`, `uniform2`, ...
_KERAS: Rules = tuple(
    (rf"(?:.*/)?(conv1|conv10|fire\d/(?:{_FIRE})){variable}", rf"\1/{name}")
    for variable, name in ((r"(?:/kernel|_W|/uniform\d+)", "kernel"), ("(?:/bias|_b)", "bias"))
)
_TORCH = ((".*/kernel", "oihw_conv"),)
_THEANO = ((".*/kernel", "theano_conv"),)


def _in_torch(model: str) -> Rules:
    # Of the sequence, conv1 with its ReLU takes two places, and a fire module or a pooling one.
    pooled, place, theirs = VERSIONS[model][2], 3, {"conv1": "features.0", "conv10": "classifier.1"}
    for number in SQUEEZE:
        for ours, layer in (("squeeze1x1", "squeeze"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3")):
            theirs[f"fire{number}/{ours}"] = f"features.{place}.{layer}"
        place += 2 if number in pooled else 1
    ends = ((".weight", "kernel"), (".bias", "bias"))
    return tuple((re.escape(name + end), f"{layer}/{ours}") for layer, name in theirs.items() for end, ours in ends)


def _sources(model: str) -> Iterator[Source]:
    for form, words, input_spec, renames, layout in (
        ("npz", "fire2/conv1x1_1/weights, conv_final/weights", bgr, _NPZ, ()),
        # https://github.com/ethereon/caffe-tensorflow writes `_` for `/` in the names of layers.
        ("caffe", "caffe-tensorflow's .npy, a dict of dicts", bgr, _CAFFE, ()),
        # https://github.com/rcmalli/keras-squeezenet and https://github.com/DeepCognition/keras-squeezenet, from Caffe.
        ("keras", "Keras, TensorFlow's kernels", bgr, _KERAS, ()),
        ("keras_th", "Keras, Theano's kernels", bgr, _KERAS, _THEANO),
        # https://github.com/pytorch/vision, torchvision/models/squeezenet.py.
        ("torchvision", "torchvision", torch_input_spec, _in_torch(model), _TORCH),
    ):
        name = f"{model}_{form}"
        yield Source(name, words, input_spec(model, name), variables(model), renames, layout)


# Every form that is known, by version. `recognise(weights, SOURCES)` finds that of a file.
SOURCES: tuple[Source, ...] = tuple(source for model in VERSIONS for source in _sources(model))
