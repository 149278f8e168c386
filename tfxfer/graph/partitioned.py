"""Partitioned variables: TensorFlow splits a large one to put it on several servers.

Each part is a variable of the graph, `fc6/kernel/part_0`, with an initializer and optimizer slots of its own. It is
chosen, restored, trained and saved under the name of the whole, `fc6/kernel`, so that no file tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.tf_private import slice_info

READ_TOGETHER = 16 << 20  # bytes


def name_of(variable: tf.Variable) -> str:
    """Return the name by which a variable is known: its op's, or that of the whole that it is a part of."""
    info = slice_info(variable)
    return info.full_name if info else variable.op.name


def wholes(variables: Iterable[tf.Variable]) -> dict[str, list[tf.Variable]]:
    """Return the variables by name, in their order: the parts of one together, any other alone."""
    by_name: dict[str, list[tf.Variable]] = {}
    for variable in variables:
        by_name.setdefault(name_of(variable), []).append(variable)
    return by_name


def shape_of(variable: tf.Variable) -> tf.TensorShape:
    """Return the shape of a variable, or of the whole that it is a part of."""
    info = slice_info(variable)
    return tf.TensorShape(info.full_shape) if info else variable.shape


def is_part(variable: tf.Variable) -> bool:
    """Return whether a variable is a part of another."""
    return slice_info(variable) is not None


def taken(variable: tf.Variable, whole: np.ndarray) -> np.ndarray:
    """Return what a variable takes of an array: a view of its own part of it, or all."""
    return whole[_region(variable)] if is_part(variable) else whole


def _region(part: tf.Variable) -> tuple[slice, ...]:
    info = slice_info(part)
    return tuple(slice(start, start + size) for start, size in zip(info.var_offset, info.var_shape, strict=True))


def groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Divide what is fetched, by name, into groups of some `READ_TOGETHER` bytes, whose sizes in bytes are given.

    Each new set of fetches takes TensorFlow tens of milliseconds in a large graph, whatever it holds.
    """
    group: list[str] = []
    total = 0
    for name, size in sizes.items():
        group.append(name)
        total += size
        if total >= READ_TOGETHER:
            yield group
            group, total = [], 0
    if group:
        yield group


def fetch_in_groups(
    sess: tf.Session, variables: Mapping[str, Sequence[tf.Variable]]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and value of whole variables, as `wholes` groups them; only a group is in memory at once."""
    sizes = {name: bytes_of(shape_of(parts[0]), parts[0].dtype) for name, parts in variables.items()}
    for names in groups(sizes):
        yield from fetch(sess, {name: variables[name] for name in names}).items()


def bytes_of(shape: tf.TensorShape, dtype: tf.DType) -> int:
    """Return how many bytes a value has; of an unknown shape, as many as are read together."""
    elements = shape.num_elements()
    return READ_TOGETHER if elements is None else elements * dtype.size


def fetch(sess: tf.Session, variables: Mapping[str, Sequence[tf.Variable]]) -> dict[str, np.ndarray]:
    """Return the values of whole variables by name, as `wholes` groups them; all are in memory at once."""
    return {name: _joined(variables[name], arrays) for name, arrays in sess.run(dict(variables)).items()}


def _joined(parts: Sequence[tf.Variable], arrays: Sequence[np.ndarray]) -> np.ndarray:
    if not is_part(parts[0]):
        return arrays[0]
    whole = np.empty(shape_of(parts[0]).as_list(), arrays[0].dtype)
    for part, array in zip(parts, arrays, strict=True):
        whole[_region(part)] = array
    return whole


def splitting(parts: int, least_bytes: int) -> Callable[..., Any]:
    """Return a custom getter for `tf.variable_scope` that splits large variables of a model along their first axis.

    Biases and all else with fewer than two axes stay whole, and so do optimizer slots, which follow their variable.

    Args:
      parts: the largest number of parts; 1 splits nothing. Their sizes differ by rounding alone.
      least_bytes: the smallest size of a part.
    """

    def get(getter: Callable[..., Any], name: str, **options: Any) -> Any:
        shape = tf.TensorShape(options.get("shape"))
        if options.get("partitioner") is None and _of_model(options) and shape.is_fully_defined() and shape.rank > 1:
            size = shape.num_elements() * tf.as_dtype(options.get("dtype") or tf.float32).size
            number = min(parts, shape.as_list()[0], size // least_bytes)
            options["partitioner"] = tf.fixed_size_partitioner(number) if number > 1 else None
        return getter(name, **options)

    return get


def _of_model(options: Mapping[str, Any]) -> bool:
    # A model records what it does not train as its own too; an optimizer's slots go where their variable is.
    recorded = tf.GraphKeys.MODEL_VARIABLES in (options.get("collections") or ())
    return recorded or options.get("trainable") is not False
