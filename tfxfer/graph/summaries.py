"""The summary ops of a training step; tags are plain (`loss`, `gradient_norm/fc1`), whatever scope the ops lie in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.graph.parts import name_of

SCOPE = "SUMMARY/"


def training(
    metrics: Mapping[str, tf.Tensor],
    rates: Mapping[str, tf.Tensor],
    gradients: Iterable[tuple[Any, tf.Variable]] = (),
) -> tf.Tensor:
    """Return serialized scalars of a batch.

    Args:
      metrics: per example, float32 [batch]; the mean is what is shown.
      rates: learning rates, float32 scalars, by tag.
      gradients: with the variables they are of; shown are the norms of both by layer, as `gradient_norm/fc1` and
        `weight_norm/fc1`.
    """
    with tf.name_scope(SCOPE):
        scalars = {name: tf.reduce_mean(values) for name, values in metrics.items()} | dict(rates) | _norms(gradients)
        ops = [tf.raw_ops.ScalarSummary(tags=tag, values=tf.cast(value, tf.float32)) for tag, value in scalars.items()]
        return tf.raw_ops.MergeSummary(inputs=ops)


def _norms(gradients: Iterable[tuple[Any, tf.Variable]]) -> dict[str, tf.Tensor]:
    layers: dict[str, list[tuple[Any, tf.Variable]]] = {}
    for gradient, variable in gradients:
        name = name_of(variable)
        layers.setdefault(name.rpartition("/")[0] or name, []).append((gradient, variable))
    # tf.global_norm takes the gradient of an embedding, which has values for some rows alone, as well.
    of_gradients = {
        f"gradient_norm/{name}": tf.global_norm([one for one, _ in pairs]) for name, pairs in layers.items()
    }
    of_weights = {f"weight_norm/{name}": tf.global_norm([one for _, one in pairs]) for name, pairs in layers.items()}
    return of_gradients | of_weights


def images(batch: tf.Tensor, count: int = 4) -> tf.Tensor:
    """Return a serialized `input_image` with the first images of a batch, uint8 or float32 [n, h, w, 1, 3 or 4]."""
    with tf.name_scope(SCOPE):
        return tf.raw_ops.ImageSummary(tag="input_image", tensor=batch, max_images=count)
