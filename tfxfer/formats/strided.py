"""Arrays whose values lie in a file with gaps, in another order, or several times over: sizes and strides say where."""

from __future__ import annotations

import functools
import math

import numpy as np

from tfxfer.formats import buffers, reading
from tfxfer.formats.tensors import Tensor

ROOM = 32 << 20  # bytes that may be read beyond those that are asked for
MAX_SPREAD = 64 << 30  # bytes within which the values of one array may be scattered


def span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Return how many elements lie from the first to the last, both included; 0 where there are none.

    Args:
      shape: the dimensions, none negative.
      strides: the elements from one index to the next, for each dimension, none negative.
    """
    return 0 if 0 in shape else 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def fault(dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...]) -> str:
    """Say why an array cannot be read in little time and memory; the empty string where it can."""
    size, inner = span(shape, strides) * dtype.itemsize, 1
    if size <= max(ROOM, math.prod(shape) * dtype.itemsize):
        return ""
    for stride, count in sorted(zip(strides, shape, strict=True)):
        if count > 1 and 0 < stride < inner:
            return f"its values overlap within {size:,} bytes"
        inner += (count - 1) * stride
    return f"its values are scattered over {size:,} bytes" if size > MAX_SPREAD else ""


def tensor(
    data: np.ndarray,
    start: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    where: str,
    swapped: bool = False,
) -> Tensor:
    """Describe an array that is not read yet; see `array`. What lies in one piece and in order has a stream."""
    strides = _useful(shape, strides)
    if strides == _useful(shape, _contiguous(shape)) and not swapped:
        return reading.tensor(data, start, dtype, shape, where)
    return Tensor(shape, dtype, functools.partial(array, data, start, dtype, shape, strides, swapped))


def array(
    data: np.ndarray,
    start: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    swapped: bool = False,
) -> np.ndarray:
    """Read an array by its strides, in memory for its values and ROOM beyond.

    Args:
      data: uint8 [n], as `reading.map_file` makes it, or in memory; all values lie in it.
      start: the byte where the first element begins.
      dtype: in the byte order of this machine.
      shape: the shape of the result, for which `fault` says nothing.
      strides: the elements from one index to the next, for each dimension.
      swapped: whether the file has the other byte order.

    Returns:
      Read-only. Where no value lies between others in the file, a view of what was read, with the same strides.

    Raises:
      WeightsError: the file has changed since it was opened.
    """
    strides = _useful(shape, strides)
    size = span(shape, strides) * dtype.itemsize
    nbytes = math.prod(shape) * dtype.itemsize
    if size <= nbytes:
        return _view(data, start, dtype, shape, strides, swapped)
    values = buffers.aligned(shape, dtype)
    if size <= ROOM:
        values[...] = _view(data, start, dtype, shape, strides, swapped)
    else:
        _gather(data, start, strides, values, swapped)
    values.flags.writeable = False
    return values


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _useful(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, with 0 where none is ever taken."""
    return tuple(0 if size == 1 or 0 in shape else stride for size, stride in zip(shape, strides, strict=True))


def _view(
    data: np.ndarray, start: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...], swapped: bool
) -> np.ndarray:
    size = span(shape, strides) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    raw = buffers.fetched(data[start : start + size])
    if swapped:
        # By parts of complex numbers, and as bits: ml_dtypes knows no byte order.
        part = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        raw = raw.view(f"u{part}").byteswap().view(np.uint8)
    steps = tuple(stride * dtype.itemsize for stride in strides)
    # Not as_strided, which does not know the 8-bit floats of ml_dtypes.
    view = np.ndarray(shape, dtype, _aligned(raw, dtype).view(np.uint8), strides=steps)
    view.flags.writeable = False
    return view


def _aligned(raw: np.ndarray, dtype: np.dtype) -> np.ndarray:
    values = raw.view(dtype)
    return values if values.flags.aligned else values.copy()


def _gather(data: np.ndarray, start: int, strides: tuple[int, ...], out: np.ndarray, swapped: bool) -> None:
    """Read values that lie far apart piece by piece, by the dimension with the longest stride first."""
    axis = int(np.argmax(strides))
    stride = strides[axis]
    step = max(1, buffers.PIECE // (stride * out.itemsize))
    for first in range(0, out.shape[axis], step):
        part = out[(slice(None),) * axis + (slice(first, first + step),)]
        begin = start + first * stride * out.itemsize
        if step > 1 or span(part.shape, strides) * out.itemsize <= buffers.PIECE:
            part[...] = _view(data, begin, out.dtype, part.shape, strides, swapped)
        else:
            _gather(data, begin, (*strides[:axis], 0, *strides[axis + 1 :]), part, swapped)
