"""Values piece by piece, so that an array that is larger than what is left of the memory can pass through."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.formats.tensors import Tensor

Stream = Callable[[], Iterator[np.ndarray]]


class TooLargeError(WeightsError):
    """Values that come at once, and for which there is too little memory."""


def pieces(tensor: Tensor) -> Iterator[np.ndarray]:
    """Yield the values of a tensor, flat and in the order of C, in vectors of some MiB.

    A vector may be overwritten when the next is asked for. What a checksum has to say may come as late as with the
    last.

    Raises:
      TooLargeError: there is too little memory for values that come at once.
      WeightsError: the values are missing or fail their checksum.
    """
    try:
        if tensor.stream is not None:
            yield from tensor.stream()
        else:
            yield from (piece for (piece,) in buffers.pieces(tensor.read()))
    except MemoryError:
        raise TooLargeError(
            f"an array of the shape {tensor.shape} takes {tensor.nbytes:,} bytes, more than there is memory"
        ) from None


def together(tensors: Sequence[Tensor]) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the values of tensors of one shape side by side, as `pieces` does: a vector of each, all of one length.

    Raises:
      WeightsError: the values of one are missing or fail their checksum.
    """
    sources = [pieces(tensor) for tensor in tensors]
    rest: list[np.ndarray] = [np.empty(0)] * len(sources)
    while True:
        # A source that has no more is asked once more: that is when its checksum speaks.
        rest = [left if left.size else next(source, left) for source, left in zip(sources, rest, strict=True)]
        count = min(left.size for left in rest)
        if not count:
            return
        yield tuple(left[:count] for left in rest)
        rest = [left[count:] for left in rest]


def raw(tensor: Tensor) -> Iterator[Any]:
    """Yield the bytes of a tensor of numbers, as `pieces` does their values: vectors of uint8, which are buffers."""
    return (piece.view(np.uint8) for piece in pieces(tensor))


def put(file: IO[bytes], tensor: Tensor, see: Callable[[Any], object] = lambda raw: None) -> None:
    """Write the bytes of a tensor of numbers.

    Args:
      file: where to.
      tensor: what.
      see: called with each vector of bytes before it is written: a checksum.

    Raises:
      OSError: the disk is full.
      WeightsError: the values are missing or fail their checksum.
    """
    for piece in raw(tensor):
        see(piece)
        file.write(piece)


def computed(shape: tuple[int, ...], dtype: np.dtype, stream: Stream) -> Tensor:
    """Make a tensor of what a function yields, piece by piece: its values flat, in the order of C.

    Args:
      shape: its shape.
      dtype: the dtype of the pieces.
      stream: yields as many values as the shape has.
    """
    return Tensor(shape, dtype, functools.partial(_joined, shape, dtype, stream), stream)


def held(array: np.ndarray) -> Tensor:
    """Make a tensor of an array in memory."""
    return Tensor(array.shape, array.dtype, lambda: array)


def _joined(shape: tuple[int, ...], dtype: np.dtype, stream: Stream) -> np.ndarray:
    result = np.empty(shape, dtype) if dtype.hasobject else buffers.aligned(shape, dtype)
    flat, start = result.reshape(-1), 0
    for piece in stream():
        flat[start : start + len(piece)] = piece
        start += len(piece)
    return result
