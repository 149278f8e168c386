"""SqueezeNet (Iandola et al., 2016, https://arxiv.org/abs/1602.07360).

A whole ImageNet network of 1.2 million parameters. Layers are named as in the authors' Caffe models: `conv1`,
`fire2/squeeze1x1`, `fire2/expand1x1`, `fire2/expand3x3`, ..., `conv10`. The files of its weights
are in `squeezenet_sources`.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from tfxfer.errors import DataError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess
from tfxfer.input_spec import InputSpec
from tfxfer.models.family import member
from tfxfer.models.sources import check_last
from tfxfer.models.squeezenet_sources import SOURCES, VERSIONS, bgr, variables
from tfxfer.models.squeezenet_sources import layers as layers_of

__all__ = ["SOURCES", "squeezenet1_0", "squeezenet1_1", "variables"]


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
    """Build a version of the network.

    A pooling takes in the last row or column where it does not fill a window, as in Caffe and torchvision; from 227x227
    pixels there is none such.

    Args:
      images: uint8 RGB [n, h, w, 3]; the weights that circulate were trained on 227x227.
      classes: how many outputs there are.
      top: whether to build what follows `fire9`.
      last: the last endpoint to be built, if not all are wanted; what follows it has no variables either.
      dropout: the share of `fire9` that training drops, in [0, 1); the paper's is 0.5.
      input_spec: what the weights expect of their input, as `tfxfer.recognise` finds it. Default: that of the authors'
        weights.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3], `conv1`, `pool1`, `fire2`, `fire3`, `fire4`, `pool4`, `fire5`, `fire6`,
      `fire7`, `fire8`, `pool8`, `fire9` [n, 13, 13, 512] and, with `top`, `conv10` [n, 13, 13, classes], `pool10` (the
      average of it, [n, classes]: the logits) and `prob`.

    Raises:
      DataError: images are smaller than 21x21 (17x17 for version 1.1), not uint8 or not RGB.
    """
    filters, size, _ = VERSIONS[model]
    _check_size(model, images, size + 14)
    with tf.name_scope(model.upper()):
        x = preprocess(images, input_spec or bgr(model, "the authors' weights, BGR"))
        ends = {"input": x}
        x = ends["conv1"] = layers.conv2d(x, filters, size, "conv1", strides=2, padding="VALID")
        for layer, squeeze in layers_of(model).items():
            if last not in ends:
                x = ends[layer] = _fire(x, squeeze, layer) if squeeze else _pool(x, layer)
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


squeezenet1_0 = member(_build, "squeezenet1_0", "Build version 1.0.")
squeezenet1_1 = member(_build, "squeezenet1_1", "Build version 1.1, whose poolings are `pool1`, `pool3` and `pool5`.")
