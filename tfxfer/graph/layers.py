"""Layers: functions from tensor to tensor that make `<name>/kernel` and `<name>/bias`, as `tf.layers` named them.

Images are float32 [batch, height, width, channels]. A layer opens a variable scope of its name; name scopes around it
(`with tf.name_scope("ENCODER")`) group its ops in TensorBoard and do not enter the names of its variables.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.graph import records
from tfxfer.graph.variables import (
    Initializer,
    global_step,
    glorot_uniform,
    is_for_inference,
    model_variable,
    seed_for,
)

Activation = Callable[[tf.Tensor], tf.Tensor]
Size = int | Sequence[int]  # of rows and columns alike, or of each

DROPOUTS = "tfxfer_dropouts"
BATCH_NORMS = "tfxfer_batch_norms"


def conv2d(  # noqa: PLR0913  # the options of `tf.layers.conv2d`, by their names
    x: tf.Tensor,
    filters: int,
    kernel_size: Size,
    name: str,
    *,
    strides: Size = 1,
    padding: str = "SAME",
    dilation_rate: Size = 1,
    activation: Activation | None = tf.nn.relu,
    use_bias: bool = True,
    kernel_initializer: Initializer | None = None,
    bias_initializer: Initializer | None = None,
) -> tf.Tensor:
    """Convolve [n, h, w, c] to [n, h', w', filters] with `<name>/kernel` (height, width, c, filters).

    Args:
      x: float32 [n, h, w, c].
      filters: the number of output channels.
      kernel_size, strides, dilation_rate: one integer, or two: of rows and of columns.
      name: the variable scope of the kernel and the bias.
      padding: "SAME" or "VALID", in letters of either case.
      activation: default: ReLU; None for none.
      use_bias: whether there is a `<name>/bias` [filters].
      kernel_initializer: default: `glorot_uniform` of `tfxfer.graph.variables`, keyed by name. One of
        `tf.initializers` draws by a seed of its own.
      bias_initializer: default: zeros.

    Raises:
      GraphError: another padding, sizes that are not one or two integers from 1 on, or strides and a dilation rate
        that are both above 1.

    Example:
      >>> images = tf.placeholder(tf.float32, [None, 28, 28, 1])
      >>> x = tx.graph.layers.conv2d(images, 16, 5, "conv1", strides=2)
      >>> x.shape.as_list(), [variable.op.name for variable in tx.select("conv1/.*")]
      ([None, 14, 14, 16], ['conv1/kernel', 'conv1/bias'])
    """
    strides, rates = _strides_and_rates(strides, dilation_rate, name)
    with tf.variable_scope(name):
        shape = [*_pair("kernel_size", kernel_size, name), x.shape[-1], filters]
        kernel = model_variable("kernel", shape, kernel_initializer or glorot_uniform)
        if max(rates) > 1:  # The gradient of a dilated Conv2D has no kernel for processors without oneDNN.
            y = tf.nn.convolution(x, kernel, padding=_padding(padding, name), dilations=rates)
        else:
            y = tf.nn.conv2d(x, kernel, strides=strides, padding=_padding(padding, name))
        return _finish(y, activation, use_bias, bias_initializer)


def depthwise_conv2d(  # noqa: PLR0913  # the options of `tf.keras.layers.DepthwiseConv2D`, by their names
    x: tf.Tensor,
    kernel_size: Size,
    name: str,
    *,
    strides: Size = 1,
    padding: str = "SAME",
    depth_multiplier: int = 1,
    dilation_rate: Size = 1,
    activation: Activation | None = tf.nn.relu,
    use_bias: bool = True,
    depthwise_initializer: Initializer | None = None,
    bias_initializer: Initializer | None = None,
) -> tf.Tensor:
    """Convolve each channel of [n, h, w, c] alone, to [n, h', w', c * depth_multiplier].

    `<name>/depthwise_kernel` is (height, width, c, depth_multiplier). Output channel `i * depth_multiplier + k` is of
    input channel i. The options are those of `conv2d`.

    Raises:
      GraphError: another padding, sizes that are not one or two integers from 1 on, strides that are not the same for
        rows and columns, or strides and a dilation rate that are both above 1.

    Example:
      >>> images = tf.placeholder(tf.float32, [None, 28, 28, 3])
      >>> x = tx.graph.layers.depthwise_conv2d(images, 3, "depthwise", strides=2, use_bias=False)
      >>> x.shape.as_list(), [tuple(variable.shape.as_list()) for variable in tx.select("depthwise/.*")]
      ([None, 14, 14, 3], [(3, 3, 3, 1)])
    """
    strides, rates = _strides_and_rates(strides, dilation_rate, name)
    if strides[0] != strides[1]:
        raise GraphError(f"{name}: `strides={strides}` must be the same for rows and columns")
    padding = _padding(padding, name)
    if not _is_size(depth_multiplier):
        raise GraphError(f"{name}: `depth_multiplier={depth_multiplier}` must be one integer from 1 on")
    with tf.variable_scope(name):
        shape = [*_pair("kernel_size", kernel_size, name), x.shape[-1], depth_multiplier]
        kernel = model_variable("depthwise_kernel", shape, depthwise_initializer or glorot_uniform)
        y = tf.nn.depthwise_conv2d(x, kernel, [1, *strides, 1], padding, dilations=rates)
        return _finish(y, activation, use_bias, bias_initializer)


def conv2d_transpose(  # noqa: PLR0913  # the options of `tf.layers.conv2d_transpose`, by their names
    x: tf.Tensor,
    filters: int,
    kernel_size: Size,
    name: str,
    *,
    strides: Size = 1,
    padding: str = "SAME",
    activation: Activation | None = tf.nn.relu,
    use_bias: bool = True,
    kernel_initializer: Initializer | None = None,
    bias_initializer: Initializer | None = None,
) -> tf.Tensor:
    """Convolve backwards, [n, h, w, c] to [n, h * stride, w * stride, filters] under SAME padding.

    `<name>/kernel` is (height, width, filters, c), as in `tf.nn.conv2d_transpose`. The options are those of `conv2d`.

    Raises:
      GraphError: another padding, or sizes that are not one or two integers from 1 on.
    """
    strides, sizes = _pair("strides", strides, name), _pair("kernel_size", kernel_size, name)
    padding = _padding(padding, name)
    with tf.variable_scope(name):
        kernel = model_variable("kernel", [*sizes, filters, x.shape[-1]], kernel_initializer or glorot_uniform)
        spare = [0 if padding == "SAME" else max(sizes[axis] - strides[axis], 0) for axis in (0, 1)]
        sides = [x.shape[axis + 1] * strides[axis] + spare[axis] for axis in (0, 1)]
        shape = tf.stack([tf.shape(x)[0], *sides, filters])
        y = tf.nn.conv2d_transpose(x, kernel, shape, strides=strides, padding=padding)
        y.set_shape([x.shape[0], *sides, filters])
        return _finish(y, activation, use_bias, bias_initializer)


def max_pool2d(
    x: tf.Tensor, pool_size: Size, name: str, *, strides: Size | None = None, padding: str = "VALID"
) -> tf.Tensor:
    """Take the largest of each window of `pool_size`; by default the windows do not overlap: strides are their size.

    Raises:
      GraphError: another padding than "SAME" and "VALID", or sizes that are not one or two integers from 1 on.
    """
    sizes = _pair("pool_size", pool_size, name)
    strides = sizes if strides is None else _pair("strides", strides, name)
    return tf.nn.max_pool2d(x, sizes, strides, _padding(padding, name), name=name)


def dense(
    x: tf.Tensor,
    units: int,
    name: str,
    *,
    activation: Activation | None = tf.nn.relu,
    use_bias: bool = True,
    kernel_initializer: Initializer | None = None,
    bias_initializer: Initializer | None = None,
) -> tf.Tensor:
    """Multiply [n, k] to [n, units] with `<name>/kernel` (k, units). The options are those of `conv2d`."""
    with tf.variable_scope(name):
        kernel = model_variable("kernel", [x.shape[-1], units], kernel_initializer or glorot_uniform)
        return _finish(tf.matmul(x, kernel), activation, use_bias, bias_initializer)


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
        return dropped(x, dropout_noise(tf.shape(x), scope, x.dtype), active)


def dropout_noise(shape: tf.Tensor | Sequence[int], scope: str, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Draw what `dropout` compares with its rate, uniform in [0, 1): keyed by the graph's seed, a name scope (`HEAD/
    dropout1/`) and global_step. An entry depends on its place in the flattened shape alone."""
    seed, key = seed_for(scope)
    moment = tf.stack([tf.constant(seed ^ (key << 31), tf.int64), tf.cast(global_step(), tf.int64)])
    return tf.random.stateless_uniform(shape, moment, dtype=dtype)


def dropped(x: tf.Tensor, noise: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
    """Set the values of x to zero whose noise is below the rate, and scale the others by 1 / (1 - rate)."""
    return tf.multiply(x, tf.cast(noise >= rate, x.dtype) / (1 - rate), name="dropped")


class BatchNorm(NamedTuple):
    """What `batch_norm` recorded of itself: op and tensor names, so that a MetaGraph carries it."""

    switch: str
    trained: list[str]
    statistics: list[str]
    updates: list[str]


def batch_norm(
    x: tf.Tensor,
    name: str,
    *,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
) -> tf.Tensor:
    """Normalise each channel, with `<name>/gamma`, `beta`, `moving_mean` and `moving_variance`, each [channels].

    With its switch fed True (a training step does that where it trains this gamma or beta) the statistics are those of
    the batch and the moving ones follow them; otherwise the moving ones are used and stay as they are. Without
    `scale` it has no gamma, without `center` no beta, and without both the moving statistics stay as they are. The
    defaults are those of `tf.layers.batch_normalization`.
    """
    with tf.variable_scope(name):
        channels = [x.shape[-1]]
        gamma = model_variable("gamma", channels, tf.ones_initializer()) if scale else None
        beta = model_variable("beta", channels, tf.zeros_initializer()) if center else None
        moving = [
            model_variable(n, channels, init, trainable=False)
            for n, init in (("moving_mean", tf.zeros_initializer()), ("moving_variance", tf.ones_initializer()))
        ]
        trained = [variable.op.name for variable in (gamma, beta) if variable is not None]
        mean, variance = moving if is_for_inference() else _switched(x, moving, trained, momentum)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)


def _switched(
    x: tf.Tensor, moving: Sequence[tf.Variable], trained: list[str], momentum: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the statistics of the batch or the moving ones, by a switch that also lets these follow."""
    switch = tf.placeholder_with_default(False, [], "switch")
    axes = list(range(x.shape.rank - 1))
    mean, variance = tf.cond(
        switch, lambda: tf.nn.moments(x, axes), lambda: tuple(tf.identity(statistic) for statistic in moving)
    )
    changes = [(statistic - value) * (1 - momentum) for statistic, value in zip(moving, (mean, variance), strict=True)]
    # Not even zero is subtracted from a frozen statistic: that would flush what is denormal.
    follow = tf.cond(
        switch,
        lambda: tf.group(*(s.assign_sub(c) for s, c in zip(moving, changes, strict=True))),
        tf.no_op,
        name="follow",
    )
    _record(BatchNorm(switch.name, trained, [v.op.name for v in moving], [getattr(follow, "op", follow).name]))
    return mean, variance


def batch_norms(graph: tf.Graph | None = None) -> list[BatchNorm]:
    """Return the batch normalisations of a graph, in the order in which they were made."""
    graph = graph or tf.get_default_graph()
    return [_scoped(BatchNorm(**values), scope) for scope, values in records.read(graph, BATCH_NORMS)]


def _scoped(layer: BatchNorm, scope: str) -> BatchNorm:
    within = ([f"{scope}{name}" for name in each] for each in (layer.trained, layer.statistics, layer.updates))
    return BatchNorm(f"{scope}{layer.switch}", *within)


def _record(layer: BatchNorm) -> None:
    graph = tf.get_default_graph()
    records.add(BATCH_NORMS, layer._asdict())
    for update in layer.updates:
        graph.add_to_collection(tf.GraphKeys.UPDATE_OPS, graph.get_operation_by_name(update))


def _finish(
    x: tf.Tensor, activation: Activation | None, use_bias: bool, bias_initializer: Initializer | None
) -> tf.Tensor:
    if use_bias:
        bias = model_variable("bias", [x.shape[-1]], bias_initializer or tf.zeros_initializer())
        x = tf.nn.bias_add(x, bias)
    return x if activation is None else activation(x)


def _strides_and_rates(strides: Size, dilation_rate: Size, name: str) -> tuple[list[int], list[int]]:
    strides, rates = _pair("strides", strides, name), _pair("dilation_rate", dilation_rate, name)
    if max(strides) > 1 and max(rates) > 1:
        raise GraphError(f"{name}: `strides={strides}` and `dilation_rate={rates}` cannot both be above 1")
    return strides, rates


def _pair(option: str, value: Size, name: str) -> list[int]:
    sizes = list(value) if isinstance(value, Iterable) else [value, value]
    if len(sizes) != 2 or not all(map(_is_size, sizes)):
        raise GraphError(f"{name}: `{option}={value}` must be one integer from 1 on, or two: of rows and columns")
    return [operator.index(size) for size in sizes]


def _is_size(value: object) -> bool:
    return hasattr(value, "__index__") and operator.index(value) >= 1


def _padding(padding: str, name: str) -> str:
    if not isinstance(padding, str) or padding.upper() not in ("SAME", "VALID"):
        raise GraphError(f"{name}: `padding` is 'SAME' or 'VALID', not {padding!r}")
    return padding.upper()
