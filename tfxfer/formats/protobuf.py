"""The wire format of protocol buffers, as far as TensorFlow's files need it.

Source: protobuf.dev/programming-guides/encoding. A field is known by its tag, number and wire type together, so that
a field of an unexpected type is skipped as an unknown one, as protobuf does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from tfxfer.errors import WeightsError

Bytes = bytes | memoryview
Field = tuple[int, Any]  # a tag, and an int or Bytes

MAX_FIELDS = 20_000
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def tag(number: int, wire: int = VARINT) -> int:
    """Return the tag of field `number` with wire type `wire`, as it stands before the value."""
    return number << 3 | wire


def signed(value: int) -> int:
    """Read an unsigned 64-bit varint as int32 or int64, which protobuf writes as 64-bit two's complement."""
    return value - (1 << 64) if value >> 63 else value


def varint(data: Bytes, position: int, where: str) -> tuple[int, int]:
    """Read the varint at `position`; return its value, below 2**64, and the position behind it.

    Raises:
      WeightsError: the bytes end within it, or it has more than ten.
    """
    value = shift = 0
    for byte in data[position : position + 10]:
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise WeightsError(f"{where} is corrupt: a number ends too early or is too long")


def scan(data: Bytes, where: str) -> Iterator[Field]:
    """Split a message into pairs (tag, value), in the order of the file, repeated fields repeated.

    Args:
      data: the message.
      where: the file, for the error message.

    Yields:
      Values are unsigned ints for varints and fixed32/64, else a slice of `data`.

    Raises:
      WeightsError: the bytes are not a message.
    """
    position, end = 0, len(data)
    while position < end:
        key = data[position]
        position += 1
        if key > 127:
            key, position = varint(data, position - 1, where)
        wire = key & 7
        if wire in (VARINT, BYTES):
            if position < end and data[position] < 128:
                value = data[position]
                position += 1
            else:
                value, position = varint(data, position, where)
            if wire == VARINT:
                yield key, value
                continue
            size = value
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise WeightsError(f"{where} is corrupt: it holds a field of unknown wire type {wire}")
        if position + size > end:
            raise WeightsError(f"{where} is corrupt: a field of {size:,} bytes goes beyond the end of its message")
        piece = data[position : position + size]
        yield key, piece if wire == BYTES else int.from_bytes(piece, "little")
        position += size


def fields(data: Bytes, where: str) -> list[Field]:
    """Split a message of no more than MAX_FIELDS fields, as `scan` does.

    Raises:
      WeightsError: the bytes are not a message, or one of more fields.
    """
    found = list(itertools.islice(scan(data, where), MAX_FIELDS + 1))
    if len(found) > MAX_FIELDS:
        raise WeightsError(f"{where} is corrupt: it holds a message of more than {MAX_FIELDS:,} fields")
    return found


def strings(message: Iterable[Field], number: int) -> list[Bytes]:
    """Return the values of one length-delimited field: strings, bytes or messages."""
    return [value for key, value in message if key == tag(number, BYTES)]


def number(message: list[Field], field: int, default: int = 0) -> int:
    """Return the last value of one varint field as a signed int, or the default where it is not there."""
    found = [value for key, value in message if key == tag(field)]
    return signed(found[-1]) if found else default


def text(value: Bytes, where: str) -> str:
    """Decode UTF-8.

    Raises:
      WeightsError: the bytes are not valid UTF-8.
    """
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise WeightsError(f"{where} is corrupt: {bytes(value[:40])!r} is not UTF-8") from None
