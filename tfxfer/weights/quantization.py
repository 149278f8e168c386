"""Integers that stand for real numbers, and the real numbers: `scale * (value - zero_point)`.

An array NAME is quantized if `NAME_scale` and `NAME_zero_point` lie beside it: vectors of one element for the whole
array, or of one for each index of the dimension `NAME_quantized_dimension`. So the reader of TensorFlow Lite's models
names them, and so a file keeps them that was converted from one.

Source: tensorflow/lite/kernels/internal/reference/dequantize.h, which computes in double precision and rounds to
float32.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.formats.tensors import Tensor
from tfxfer.weights import streams

SCALE, ZERO_POINT, DIMENSION = "_scale", "_zero_point", "_quantized_dimension"


def dequantized(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Put the real numbers in the place of the integers, as float32, and leave out their scales.

    Args:
      tensors: the arrays of a file; what is not quantized stays as it is.
      where: the file, for error messages.

    Raises:
      WeightsError: nothing is quantized; or scales are not finite or do not fit to their array, when that is read.
    """
    quantized = {name for name, tensor in tensors.items() if _is_quantized(name, tensor, tensors)}
    if not quantized:
        raise WeightsError(
            f"{where} holds nothing to dequantize: no integers with scales beside them; leave `dequantize` out"
        )
    left_out = {name + suffix for name in quantized for suffix in (SCALE, ZERO_POINT, DIMENSION)}
    return {
        name: _real(name, tensors, where) if name in quantized else tensor
        for name, tensor in tensors.items()
        if name not in left_out
    }


def _is_quantized(name: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> bool:
    return tensor.dtype.kind in "iu" and name + SCALE in tensors and name + ZERO_POINT in tensors


def _real(name: str, tensors: Mapping[str, Tensor], where: str) -> Tensor:
    stream = functools.partial(_stream, name, tensors, f"{where}: {name}")
    return streams.computed(tensors[name].shape, np.dtype(np.float32), stream)


def _stream(name: str, tensors: Mapping[str, Tensor], where: str) -> Iterator[np.ndarray]:
    values = tensors[name].read()
    scale, zero_point = (_spread(tensors[name + suffix].read(), name, tensors, where) for suffix in (SCALE, ZERO_POINT))
    if not np.isfinite(scale).all():
        raise WeightsError(f"{where}: one of its scales is not a finite number; leave `dequantize` out")
    for value, factor, zero in buffers.pieces(values, scale, zero_point):
        with np.errstate(over="ignore"):
            yield (factor.astype(np.float64) * (value.astype(np.float64) - zero)).astype(np.float32)


def _spread(vector: np.ndarray, name: str, tensors: Mapping[str, Tensor], where: str) -> np.ndarray:
    """Give each element of an array its scale, or its zero point, without taking memory for it."""
    shape, dimension = tensors[name].shape, tensors.get(name + DIMENSION)
    if vector.size == 1:
        return np.broadcast_to(vector.reshape(()), shape)
    axis = int(dimension.read()) if dimension is not None and dimension.size == 1 else -1
    if not 0 <= axis < len(shape) or vector.shape != (shape[axis],):
        raise WeightsError(f"{where}: its {vector.size:,} scales do not fit to {shape} in dimension {axis}")
    return np.broadcast_to(vector.reshape([-1 if index == axis else 1 for index in range(len(shape))]), shape)
