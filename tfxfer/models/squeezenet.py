"""SqueezeNet (Iandola et al., 2016, https://arxiv.org/abs/1602.07360), and the files of its weights.

A whole ImageNet network of 1.2 million parameters. Layers are named as in the authors' Caffe models: `conv1`,
`fire2/squeeze1x1`, `fire2/expand1x1`, `fire2/expand3x3`, ..., `conv10`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from tfxfer.contract import Contract
from tfxfer.errors import DataError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess
from tfxfer.models.sources import Shape, Source, check_last, torch_contract
from tfxfer.names import Rules

# Table 1 of the paper: the filters of the squeezing convolution in each fire module. Either of those that expand has
# four times as many.
SQUEEZE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
# Version: filters and kernel size of conv1, and after which layers a pooling follows. Version 1.0 is that of the paper,
# 1.1 (https://github.com/forresti/SqueezeNet, SqueezeNet_v1.1) computes 2.4 times less.
VERSIONS = {"squeezenet1_0": (96, 7, (1, 4, 8)), "squeezenet1_1": (64, 3, (1, 3, 5))}
# train_val.prototxt there: crop_size, and mean_value of B, G, R.
SIDE, MEAN = 227, (104, 117, 123)


def squeezenet1_0(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    contract: Contract | None = None,
) -> dict[str, tf.Tensor]:
    """Build version 1.0.

    A pooling takes in the last row or column where it does not fill a window, as in Caffe and torchvision; from 227x227
    pixels there is none such.

    Args:
      images: uint8 RGB [n, h, w, 3]; the weights that circulate were trained on 227x227.
      classes: how many outputs there are.
      top: whether to build what follows `fire9`.
      last: the last endpoint to be built, if not all are wanted; what follows it has no variables either.
      dropout: the share of `fire9` that training drops, in [0, 1); the paper's is 0.5.
      contract: what the weights expect of their input, as the `Source` has it that `sources.recognise` finds; unless
        given, that of the authors' weights.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3], `conv1`, `pool1`, `fire2`, `fire3`, `fire4`, `pool4`, `fire5`, `fire6`,
      `fire7`, `fire8`, `pool8`, `fire9` [n, 13, 13, 512] and, with `top`, `conv10` [n, 13, 13, classes], `pool10` (the
      average of it, [n, classes]: the logits) and `prob`.

    Raises:
      DataError: images are smaller than 21x21 (17x17 for version 1.1), not uint8 or not RGB.
    """
    return _build("squeezenet1_0", images, classes, top, last, dropout, contract)


def squeezenet1_1(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    contract: Contract | None = None,
) -> dict[str, tf.Tensor]:
    """Build version 1.1, whose poolings are `pool1`, `pool3` and `pool5`. See `squeezenet1_0`."""
    return _build("squeezenet1_1", images, classes, top, last, dropout, contract)


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


def _build(
    model: str, images: tf.Tensor, classes: int, top: bool, last: str | None, dropout: float, contract: Contract | None
) -> dict[str, tf.Tensor]:
    filters, size, pooled = VERSIONS[model]
    _check_size(model, images, size + 14)
    with tf.name_scope(model.upper()):
        x = preprocess(images, contract or _bgr(model, "the authors' weights, BGR"))
        ends = {"input": x}
        x = ends["conv1"] = layers.conv2d(x, filters, size, "conv1", stride=2, padding="VALID")
        for number in range(1, 10):
            if number in SQUEEZE and last not in ends:
                x = ends[f"fire{number}"] = _fire(x, SQUEEZE[number], f"fire{number}")
            if number in pooled and last not in ends:
                x = ends[f"pool{number}"] = _pool(x, f"pool{number}")
        if top and last not in ends:
            x = layers.dropout(x, dropout, "dropout9") if dropout else x
            x = ends["conv10"] = layers.conv2d(x, classes, 1, "conv10")
            x = ends["pool10"] = tf.reduce_mean(x, axis=[1, 2], name="pool10")
            ends["prob"] = tf.nn.softmax(x, name="prob")
    check_last(model, last, list(ends))
    return ends


def _fire(x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
    with tf.variable_scope(name):
        x = layers.conv2d(x, filters, 1, "squeeze1x1")
        expanded = [layers.conv2d(x, 4 * filters, size, f"expand{size}x{size}") for size in (1, 3)]
        return tf.concat(expanded, axis=-1, name="concat")


def _pool(x: tf.Tensor, name: str) -> tf.Tensor:
    return tf.nn.max_pool2d(x, 3, 2, [[0, 0], [0, 1], [0, 1], [0, 0]], name=name)


def _check_size(model: str, images: tf.Tensor, smallest: int) -> None:
    sides = images.shape.as_list()[1:3] if images.shape.rank == 4 else []
    if any(side is not None and side < smallest for side in sides):
        raise DataError(f"images are {'x'.join(map(str, sides))}; {model} needs at least {smallest}x{smallest}")


def _bgr(model: str, source: str) -> Contract:
    return Contract(model, source, (SIDE, SIDE), "BGR", MEAN, (1, 1, 1))


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
    for form, words, contract, renames, layout in (
        ("npz", "fire2/conv1x1_1/weights, conv_final/weights", _bgr, _NPZ, ()),
        # https://github.com/ethereon/caffe-tensorflow writes `_` for `/` in the names of layers.
        ("caffe", "caffe-tensorflow's .npy, a dict of dicts", _bgr, _CAFFE, ()),
        # https://github.com/rcmalli/keras-squeezenet and https://github.com/DeepCognition/keras-squeezenet, from Caffe.
        ("keras", "Keras, TensorFlow's kernels", _bgr, _KERAS, ()),
        # https://github.com/pytorch/vision, torchvision/models/squeezenet.py.
        ("torchvision", "torchvision", torch_contract, _in_torch(model), _TORCH),
    ):
        name = f"{model}_{form}"
        yield Source(name, words, contract(model, name), variables(model), renames, layout)


# Every form that is known, by version. `recognise(weights, SOURCES)` finds that of a file.
SOURCES: tuple[Source, ...] = tuple(source for model in VERSIONS for source in _sources(model))
