"""How many multiplications with an addition an op takes for one example, from its static shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import tensorflow.compat.v1 as tf


def of(op: tf.Operation) -> int | None:
    """Return the multiply-adds of an op for one example: of convolutions and matrix products; 0 for all others.

    A first dimension that is not known is the number of examples, and counts as 1.

    Returns:
      The number, or None where the shapes do not tell it.
    """
    count = _COUNTS.get(op.type)
    return count(op) if count is not None else 0


def _size(shape: tf.TensorShape) -> int | None:
    """Return the number of elements of one example."""
    if shape.rank is None:
        return None
    sides = shape.as_list()
    sides = [1, *sides[1:]] if sides and sides[0] is None else sides
    return None if None in sides else math.prod(sides)


def _product(*factors: int | None) -> int | None:
    return None if None in factors else math.prod(factor for factor in factors if factor is not None)


def _window(op: tf.Operation, last: int) -> int | None:
    """Return the number of elements of a kernel without its last dimensions."""
    shape = op.inputs[1].shape
    return math.prod(shape.as_list()[:-last]) if shape.is_fully_defined() else None


def _convolution(op: tf.Operation) -> int | None:
    return _product(_size(op.outputs[0].shape), _window(op, 1))


def _depthwise(op: tf.Operation) -> int | None:
    return _product(_size(op.outputs[0].shape), _window(op, 2))


def _transposed(op: tf.Operation) -> int | None:
    return _product(_size(op.inputs[2].shape), _window(op, 1))


def _matrices(op: tf.Operation) -> int | None:
    shape = op.inputs[0].shape
    if shape.rank is None:
        return None
    turned = any(op.get_attr(name) for name in ("transpose_a", "adj_x") if name in op.node_def.attr)
    return _product(_size(op.outputs[0].shape), shape.as_list()[-2 if turned else -1])


def _einsum(op: tf.Operation) -> int | None:
    terms = op.get_attr("equation").decode().partition("->")[0].split(",")
    if len(terms) != 2 or any(tensor.shape.rank != len(term) for tensor, term in zip(op.inputs, terms, strict=True)):
        return None
    sides: dict[str, int | None] = {}
    for tensor, term in zip(op.inputs, terms, strict=True):
        for label, side in zip(term, tensor.shape.as_list(), strict=True):
            sides[label] = side or sides.get(label)
    first = terms[0][0]
    sides[first] = sides[first] or 1  # the number of examples
    return _product(*sides.values())


_COUNTS: Mapping[str, Callable[[tf.Operation], int | None]] = {
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
    "MatMul": _matrices,
    "BatchMatMul": _matrices,
    "BatchMatMulV2": _matrices,
    "BatchMatMulV3": _matrices,
    "Einsum": _einsum,
}
