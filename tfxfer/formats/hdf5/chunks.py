"""Arrays that are stored in chunks, compressed or not."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.hdf5.file import UNDEFINED, File
from tfxfer.formats.reading import Cursor
from tfxfer.formats.tensors import Tensor, unreadable

_DEFLATE, _SHUFFLE = 1, 2
_ROOM = 16 << 20  # bytes by which a chunk may be larger than the whole array


class Layout(NamedTuple):
    """How an array lies in chunks: all of one shape, listed in a tree, packed by the same filters."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: tuple[int, ...]
    tree: int
    filters: Sequence[int]
    fill: np.ndarray

    @property
    def size(self) -> int:
        """The bytes of an unpacked chunk."""
        return math.prod(self.chunk) * self.dtype.itemsize


def tensor(
    file: File,
    message: Cursor,
    kind: tuple[tuple[int, ...], np.dtype],
    filters: Sequence[int],
    fill: np.ndarray,
    place: str,
) -> Tensor:
    """Describe an array in chunks, from the rest of its layout message (IV.A.2.i, version 3, class 2).

    Args:
      file: the file.
      message: a cursor behind version and class.
      kind: the shape and the dtype in the file.
      filters: the numbers of the filters, in the order of writing.
      fill: the value, a scalar, where no chunk was written.
      place: the file and the array, for the error messages.
    """
    (shape, dtype), rank = kind, message.number(1) - 1
    tree, sizes = message.number(8), [message.number(4) for _ in range(max(0, rank) + 1)]
    layout = Layout(shape, dtype, tuple(sizes[:-1]), tree, filters, fill)
    if rank != len(shape) or not all(sizes) or sizes[-1] != dtype.itemsize:
        raise WeightsError(f"{place} is corrupt: it has the shape {shape} and chunks of {tuple(sizes)}")
    if layout.size > math.prod(shape) * dtype.itemsize + _ROOM:
        raise WeightsError(f"{place} is refused: its chunks of {layout.size:,} bytes are far larger than the array")
    if unknown := set(filters) - {_DEFLATE, _SHUFFLE}:
        return unreadable(
            f"{place} went through HDF5 filters {sorted(unknown)}; only gzip (1) and shuffle (2) are read", shape
        )
    if tree == UNDEFINED:  # nothing was ever written
        native = dtype.newbyteorder("=")
        return reading.repeated(lambda: np.full(1, fill, native), native, shape)
    return Tensor(shape, dtype.newbyteorder("="), functools.partial(_value, file, layout, place))


def _value(file: File, layout: Layout, place: str) -> np.ndarray:
    file.restart()
    result = np.full(layout.shape, layout.fill, layout.dtype.newbyteorder("="))
    seen = set()
    # A key holds the size of the chunk in the file, a mask of filters that were left out, and where it belongs.
    for raw, address in file.leaves(layout.tree, 1, key_size=8 + 8 * (len(layout.shape) + 1)):
        key = Cursor(raw, place)
        size, mask = key.number(4), key.number(4)
        origin = tuple(key.number(8) for _ in layout.shape)
        if origin in seen or any(start % step for start, step in zip(origin, layout.chunk, strict=True)):
            raise WeightsError(f"{place} is corrupt: a chunk does not belong at {origin}, or comes twice")
        seen.add(origin)
        inside = tuple(slice(start, start + step) for start, step in zip(origin, layout.chunk, strict=True))
        target = result[inside]
        if target.size:
            packed = file.values(address, size)
            target[...] = _unpacked(packed, mask, layout, place)[tuple(slice(0, length) for length in target.shape)]
    return result


def _unpacked(packed: memoryview, mask: int, layout: Layout, place: str) -> np.ndarray:
    data: bytes | memoryview = packed
    for position, number in reversed(list(enumerate(layout.filters))):
        if mask >> position & 1:
            continue
        data = _inflated(data, layout.size, place) if number == _DEFLATE else _unshuffled(data, layout.dtype.itemsize)
    if len(data) != layout.size:
        raise WeightsError(f"{place} is corrupt: a chunk has {len(data):,} bytes, not {layout.size:,}")
    return np.frombuffer(data, layout.dtype).reshape(layout.chunk)


def _inflated(data: bytes | memoryview, size: int, place: str) -> bytes:
    # Never more than one byte beyond the chunk, whatever the stream holds.
    try:
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise WeightsError(f"{place} is corrupt: a chunk does not unpack: {error}") from None


def _unshuffled(data: bytes | memoryview, itemsize: int) -> bytes:
    # The filter puts all first bytes of the values first, then all second ones.
    whole = len(data) // itemsize * itemsize
    return np.frombuffer(data, np.uint8, whole).reshape(itemsize, -1).T.tobytes() + bytes(data[whole:])
