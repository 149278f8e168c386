"""Summary ops for TensorBoard. Tags are plain (`loss`, `fc1/kernel`), whatever name scope the ops lie in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow.compat.v1 as tf


def training(metrics: Mapping[str, tf.Tensor], learning_rate: tf.Tensor, trained: Sequence[tf.Variable]) -> tf.Tensor:
    """Return serialized scalars of a batch and of the learning rate, and histograms of the trained variables.

    Args:
      metrics: per example, float32 [batch]; the mean is what is shown.
      learning_rate: float32 scalar.
      trained: the variables to show the finite values of; their names are the tags.
    """
    scalars = {name: tf.reduce_mean(values) for name, values in metrics.items()} | {"learning_rate": learning_rate}
    ops = [tf.raw_ops.ScalarSummary(tags=tag, values=value) for tag, value in scalars.items()]
    ops += [tf.raw_ops.HistogramSummary(tag=variable.op.name, values=_finite(variable)) for variable in trained]
    return tf.raw_ops.MergeSummary(inputs=ops)


def _finite(values: tf.Tensor) -> tf.Tensor:
    # The op refuses NaN and infinity, naming no variable, before the training that diverged can say so itself.
    flat = tf.reshape(values, [-1])
    return tf.boolean_mask(flat, tf.math.is_finite(flat))


def images(batch: tf.Tensor, count: int = 4) -> tf.Tensor:
    """Return a serialized `input_image` with the first images of a batch, uint8 or float32 [n, h, w, 1, 3 or 4]."""
    return tf.raw_ops.ImageSummary(tag="input_image", tensor=batch, max_images=count)
