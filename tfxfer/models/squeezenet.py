"""SqueezeNet (Iandola et al., 2016, https://arxiv.org/abs/1602.07360), and the files of its weights.

A whole ImageNet network of 1.2 million parameters. Layers are named as in the authors' Caffe models: `conv1`,
`fire2/squeeze1x1`, `fire2/expand1x1`, `fire2/expand3x3`, ..., `conv10`.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from tfxfer.contract import Contract
from tfxfer.errors import DataError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess

# The filters of a fire module's squeezing 1x1 convolution, fire2 to fire9; each of the two that expand has four times as
# many (table 1 of the paper).
SQUEEZE = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
# Version: filters and kernel size of conv1, and after which layers a pooling follows. Version 1.0 is that of the paper,
# 1.1 (https://github.com/forresti/SqueezeNet, SqueezeNet_v1.1) computes 2.4 times less.
VERSIONS = {"squeezenet1_0": (96, 7, (1, 4, 8)), "squeezenet1_1": (64, 3, (1, 3, 5))}
# train_val.prototxt of both versions: mean_value 104, 117, 123, crop_size 227.
BGR = {
    name: Contract(name, "the authors' weights, BGR", (227, 227), "BGR", (104, 117, 123), (1, 1, 1)) for name in VERSIONS
}


def squeezenet1_0(
    images: tf.Tensor, *, classes: int = 1000, top: bool = True, dropout: float = 0.5, contract: Contract | None = None
) -> dict[str, tf.Tensor]:
    """Build version 1.0.

    Poolings take in a last row or column that does not fill a window, as Caffe's and torchvision's do; at 227x227 there is none.

    Args:
      images: uint8 RGB [n, h, w, 3]; the weights that circulate were trained on 227x227.
      classes: how many outputs there are.
      top: whether to build what follows `fire9`.
      dropout: the share of `fire9` that training drops, in [0, 1); the paper's is 0.5.
      contract: what the weights expect of their input, as the `Source` has it that `sources.recognise` finds; unless
        given, that of the authors' weights.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3], `conv1`, `pool1`, `fire2`, `fire3`, `fire4`, `pool4`, `fire5`, ..., `fire8`,
      `pool8`, `fire9` [n, 13, 13, 512] and, with `top`, `conv10` [n, 13, 13, classes], `pool10` (its average [n, classes]:
      the logits) and `prob`.

    Raises:
      DataError: images are too small, not uint8 or not RGB.
    """
    return _build("squeezenet1_0", images, classes, top, dropout, contract)


def squeezenet1_1(
    images: tf.Tensor, *, classes: int = 1000, top: bool = True, dropout: float = 0.5, contract: Contract | None = None
) -> dict[str, tf.Tensor]:
    """Build version 1.1, whose poolings are `pool1`, `pool3` and `pool5`. See `squeezenet1_0`."""
    return _build("squeezenet1_1", images, classes, top, dropout, contract)


def _build(
    name: str, images: tf.Tensor, classes: int, top: bool, dropout: float, contract: Contract | None
) -> dict[str, tf.Tensor]:
    filters, size, pooled = VERSIONS[name]
    with tf.name_scope(name.upper()):
        x = preprocess(images, contract or BGR[name])
        ends = {"input": x}
        x = ends["conv1"] = layers.conv2d(x, filters, size, "conv1", stride=2, padding="VALID")
        for number in range(1, 10):
            if number in SQUEEZE:
                x = ends[f"fire{number}"] = _fire(x, SQUEEZE[number], f"fire{number}")
            if number in pooled:
                x = ends[f"pool{number}"] = _pool(x, f"pool{number}")
        if top:
            x = layers.dropout(x, dropout, "dropout9") if dropout else x
            x = ends["conv10"] = layers.conv2d(x, classes, 1, "conv10")
            x = ends["pool10"] = tf.reduce_mean(x, axis=[1, 2], name="pool10")
            ends["prob"] = tf.nn.softmax(x, name="prob")
    return ends


def _fire(x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
    with tf.variable_scope(name):
        x = layers.conv2d(x, filters, 1, "squeeze1x1")
        expanded = [layers.conv2d(x, 4 * filters, size, f"expand{size}x{size}") for size in (1, 3)]
        return tf.concat(expanded, axis=-1, name="concat")


def _pool(x: tf.Tensor, name: str) -> tf.Tensor:
    return tf.nn.max_pool2d(x, 3, 2, [[0, 0], [0, 1], [0, 1], [0, 0]], name=name)
