"""Placeholders that are fed the same value in every step: `keep_prob`, `is_training`, and tfxfer's own switches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph import traversal
from tfxfer.weights.digests import digest

Feeds = Mapping[tf.Tensor, np.ndarray]

log = logging.getLogger("tfxfer")

MOST_SHOWN = 16


def resolve(
    constants: Mapping[tf.Tensor | str, Any] | None, parameter: str, taken: Mapping[str, tf.Tensor | None]
) -> dict[tf.Tensor, np.ndarray]:
    """Return constants by placeholder, as arrays of its dtype.

    Args:
      constants: values by placeholder of the default graph, or by its name: "keep_prob" or "keep_prob:0".
      parameter: how the argument is called, for messages.
      taken: tensors that are fed with examples, by the name of the parameter that takes them.

    Raises:
      GraphError: a key is not a placeholder of the graph, is given twice or is fed with examples, or a value does not
        fit its dtype or shape. All of these are listed at once.
    """
    fed: dict[tf.Tensor, np.ndarray] = {}
    problems = []
    examples = {tensor.ref(): name for name, tensor in taken.items() if tensor is not None}
    for key, value in (constants or {}).items():
        try:
            placeholder = _placeholder(key)
            if placeholder.ref() in examples:
                raise GraphError(f"{placeholder.name}: these are the {examples[placeholder.ref()]}, fed by each batch")
            if any(placeholder is other for other in fed):
                raise GraphError(f"{placeholder.name} is given twice")
            fed[placeholder] = _array(placeholder, value)
        except GraphError as error:
            problems.append(str(error))
    if problems:
        raise GraphError("\n  ".join([f"{parameter} cannot be fed:", *problems]))
    return fed


def describe(feeds: Feeds) -> dict[str, Any] | None:
    """Return constants by the names of their placeholders, as JSON has them; of many numbers their digest."""
    return {placeholder.op.name: _describe(value) for placeholder, value in feeds.items()} or None


def _describe(value: np.ndarray) -> Any:
    if value.dtype.kind not in "biuf":
        return str(value.tolist())
    return value.tolist() if value.size <= MOST_SHOWN else digest(value)


def _placeholder(key: tf.Tensor | str) -> tf.Tensor:
    graph = tf.get_default_graph()
    if isinstance(key, str):
        try:
            tensor = graph.get_tensor_by_name(key if ":" in key else f"{key}:0")
        except (KeyError, ValueError):
            known = [op.name for op in graph.get_operations() if op.type in traversal.PLACEHOLDERS]
            raise GraphError(f"{key!r} is not in the graph; its placeholders are {names.listed(known)}") from None
    else:
        tensor = key
    if not isinstance(tensor, tf.Tensor) or tensor.graph is not graph or tensor.op.type not in traversal.PLACEHOLDERS:
        named = getattr(tensor, "name", repr(tensor))
        raise GraphError(f"{named} is not a placeholder of this graph; give a placeholder or the name of one")
    return tensor


def _array(placeholder: tf.Tensor, value: Any) -> np.ndarray:
    """Return a value as an array of a placeholder's dtype; floats may be rounded, nothing else may change."""
    dtype = placeholder.dtype
    if isinstance(value, (tf.Tensor, tf.Variable)):
        raise GraphError(f"{placeholder.name}: {value.name} is not a constant; give a number or an array")
    array = np.asarray(value)
    text = dtype == tf.string and array.dtype.kind in "SUO"
    if not text and array.dtype.kind not in ("b" if dtype.is_bool else "iu" if dtype.is_integer else "iuf"):
        raise GraphError(f"{placeholder.name} takes {dtype.name}, not {value!r} ({array.dtype})")
    cast = np.char.encode(array.astype(str)) if array.dtype.kind == "U" else array.astype(dtype.as_numpy_dtype)
    if dtype.is_integer and not np.array_equal(cast, array):
        raise GraphError(f"{placeholder.name} takes {dtype.name}, which does not hold {value!r}")
    if not placeholder.shape.is_compatible_with(cast.shape):
        raise GraphError(f"{placeholder.name} has the shape {placeholder.shape}, and the value {cast.shape}")
    return cast


# --- what differs, and what is lacking ---


def differing(training: Feeds, evaluation: Feeds) -> list[tf.Tensor]:
    """Return the placeholders that do not have the same value in training as in evaluation."""
    return [tensor for tensor in _keys(training, evaluation) if not _same(tensor, training, evaluation)]


def constant(training: Feeds, evaluation: Feeds) -> dict[tf.Operation, np.ndarray]:
    """Return the placeholders that are fed the same value in training as in evaluation, and that value."""
    values = {tensor: _value(tensor, training) for tensor in _keys(training, evaluation)}
    return {
        tensor.op: value
        for tensor, value in values.items()
        if value is not None and _same(tensor, training, evaluation)
    }


def _keys(training: Feeds, evaluation: Feeds) -> list[tf.Tensor]:
    return [*training, *(tensor for tensor in evaluation if not any(tensor is other for other in training))]


def _same(tensor: tf.Tensor, training: Feeds, evaluation: Feeds) -> bool:
    values = [_value(tensor, feeds) for feeds in (training, evaluation)]
    return all(value is not None for value in values) and values[0].tobytes() == values[1].tobytes()  # type: ignore[union-attr]


def _value(tensor: tf.Tensor, feeds: Feeds) -> np.ndarray | None:
    """Return what a placeholder holds: what it is fed, or else its default where that is a constant."""
    for other, value in feeds.items():
        if other is tensor:
            return value
    default = tf.get_static_value(tensor.op.inputs[0]) if tensor.op.inputs else None
    return None if default is None else np.asarray(default, tensor.dtype.as_numpy_dtype)


def check(
    fetches: Mapping[str, Iterable[tf.Operation]],
    feeds: Mapping[str, Feeds],
    examples: Iterable[tf.Tensor],
    switches: Iterable[tf.Tensor],
) -> None:
    """Refuse placeholders that nobody feeds, and note those whose default nobody sets.

    Args:
      fetches: what is run, by the name of the parameter that feeds it.
      feeds: what is fed then, by the same.
      examples: what is fed with examples.
      switches: placeholders whose default is right where they are not fed.

    Raises:
      GraphError: a placeholder without a default is needed; all of them are named, with what needs them.
    """
    lacking: dict[tf.Operation, list[str]] = {}
    examples, known = list(examples), {tensor.op for tensor in switches}
    for parameter, ops in fetches.items():
        for op in traversal.placeholders(ops, [*examples, *feeds[parameter]]):
            lacking.setdefault(op, []).append(parameter)
    needed = {op: parameters for op, parameters in lacking.items() if op.type != "PlaceholderWithDefault"}
    if needed:
        rows = [
            f"{op.name} ({_kind(op)}): give it in {' and '.join(where)}"
            + (", or leave the update ops that need it out by updates=[...]" if where == ["train_feeds"] else "")
            for op, where in needed.items()
        ]
        op = next(iter(needed))
        example = f"{next(iter(needed[op]))}={{{op.name!r}: {_example(op)}}}"
        raise GraphError(
            "\n  ".join(["nobody feeds these placeholders, which the step needs:", *rows, f"as {example}"])
        )
    unset = [op.name for op, parameters in lacking.items() if op not in known and "train_feeds" in parameters]
    if unset:
        log.warning("train_feeds does not set %s: trained with the default", names.listed(unset))


def _kind(op: tf.Operation) -> str:
    return f"{op.outputs[0].dtype.name} {op.outputs[0].shape}"


def _example(op: tf.Operation) -> str:
    dtype = op.outputs[0].dtype
    return "True" if dtype.is_bool else "0" if dtype.is_integer else "0.5" if dtype.is_floating else "..."
