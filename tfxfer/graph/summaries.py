"""The summary ops of a training step; tags are plain (`loss`, `gradient_norm/fc1`), whatever scope the ops lie in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.graph import traversal
from tfxfer.graph.partitioned import name_of

SCOPE = "SUMMARY/"


def training_summary(
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
        f"gradient_norm/{name}": tf.global_norm([gradient for gradient, _ in pairs]) for name, pairs in layers.items()
    }
    of_weights = {
        f"weight_norm/{name}": tf.global_norm([variable for _, variable in pairs]) for name, pairs in layers.items()
    }
    return of_gradients | of_weights


def image_summary(batch: tf.Tensor, count: int = 4) -> tf.Tensor | None:
    """Return a serialized `input_image` with the first images of a batch, [n, h, w, 1, 3 or 4].

    Where the batch holds no pictures, as flat vectors or images of two channels, there is none.
    """
    shown = (tf.uint8, tf.float16, tf.float32, tf.float64)
    if batch.shape.rank != 4 or batch.shape.as_list()[-1] not in (1, 3, 4) or batch.dtype.base_dtype not in shown:
        return None
    with tf.name_scope(SCOPE):
        return tf.raw_ops.ImageSummary(tag="input_image", tensor=batch, max_images=count)


def runnable_summaries(summary: tf.Tensor, fed: Iterable[tf.Tensor]) -> tuple[list[tf.Tensor], list[str]]:
    """Return the summaries that the graph's builder made, by `tf.summary.scalar` and the like, and what is left out.

    Args:
      summary: what `training_summary` returned.
      fed: what is fed when they are run.

    Returns:
      Those in the graph's SUMMARIES that can be run, and for each other its name and why it cannot.
    """
    graph, fed = summary.graph, list(fed)
    tags = {_tag(tensor): "tfxfer" for tensor in summary.op.inputs}
    runnable, left_out = [], []
    for tensor in dict.fromkeys(graph.get_collection(tf.GraphKeys.SUMMARIES)):
        if not isinstance(tensor, tf.Tensor) or tensor.dtype != tf.string:
            continue
        lacking = [op.name for op in traversal.placeholders([tensor.op], fed) if op.type != "PlaceholderWithDefault"]
        tag = _tag(tensor)
        if lacking:
            left_out.append(f"{tensor.op.name} (needs {names.listed(lacking)})")
        elif tag is not None and tag in tags:
            left_out.append(f"{tensor.op.name} (its tag is that of {tags[tag]})")
        else:
            runnable.append(tensor)
            tags[tag] = tensor.op.name
    return runnable, left_out


def _tag(summary: tf.Tensor) -> bytes | None:
    """Return the tag of a summary op that has one, and has it as a constant."""
    value = tf.get_static_value(summary.op.inputs[0]) if summary.op.inputs else None
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def merge(summaries: Iterable[tf.Tensor]) -> tf.Tensor:
    """Return several serialized summaries, of different tags, as one."""
    with tf.name_scope(SCOPE):
        return tf.raw_ops.MergeSummary(inputs=list(summaries))
