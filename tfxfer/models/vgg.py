"""The VGG networks (Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556).

Layers are named as in the authors' Caffe models: `conv1_1` to `conv5_4`, `pool1` to `pool5`, `fc6`, `fc7`, `fc8`.
Torchvision's networks with batch normalisation have it behind each convolution, as `conv1_1_bn`. The files of their
weights are in `vgg_sources`.
"""

from __future__ import annotations

import functools

import tensorflow.compat.v1 as tf

from tfxfer.errors import DataError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import check_weights_by, preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.models.family import member
from tfxfer.models.recognition import objection
from tfxfer.models.sources import check_last
from tfxfer.models.vgg_sources import (
    PROBE,
    RENAMES,
    SOURCES,
    TOP,
    UNITS,
    WIDTHS,
    convolutions,
    is_normalised,
    usual,
    variables,
)

__all__ = [
    "RENAMES",
    "SOURCES",
    "variables",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg16c",
    "vgg19",
    "vgg19_bn",
]

SMALLEST = 2 ** len(WIDTHS)


def _build(
    model: str,
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build a network of the family.

    Args:
      images: uint8 RGB [n, h, w, 3], h and w at least 32. Of what size they are decides the size of `fc6/kernel`: the
        weights that circulate have it for 224x224. Without `top` any size will do, also an unknown one.
      classes: how many outputs `fc8` has.
      top: whether to build the fully connected layers.
      last: the last endpoint to be built, if not all are wanted; what follows it has no variables either.
      dropout: the share of fc6 and of fc7 that training drops, in [0, 1); the paper's is 0.5.
      input_spec: what the weights expect of their input, as `tfxfer.recognise` finds it. Default: RGB minus the mean of
        ImageNet; with batch normalisation, torchvision's.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3], `conv1_1` ... `pool5` [n, h/32, w/32, 512] (rounded down) and, with
      `top`, `flatten`, `fc6`, `fc7`, `fc8` (logits) and `prob`. All but `fc8` are after the activation (and before it,
      the batch normalisation) and before dropout.

    Raises:
      DataError: images are too small, not uint8, not RGB, or with `top` of unknown size.
      GraphError: the network has no endpoint `last`.
    """
    names_of_all = [*(layer for layer, _, _ in convolutions(model)), *(TOP if top else ())]
    check_last(model, last, names_of_all)
    top = top and (last is None or last in TOP)
    _check_size(model, images, top)
    input_spec = input_spec or usual(model)
    check_weights_by(functools.partial(objection, input_spec, PROBE))
    with tf.name_scope(model.upper()):
        x = preprocess(images, input_spec)
        ends = {"input": x}
        for layer, size, width in convolutions(model):
            x = _convolve(model, x, width, size, layer) if size else layers.max_pool2d(x, 2, layer)
            ends[layer] = x
            if layer == last:
                break
        if top:
            classify(x, ends, classes, dropout, last)
    return ends


def _convolve(model: str, x: tf.Tensor, filters: int, size: int, layer: str) -> tf.Tensor:
    if not is_normalised(model):
        return layers.conv2d(x, filters, size, layer)
    x = layers.conv2d(x, filters, size, layer, activation=None)
    # torchvision/models/vgg.py has the defaults of torch.nn.BatchNorm2d, whose momentum is the share of the new value.
    x = layers.batch_norm(x, f"{layer}_bn", momentum=0.9, epsilon=1e-5)
    return tf.nn.relu(x, name=f"{layer}_relu")


def classify(x: tf.Tensor, ends: dict[str, tf.Tensor], classes: int, dropout: float, last: str | None) -> None:
    """Build the fully connected layers on what the convolutions give, up to `last`, and add them to the endpoints."""
    x = ends["flatten"] = layers.flatten(x)
    for number in (6, 7):
        if last in ends:
            return
        x = ends[f"fc{number}"] = layers.dense(x, UNITS, f"fc{number}")
        if dropout and last != f"fc{number}":
            x = layers.dropout(x, dropout, f"dropout{number}")
    if last not in ends:
        ends["fc8"] = layers.dense(x, classes, "fc8", activation=None)
        ends["prob"] = tf.nn.softmax(ends["fc8"], name="prob")


def _check_size(model: str, images: tf.Tensor, top: bool) -> None:
    sides = images.shape.as_list()[1:3] if images.shape.rank == 4 else []
    if any(side is not None and side < SMALLEST for side in sides):
        raise DataError(
            f"images are {'x'.join(map(str, sides))}; {model} halves them five times and needs {SMALLEST}x{SMALLEST}"
        )
    if top and None in sides:
        raise DataError(
            f"images have the shape {images.shape}; the fully connected layers of {model} are made for one height and "
            "width: give the placeholder its size, or leave these layers out with top=False"
        )


vgg11 = member(_build, "vgg11", "Build configuration A: 8 convolutions and 3 fully connected layers.")
vgg13 = member(_build, "vgg13", "Build configuration B: 10 convolutions and 3 fully connected layers.")
vgg16 = member(
    _build,
    "vgg16",
    "Build configuration D, known as VGG16: 13 convolutions and 3 fully connected layers.",
)
vgg16c = member(_build, "vgg16c", "Build configuration C: as D, but conv3_3, conv4_3 and conv5_3 are 1x1.")
vgg19 = member(_build, "vgg19", "Build configuration E: 16 convolutions and 3 fully connected layers.")
vgg11_bn = member(_build, "vgg11_bn", "Build vgg11 with batch normalisation behind each convolution.")
vgg13_bn = member(_build, "vgg13_bn", "Build vgg13 with batch normalisation behind each convolution.")
vgg16_bn = member(_build, "vgg16_bn", "Build vgg16 with batch normalisation behind each convolution.")
vgg19_bn = member(_build, "vgg19_bn", "Build vgg19 with batch normalisation behind each convolution.")
