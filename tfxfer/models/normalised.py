"""Convolutions that a batch normalisation follows, as TensorFlow pads them or as PyTorch does, and a classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow.compat.v1 as tf

from tfxfer.graph import layers


@dataclasses.dataclass(frozen=True)
class Convolutions:
    """How the convolutions of a network are made; none has a bias.

    Attributes:
      activation: what follows a batch normalisation, of the kind of `tf.nn.relu`.
      symmetric: whether rows and columns of zeros are put on all four sides alike, as PyTorch does; otherwise they lie
        as TensorFlow's "SAME" has them: where the stride is above 1, mostly below and to the right alone.
      epsilon, momentum: of the batch normalisations.
    """

    activation: Callable[..., tf.Tensor]
    symmetric: bool
    epsilon: float
    momentum: float

    def conv2d(
        self, x: tf.Tensor, filters: int, size: int, name: str, *, strides: int = 1, activated: bool = True
    ) -> tf.Tensor:
        """Convolve [n, h, w, c] to [n, h / strides, w / strides, filters] (rounded up) and normalise.

        Args:
          x: float32.
          filters: the number of output channels.
          size: the side of the kernel; odd.
          name: of the layer; its batch normalisation is `<name>_bn`.
          strides: of rows and columns.
          activated: whether the activation follows.
        """
        x, padding = self._pad(x, size, strides, name)
        x = layers.conv2d(x, filters, size, name, strides=strides, padding=padding, activation=None, use_bias=False)
        return self._normalise(x, name, activated)

    def depthwise_conv2d(self, x: tf.Tensor, size: int, name: str, *, strides: int = 1) -> tf.Tensor:
        """Convolve each channel alone, normalise and activate; otherwise as `conv2d`."""
        x, padding = self._pad(x, size, strides, name)
        x = layers.depthwise_conv2d(x, size, name, strides=strides, padding=padding, activation=None, use_bias=False)
        return self._normalise(x, name, activated=True)

    def _pad(self, x: tf.Tensor, size: int, strides: int, name: str) -> tuple[tf.Tensor, str]:
        side = size // 2
        if not self.symmetric or strides == 1 or not side:  # At a stride of 1 "SAME" is symmetric.
            return x, "SAME"
        return tf.pad(x, [[0, 0], [side, side], [side, side], [0, 0]], name=f"{name}_pad"), "VALID"

    def _normalise(self, x: tf.Tensor, name: str, activated: bool) -> tf.Tensor:
        x = layers.batch_norm(x, f"{name}_bn", epsilon=self.epsilon, momentum=self.momentum)
        return self.activation(x, name=f"{name}_relu") if activated else x


def classify(ends: dict[str, tf.Tensor], last: str | None, classes: int, dropout: float) -> None:
    """Put `pool`, `fc` and `prob` behind the last of some endpoints, up to `last`.

    Args:
      ends: the endpoints, which get these: `pool`, the average over positions [n, channels]; `fc` [n, classes], the
        logits; and `prob`, their softmax.
      last: the last endpoint that is wanted; None for all.
      classes: how many outputs there are.
      dropout: the share of `pool` that training drops.
    """
    if last in ends:
        return
    x = ends["pool"] = tf.reduce_mean(list(ends.values())[-1], axis=[1, 2], name="pool")
    if last != "pool":
        x = layers.dropout(x, dropout, "dropout") if dropout else x
        ends["fc"] = layers.dense(x, classes, "fc", activation=None)
        ends["prob"] = tf.nn.softmax(ends["fc"], name="prob")
