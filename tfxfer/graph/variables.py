"""The variables of a graph: made, recorded when made, and chosen by name."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.graph.parts import wholes

Initializer = Callable[..., tf.Tensor]


def model_variables(graph: tf.Graph | None = None) -> list[tf.Variable]:
    """Return the variables that belong to a model, in the order in which they were made.

    These are the ones that layers record in `GraphKeys.MODEL_VARIABLES` and those that are trainable, so that a graph
    made of raw `tf.get_variable` works too. Optimizer slots and `global_step` are neither.
    """
    graph = graph or tf.get_default_graph()
    keys = (tf.GraphKeys.MODEL_VARIABLES, tf.GraphKeys.TRAINABLE_VARIABLES)
    wanted = {id(variable) for key in keys for variable in graph.get_collection(key)}
    # A graph of the user's own may have made it without trainable=False.
    wanted -= {id(variable) for variable in _global_steps(graph)}
    return [variable for variable in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES) if id(variable) in wanted]


def select(
    *patterns: str, exclude: str | Iterable[str] = (), among: Sequence[tf.Variable] | None = None
) -> list[tf.Variable]:
    """Choose variables of the default graph by name.

    Args:
      *patterns: regular expressions that must match a whole op name: `conv.*`, `.*/kernel`.
      exclude: one or more regular expressions whose matches are left out again.
      among: what there is to choose from; `model_variables()` unless told.

    Returns:
      The variables, in the order in which they were made; of one that is split, every part (see `graph.parts`).

    Raises:
      SelectionError: a pattern matches nothing (the nearest names are given) or is no regular expression.
    """
    variables = model_variables() if among is None else among
    table = wholes(variables)
    excluded = [exclude] if isinstance(exclude, str) else list(exclude)
    return [variable for name in names.match(patterns, list(table), excluded) for variable in table[name]]


def model_variable(name: str, shape: Sequence[int], initializer: Initializer, *, trainable: bool = True) -> tf.Variable:
    """Make a float32 variable in the current variable scope and record it as part of the model."""
    return tf.get_variable(
        name,
        list(shape),
        tf.float32,
        initializer,
        trainable=trainable,
        use_resource=True,
        collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.MODEL_VARIABLES],
    )


def global_step() -> tf.Variable:
    """Return the variable that counts the steps of training, and make it if there is none.

    As in TensorFlow 1, a variable of that name serves too, of any integer dtype and recorded in no collection.
    """
    found = _global_steps(tf.get_default_graph())
    return found[0] if found else tf.train.create_global_step()


def _global_steps(graph: tf.Graph) -> list[tf.Variable]:
    named = [v for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES) if v.op.name == "global_step"]
    return graph.get_collection(tf.GraphKeys.GLOBAL_STEP) + named


def seed_for(name: str) -> list[int]:
    """Return the two integers that key what is drawn at random for `name`: the graph's seed and the name's CRC-32.

    So what a variable starts from depends on `tf.set_random_seed` (0 if it was not called) and its name alone, and not
    on what else the graph holds.
    """
    return [tf.get_default_graph().seed or 0, zlib.crc32(name.encode())]


def glorot_uniform(shape: Sequence[int], dtype: tf.DType = tf.float32, partition_info: Any = None) -> tf.Tensor:
    """Draw uniformly from +-sqrt(6 / (fan in + fan out)) (Glorot and Bengio, 2010), keyed by name.

    This is the default of `tf.layers`. It serves kernels [in, out] and [height, width, in, out] alike. A part of a
    kernel, which TensorFlow describes by `partition_info`, gets the values that it has in the whole.
    """
    whole = shape if partition_info is None else partition_info.full_shape
    receptive = math.prod(whole[:-2])
    limit = math.sqrt(6 / (receptive * (whole[-2] + whole[-1])))
    name = f"{tf.get_variable_scope().name}/kernel"
    drawn = tf.random.stateless_uniform(whole, seed_for(name), -limit, limit, dtype)
    return drawn if partition_info is None else tf.slice(drawn, partition_info.var_offset, shape)
