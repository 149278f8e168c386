"""The VGG networks (Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556), and the files of their weights.

Layers are named as in the authors' Caffe models: `conv1_1` to `conv5_4`, `pool1` to `pool5`, `fc6`, `fc7`, `fc8`.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from tfxfer.contract import Contract
from tfxfer.errors import DataError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess

# Table 1 of the paper: the sizes of the kernels in each block. A block has one width, and ends in 2x2 max pooling.
FAMILY: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # A
    "vgg13": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),  # B
    "vgg16c": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),  # C
    "vgg16": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),  # D
    "vgg19": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),  # E
}
WIDTHS = (64, 128, 256, 512, 512)
UNITS = 4096
SMALLEST = 2 ** len(WIDTHS)
# What the authors subtracted, R, G, B: https://gist.github.com/ksimonyan/211839e770f7b538e2d8
MEAN = (123.68, 116.779, 103.939)


def _rgb(name, source):
    return Contract(name, source, (224, 224), "RGB", MEAN, (1, 1, 1))


def vgg11(
    images: tf.Tensor, *, classes: int = 1000, top: bool = True, dropout: float = 0.5, contract: Contract | None = None
) -> dict[str, tf.Tensor]:
    """Build configuration A: 8 convolutions. See `vgg16`."""
    return _build("vgg11", images, classes, top, dropout, contract)


def vgg13(
    images: tf.Tensor, *, classes: int = 1000, top: bool = True, dropout: float = 0.5, contract: Contract | None = None
) -> dict[str, tf.Tensor]:
    """Build configuration B: 10 convolutions. See `vgg16`."""
    return _build("vgg13", images, classes, top, dropout, contract)


def vgg16c(
    images: tf.Tensor, *, classes: int = 1000, top: bool = True, dropout: float = 0.5, contract: Contract | None = None
) -> dict[str, tf.Tensor]:
    """Build configuration C: 13 convolutions, of which conv3_3, conv4_3 and conv5_3 are 1x1. See `vgg16`."""
    return _build("vgg16c", images, classes, top, dropout, contract)


def vgg16(
    images: tf.Tensor, *, classes: int = 1000, top: bool = True, dropout: float = 0.5, contract: Contract | None = None
) -> dict[str, tf.Tensor]:
    """Build configuration D, the one that is called VGG16: 13 convolutions and 3 fully connected layers.

    Args:
      images: uint8 RGB [n, h, w, 3], h and w at least 32. Of what size they are decides the size of `fc6/kernel`: the
        weights that circulate have it for 224x224. Without `top` any size will do, also an unknown one.
      classes: how many outputs `fc8` has.
      top: whether to build the fully connected layers.
      dropout: the share of fc6 and of fc7 that training drops, in [0, 1); the paper's is 0.5.
      contract: what the weights expect of their input, as the `Source` has it that `sources.recognise` finds; unless
        given, RGB minus the mean of ImageNet.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3], `conv1_1` ... `pool5` [n, h/32, w/32, 512] (rounded down) and, with `top`,
      `flatten`, `fc6`, `fc7`, `fc8` (logits) and `prob`. All but `fc8` are after the activation; dropout comes after.

    Raises:
      DataError: images are too small, not uint8, not RGB, or with `top` of unknown size.
    """
    return _build("vgg16", images, classes, top, dropout, contract)


def vgg19(
    images: tf.Tensor, *, classes: int = 1000, top: bool = True, dropout: float = 0.5, contract: Contract | None = None
) -> dict[str, tf.Tensor]:
    """Build configuration E: 16 convolutions. See `vgg16`."""
    return _build("vgg19", images, classes, top, dropout, contract)


def _build(
    name: str, images: tf.Tensor, classes: int, top: bool, dropout: float, contract: Contract | None
) -> dict[str, tf.Tensor]:
    _check_size(name, images, top)
    with tf.name_scope(name.upper()):
        ends = {"input": preprocess(images, contract or _rgb(name, "the authors' weights, RGB"))}
        x = _convolve(name, ends)
        if top:
            _classify(x, ends, classes, dropout)
    return ends


def _convolve(name: str, ends: dict[str, tf.Tensor]) -> tf.Tensor:
    x = ends["input"]
    for block, (sizes, width) in enumerate(zip(FAMILY[name], WIDTHS, strict=True), 1):
        for number, size in enumerate(sizes, 1):
            layer = f"conv{block}_{number}"
            x = ends[layer] = layers.conv2d(x, width, size, layer)
        x = ends[f"pool{block}"] = layers.max_pool2d(x, 2, f"pool{block}")
    return x


def _classify(x: tf.Tensor, ends: dict[str, tf.Tensor], classes: int, dropout: float) -> None:
    x = ends["flatten"] = layers.flatten(x)
    for number in (6, 7):
        x = ends[f"fc{number}"] = layers.dense(x, UNITS, f"fc{number}")
        if dropout:
            x = layers.dropout(x, dropout, f"dropout{number}")
    ends["fc8"] = layers.dense(x, classes, "fc8", activation=None)
    ends["prob"] = tf.nn.softmax(ends["fc8"], name="prob")


def _check_size(name: str, images: tf.Tensor, top: bool) -> None:
    sides = images.shape.as_list()[1:3] if images.shape.rank == 4 else []
    if any(side is not None and side < SMALLEST for side in sides):
        raise DataError(f"images are {sides[0]}x{sides[1]}; {name} halves them five times and needs {SMALLEST}x{SMALLEST}")
    if top and None in sides:
        raise DataError(f"images have the shape {images.shape}; the fully connected layers of {name} need to know height "
                        "and width: give the placeholder its size, or leave them out with top=False")
