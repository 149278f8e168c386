"""Slices of partitioned variables, and the keys under which TensorFlow's checkpoints keep them.

Source: EncodeTensorNameSlice in tensorflow/core/util/saved_tensor_slice_util.cc, over the OrderedCode of
tensorflow/core/lib/strings/ordered_code.cc, whose bytes sort as the values do; TensorSliceProto in
core/framework/tensor_slice.proto.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from tfxfer.formats.protobuf import BYTES, Bytes, fields, number, scan, tag
from tfxfer.formats.tensors import MAX_DIMENSIONS

Extents = tuple[tuple[int, int], ...]  # (start, length) for each dimension
NAME_END = b"\x00\x01"
FULL = -1  # the length that takes a whole dimension
MAX_SLICES = 50_000  # in a checkpoint
_EXTENT = tag(1, BYTES)


def parse(message: Bytes, where: str) -> Extents:
    """Read a TensorSliceProto. A dimension without a length is taken whole.

    Raises:
      WeightsError: the bytes are not a message.
    """
    every = (value for key, value in scan(message, where) if key == _EXTENT)
    # Dimensions beyond those that numpy can hold are not needed to refuse the slice.
    extents = (fields(extent, where) for extent in itertools.islice(every, MAX_DIMENSIONS + 1))
    return tuple((number(extent, 1), number(extent, 2, default=FULL)) for extent in extents)


def key(name: bytes, extents: Extents) -> bytes:
    """Encode the UTF-8 name of a variable and one of its slices."""
    numbers = (_signed(number) for extent in extents for number in extent)
    return _unsigned(0) + _string(name) + _unsigned(len(extents)) + b"".join(numbers)


def is_key(key: bytes) -> bool:
    """Tell the key of a slice from the name of a variable."""
    return key.startswith(b"\0")


def resolve(extents: Extents, shape: tuple[int, ...]) -> Extents | None:
    """Put in the lengths that are FULL; None where the slice does not lie within the shape."""
    if len(extents) != len(shape):
        return None
    found = tuple(
        (start, size if length == FULL else length) for (start, length), size in zip(extents, shape, strict=True)
    )
    inside = all(
        start >= 0 and length >= 0 and start + length <= size
        for (start, length), size in zip(found, shape, strict=True)
    )
    return found if inside else None


def tile(parts: Sequence[Extents], shape: tuple[int, ...]) -> bool:
    """Say whether resolved slices cover a shape, and no element twice."""
    if sum(math.prod(length for _, length in part) for part in parts) != math.prod(shape):
        return False
    filled = [part for part in parts if all(length for _, length in part)]
    table = np.array(filled, np.int64).reshape(len(filled), len(shape), 2)
    starts, ends = table[..., 0], table.sum(-1)
    overlap = ((starts[i] < ends[i + 1 :]) & (starts[i + 1 :] < ends[i]) for i in range(len(table)))
    return not any(both.all(-1).any() for both in overlap)


def index(extents: Extents) -> tuple[slice, ...]:
    """Return the index of a resolved slice into the whole array."""
    return tuple(slice(start, start + length) for start, length in extents)


def _string(text: bytes) -> bytes:
    escapes = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}
    return b"".join(escapes.get(byte, bytes([byte])) for byte in text) + NAME_END


def _unsigned(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
    # As many leading ones as there are bytes, and then the number in two's complement; a negative one inverts the ones.
    size = (~value if value < 0 else value).bit_length() // 7 + 1
    header = ((1 << size) - 1) << (7 * size)
    return (header ^ (value & ((1 << 8 * size) - 1))).to_bytes(size, "big")
