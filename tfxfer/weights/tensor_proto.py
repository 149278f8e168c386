"""TensorFlow's TensorProto: an array within a message, its values as bytes or as lists of numbers.

Source: tensorflow/core/framework/tensor.proto, and `MakeNdarray` in tensorflow/python/framework/tensor_util.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfxfer.formats import buffers, messages
from tfxfer.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, Bytes, Field, fields, number, strings, tag
from tfxfer.weights.tf_types import DTYPES, STRING, parse_shape

# The field that holds the values of a dtype; all others lie in that of int32.
_FIXED = {"float32": 5, "float64": 6, "complex64": 9, "complex128": 12}
_VARINTS = {"int64": 10, "bool": 11, "float16": 13, "bfloat16": 13, "uint32": 16, "uint64": 17}
_SMALL_INTEGERS, _CONTENT, _FLOAT8 = 7, 4, 18
_STRINGS = 8


class TensorProto(NamedTuple):
    """What a message says about an array.

    Attributes:
      dtype: TensorFlow's number of it.
      shape: (-1,) where its rank is unknown.
      message: its fields.
    """

    dtype: int
    shape: tuple[int, ...]
    message: list[Field]

    @classmethod
    def parse(cls, proto: Bytes, where: str) -> TensorProto:
        """Read a message.

        Raises:
          WeightsError: the bytes are not one, or have too many fields.
        """
        message = fields(proto, where)
        shape = b"".join(map(bytes, strings(message, 2)))
        return cls(number(message, 1), parse_shape(shape, where), message)

    @property
    def whole(self) -> bool:
        """Whether the bytes of the array are there as one, so that none may be missing."""
        return bool(_content(self.message))

    @property
    def plain(self) -> bool:
        """Whether the bytes of `encoded` are the values, as they lie in memory."""
        return self.whole or not _as_varints(DTYPES[self.dtype])

    def encoded(self) -> list[Bytes]:
        """List the bytes in which the numbers lie, in their order: one piece, or several one behind the other."""
        kind = DTYPES[self.dtype]
        return _content(self.message) or list(_numbers(self.message, _field(kind), kind))

    def strings(self) -> list[Bytes]:
        """List the strings, of dtype string."""
        return strings(self.message, _STRINGS) if self.dtype == STRING else []


def decoded(pieces: Sequence[np.ndarray], kind: np.dtype, count: int, where: str, *, plain: bool) -> np.ndarray:
    """Return the numbers that a TensorProto holds, as a vector of `kind`.

    Args:
      pieces: the bytes of `TensorProto.encoded`, each uint8 [n].
      kind: the dtype.
      count: how many are wanted. One more than these at most is returned: that tells that there are too many.
      where: the file and the array in it, for the error messages.
      plain: as `TensorProto.plain`.

    Raises:
      WeightsError: the file has changed since it was opened, or a number in it is too long or does not end.
    """
    joined = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.uint8), *map(buffers.fetched, pieces)])
    if not plain:
        return _varints(joined, kind, count, where)
    size = min(len(joined) // kind.itemsize, count + 1) * kind.itemsize
    return buffers.fetched(joined[:size]).view(kind)


def _content(message: list[Field]) -> list[Bytes]:
    return [piece for piece in strings(message, _CONTENT)[-1:] if len(piece)]


def _field(kind: np.dtype) -> int:
    if kind.name.startswith("float8"):
        return _FLOAT8
    return _FIXED.get(kind.name) or _VARINTS.get(kind.name, _SMALL_INTEGERS)


def _as_varints(kind: np.dtype) -> bool:
    return _field(kind) not in (*_FIXED.values(), _FLOAT8)


def _numbers(message: list[Field], field: int, kind: np.dtype) -> Iterator[Bytes]:
    # A list of numbers is packed into one piece; but it may also come in several, or number by number.
    wire = VARINT if _as_varints(kind) else FIXED32 if kind in (np.float32, np.complex64) else FIXED64
    single = tag(field, wire)
    wanted = (entry for entry in message if entry[0] in (single, tag(field, BYTES)))
    for key, group in itertools.groupby(wanted, lambda entry: entry[0]):
        if key == single:
            yield b"".join(_raw(value, wire) for _, value in group)
        else:
            yield from (value for _, value in group)


def _raw(value: int, wire: int) -> bytes:
    if wire != VARINT:
        return value.to_bytes(4 if wire == FIXED32 else 8, "little")
    more = []
    while value > 127:
        more.append(value & 127 | 128)
        value >>= 7
    return bytes([*more, value])


def _varints(packed: np.ndarray, kind: np.dtype, count: int, where: str) -> np.ndarray:
    values, filled = np.empty(min(count + 1, len(packed)), kind), 0
    for piece in messages.unpacked(packed, where):
        piece = piece[: len(values) - filled]
        values[filled : filled + len(piece)] = _narrow(piece, kind)
        filled += len(piece)
        if filled > count:
            break
    return values[:filled]


def _narrow(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    # 16-bit floats lie in the file as the integers of their bits; integers as 64-bit two's complement.
    if kind.kind in "iub":
        return values.astype(kind)
    if kind.name in ("int4", "uint4"):
        return values.astype(np.int8).astype(kind)
    return values.astype(f"u{kind.itemsize}").view(kind)
