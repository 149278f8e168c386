"""CNN-F, the fast network of "Return of the Devil in the Details" (Chatfield et al., 2014, arXiv:1405.3531).

Layers are named as in the authors' Caffe model: `conv1` to `conv5`, `norm1`, `norm2`, `pool1`, `pool2`, `pool5`, `fc6`,
`fc7`, `fc8`. The files of its weights are in `vgg_f_sources`.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from tfxfer.errors import DataError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.models.sources import check_last
from tfxfer.models.vgg import classify
from tfxfer.models.vgg_f_sources import CONVOLUTIONS, LAYERS, MODEL, SOURCES, variables
from tfxfer.models.vgg_sources import AUTHORS, TOP, rgb

__all__ = ["SOURCES", "variables", "vgg_f"]

SMALLEST = 39


def vgg_f(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build CNN-F: 5 convolutions and 3 fully connected layers.

    A pooling takes in the last row or column where it does not fill a window, as in Caffe.

    Args:
      images: uint8 RGB [n, h, w, 3], h and w at least 39. Of what size they are decides the size of `fc6/kernel`: the
        weights that circulate have it for 224x224. Without `top` any size will do, also an unknown one.
      classes: how many outputs `fc8` has.
      top: whether to build the fully connected layers.
      last: the last endpoint to be built, if not all are wanted; what follows it has no variables either.
      dropout: the share of fc6 and of fc7 that training drops, in [0, 1); the paper's is 0.5.
      input_spec: what the weights expect of their input, as `tfxfer.recognise` finds it. Default: RGB minus the mean of
        ImageNet.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3], `conv1` [n, 54, 54, 64] for 224x224, `norm1`, `pool1`, `conv2`, `norm2`,
      `pool2`, `conv3`, `conv4`, `conv5`, `pool5` [n, 6, 6, 256] and, with `top`, `flatten`, `fc6`, `fc7`, `fc8`
      (logits) and `prob`. All but `fc8` are after the activation and before dropout.

    Raises:
      DataError: images are too small, not uint8, not RGB.
      GraphError: the network has no endpoint `last`, or with `top` the size of the images is unknown.
    """
    _check_size(images)
    check_last(MODEL, last, ["input", *LAYERS, *(TOP if top else ())])
    with tf.name_scope(MODEL.upper()):
        x = preprocess(images, input_spec or rgb(MODEL, AUTHORS))
        ends = {"input": x}
        for layer in LAYERS:
            if last not in ends:
                x = ends[layer] = _layer(x, layer)
        if top and last not in ends:
            classify(x, ends, classes, dropout, last)
    return ends


def _layer(x: tf.Tensor, name: str) -> tf.Tensor:
    if name.startswith("norm"):
        # Over 5 channels. MatConvNet and TensorFlow multiply their sum by alpha; Caffe divides by 5 and has 0.0005.
        return tf.nn.local_response_normalization(x, 2, 2.0, 1e-4, 0.75, name=name)
    if name.startswith("pool"):
        return tf.nn.max_pool2d(x, 3, 2, [[0, 0], [0, 1], [0, 1], [0, 0]], name=name)
    size, filters = CONVOLUTIONS[name]
    strides, padding = (4, "VALID") if name == "conv1" else (1, "SAME")
    return layers.conv2d(x, filters, size, name, strides=strides, padding=padding)


def _check_size(images: tf.Tensor) -> None:
    sides = images.shape.as_list()[1:3] if images.shape.rank == 4 else []
    if any(side is not None and side < SMALLEST for side in sides):
        raise DataError(f"images are {'x'.join(map(str, sides))}; {MODEL} needs at least {SMALLEST}x{SMALLEST}")
