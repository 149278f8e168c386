"""Layers: functions from tensor to tensor that make `<name>/kernel` and `<name>/bias`, as `tf.layers` named them.

Images are float32 [batch, height, width, channels]. A layer opens a variable scope of its name; name scopes around it
(`with tf.name_scope("ENCODER")`) group its ops in TensorBoard and do not enter the names of its variables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.graph.variables import global_step, glorot_uniform, model_variable, seed_for

Activation = Callable[[tf.Tensor], tf.Tensor]

DROPOUTS = "tfxfer_dropouts"
BATCH_NORMS = "tfxfer_batch_norms"


def conv2d(
    x: tf.Tensor,
    filters: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    padding: str = "SAME",
    activation: Activation | None = tf.nn.relu,
) -> tf.Tensor:
    """Convolve [n, h, w, c] to [n, h', w', filters] with `<name>/kernel` (size, size, c, filters)."""
    with tf.variable_scope(name):
        kernel = model_variable("kernel", [size, size, x.shape[-1], filters], glorot_uniform)
        return _finish(tf.nn.conv2d(x, kernel, strides=stride, padding=padding), activation)


def conv2d_transpose(
    x: tf.Tensor,
    filters: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    padding: str = "SAME",
    activation: Activation | None = tf.nn.relu,
) -> tf.Tensor:
    """Convolve backwards, [n, h, w, c] to [n, h * stride, w * stride, filters] under SAME padding.

    `<name>/kernel` is (size, size, filters, c), as in `tf.nn.conv2d_transpose`.
    """
    with tf.variable_scope(name):
        kernel = model_variable("kernel", [size, size, filters, x.shape[-1]], glorot_uniform)
        spare = 0 if padding == "SAME" else max(size - stride, 0)
        sizes = [side * stride + spare for side in x.shape[1:3]]
        shape = tf.stack([tf.shape(x)[0], *sizes, filters])
        y = tf.nn.conv2d_transpose(x, kernel, shape, strides=stride, padding=padding)
        y.set_shape([x.shape[0], *sizes, filters])
        return _finish(y, activation)


def max_pool2d(x: tf.Tensor, size: int, name: str, *, stride: int | None = None, padding: str = "VALID") -> tf.Tensor:
    """Take the largest of each size x size window; windows do not overlap unless `stride` says so."""
    return tf.nn.max_pool2d(x, size, stride or size, padding, name=name)


def dense(x: tf.Tensor, units: int, name: str, *, activation: Activation | None = tf.nn.relu) -> tf.Tensor:
    """Multiply [n, k] to [n, units] with `<name>/kernel` (k, units)."""
    with tf.variable_scope(name):
        kernel = model_variable("kernel", [x.shape[-1], units], glorot_uniform)
        return _finish(tf.matmul(x, kernel), activation)


def flatten(x: tf.Tensor, name: str = "flatten") -> tf.Tensor:
    """Reshape [n, ...] to [n, k]; an image's values stay in the order row, column, channel.

    Raises:
      GraphError: a dimension besides n is not known.
    """
    sizes = x.shape[1:].as_list()
    if None in sizes:
        raise GraphError(
            f"flatten {name!r}: all but the first dimension of {x.shape} must be known, for the layer that "
            "follows has a weight for each value; give the images placeholder its height and width"
        )
    return tf.reshape(x, [-1, math.prod(sizes)], name=name)


def dropout(x: tf.Tensor, rate: float, name: str) -> tf.Tensor:
    """Set a share `rate` (in [0, 1)) of the values to zero and scale the others by 1 / (1 - rate).

    It does so only where its switch is fed True, as `fit` does. What is dropped is keyed by the graph's seed, the name
    and global_step: a run that resumes at a step drops what the uninterrupted run would have dropped. The `name` must
    be used once in a graph, and no layer can be named after it.

    Raises:
      GraphError: `rate` is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise GraphError(f"dropout {name!r}: rate={rate} is not in [0, 1)")
    with tf.name_scope(name) as scope:
        switch = tf.placeholder_with_default(False, [], "switch")
        tf.add_to_collection(DROPOUTS, switch)
        active = tf.where(switch, tf.constant(rate, x.dtype), tf.zeros([], x.dtype), name="rate")
        seed, key = seed_for(scope)
        moment = tf.stack([tf.constant(seed ^ (key << 31), tf.int64), tf.cast(global_step(), tf.int64)])
        kept = tf.random.stateless_uniform(tf.shape(x), moment, dtype=x.dtype) >= active
        return tf.multiply(x, tf.cast(kept, x.dtype) / (1 - active), name="dropped")


class BatchNorm(NamedTuple):
    """What `batch_norm` recorded of itself: op and tensor names, so that a MetaGraph carries it."""

    switch: str
    trained: list[str]
    statistics: list[str]
    updates: list[str]


def batch_norm(x: tf.Tensor, name: str, *, momentum: float = 0.99, epsilon: float = 1e-3) -> tf.Tensor:
    """Normalise each channel, with `<name>/gamma`, `beta`, `moving_mean` and `moving_variance`, each [channels].

    With its switch fed True (a training step does that where it trains this gamma or beta) the statistics are those of
    the batch and the moving ones follow them; otherwise the moving ones are used and stay as they are. The defaults
    are those of `tf.layers.batch_normalization`.
    """
    with tf.variable_scope(name):
        channels = [x.shape[-1]]
        gamma, beta = (
            model_variable(n, channels, init)
            for n, init in (("gamma", tf.ones_initializer()), ("beta", tf.zeros_initializer()))
        )
        moving = [
            model_variable(n, channels, init, trainable=False)
            for n, init in (("moving_mean", tf.zeros_initializer()), ("moving_variance", tf.ones_initializer()))
        ]
        switch = tf.placeholder_with_default(False, [], "switch")
        axes = list(range(x.shape.rank - 1))
        mean, variance = tf.cond(
            switch, lambda: tf.nn.moments(x, axes), lambda: tuple(tf.identity(statistic) for statistic in moving)
        )
        changes = [
            (statistic - value) * (1 - momentum) for statistic, value in zip(moving, (mean, variance), strict=True)
        ]
        # Not even zero is subtracted from a frozen statistic: that would flush what is denormal.
        follow = tf.cond(
            switch,
            lambda: tf.group(*(s.assign_sub(c) for s, c in zip(moving, changes, strict=True))),
            tf.no_op,
            name="follow",
        )
        _record(
            BatchNorm(
                switch.name,
                [gamma.op.name, beta.op.name],
                [v.op.name for v in moving],
                [getattr(follow, "op", follow).name],
            )
        )
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)


def batch_norms(graph: tf.Graph | None = None) -> list[BatchNorm]:
    """Return the batch normalisations of a graph, in the order in which they were made."""
    graph = graph or tf.get_default_graph()
    return [BatchNorm(**json.loads(record)) for record in graph.get_collection(BATCH_NORMS)]


def _record(layer: BatchNorm) -> None:
    graph = tf.get_default_graph()
    graph.add_to_collection(BATCH_NORMS, json.dumps(layer._asdict()))
    for update in layer.updates:
        graph.add_to_collection(tf.GraphKeys.UPDATE_OPS, graph.get_operation_by_name(update))


def _finish(x: tf.Tensor, activation: Activation | None) -> tf.Tensor:
    bias = model_variable("bias", [x.shape[-1]], tf.zeros_initializer())
    x = tf.nn.bias_add(x, bias)
    return x if activation is None else activation(x)
