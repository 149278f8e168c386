"""Shapes, dtypes and attributes, as the messages of an object's header hold them."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np

from tfxfer.formats.hdf5.file import File
from tfxfer.formats.reading import Cursor

_CLASSES = (
    "integers",
    "floats",
    "times",
    "text",
    "bit fields",
    "opaque bytes",
    "compounds",
    "references",
    "enumerations",
    "text or lists of variable length",
    "arrays within arrays",
)
_INTEGER, _FLOAT, _TEXT, _OPAQUE, _COMPOUND, _REFERENCE, _ENUM, _VARIABLE = 0, 1, 3, 5, 6, 7, 8, 9
# What MATLAB and h5py call the parts of a complex number.
_COMPLEX = ([b"real", b"imag"], [b"r", b"i"])
_SHARED = 3  # bits of an attribute whose type or space stands somewhere else


def dataspace(message: Cursor) -> tuple[int, ...]:
    """Read a shape (IV.A.2.b); a null space, which has no values, gives (0,)."""
    version, rank = message.number(1), message.number(1)
    message.take(1)
    if version == 1:
        message.take(5)
    elif message.number(1) == 2:
        return (0,)
    return tuple(message.number(8) for _ in range(rank))


def datatype(message: Cursor, bfloat16: bool = False) -> np.dtype | str:
    """Read a dtype (IV.A.2.d); of what numpy has no numbers for, say in words what it is.

    Args:
      message: the message.
      bfloat16: whether opaque values of two bytes are bfloat16, as Keras marks them.
    """
    first = message.number(1)
    kind, version = first & 15, first >> 4
    bits, size = message.number(3), message.number(4)
    order = ">" if bits & 1 else "<"
    if kind == _INTEGER and size in (1, 2, 4, 8) and (message.number(2), message.number(2)) == (0, 8 * size):
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    if kind == _FLOAT:
        message.take(5)
        exponent = message.number(1)
        message.take(1)
        found = {(2, 5, 10): "f2", (4, 8, 23): "f4", (8, 11, 52): "f8"}.get((size, exponent, message.number(1)))
        if found:
            return np.dtype(order + found)
        return np.dtype(ml_dtypes.bfloat16) if (size, exponent, order) == (2, 8, "<") else "floats of an unusual format"
    if kind == _COMPOUND and bits & 0xFFFF == 2:
        return _complex(message, version, size)
    if kind == _OPAQUE and size == 2 and bfloat16:
        return np.dtype(ml_dtypes.bfloat16)
    if kind == _ENUM:
        base = datatype(message)
        # h5py writes booleans as an enumeration of FALSE and TRUE.
        if base == np.int8 and bytes(message.data[message.position :]).startswith(b"FALSE\0"):
            return np.dtype(bool)
    return _CLASSES[kind] if kind < len(_CLASSES) else "values of an unknown kind"


def is_reference(message: Cursor) -> bool:
    """Say whether a dtype (IV.A.2.d) is that of references to objects."""
    kind, bits, size = message.number(1) & 15, message.number(3), message.number(4)
    return (kind, bits & 15, size) == (_REFERENCE, 0, 8)


def _complex(message: Cursor, version: int, size: int) -> np.dtype | str:
    """Read the members of a compound of two: a complex number, or in words anything else."""
    part = size // 2
    names = []
    for place in (0, part):
        name, member = _member(message, version, size)
        if part not in (4, 8) or member != (place, f"f{part}"):
            return _CLASSES[_COMPOUND]
        names.append(name)
    return np.dtype(f"c{size}") if names in _COMPLEX else _CLASSES[_COMPOUND]


def _member(message: Cursor, version: int, size: int) -> tuple[bytes, tuple[int, np.dtype | str]]:
    # A name, its place and, in the first version, dimensions; and a dtype, which takes 20 bytes if it is of floats.
    start = message.position
    name = message.until(b"\0")
    message.take((start - message.position) % 8 if version < 3 else 0)
    place = message.number(4 if version < 3 else (size.bit_length() + 7) // 8)
    message.take(28 if version == 1 else 0)
    return name, (place, datatype(Cursor(message.take(min(20, message.left)), message.where)))


def attribute_name(file: File, message: Cursor) -> str:
    """Read the name of an attribute (IV.A.2.m), leaving the rest."""
    version, _, size = message.number(1), message.number(1), message.number(2)
    message.take(4 if version < 3 else 5)
    return file.text(bytes(message.take(size)).partition(b"\0")[0])


def attribute_number(message: Cursor) -> int:
    """Read an attribute (IV.A.2.m) of one whole number; 0 where it is something else."""
    if (parts := _attribute(message)) is None:
        return 0
    kind, space = parts
    dtype = datatype(kind)
    if isinstance(dtype, str) or dtype.kind not in "iu" or math.prod(dataspace(space)) != 1:
        return 0
    return int(np.frombuffer(message.take(dtype.itemsize), dtype)[0])


def attribute_texts(file: File, message: Cursor) -> list[str] | None:
    """Read an attribute (IV.A.2.m) of text, one or many; None where it is something else."""
    if (parts := _attribute(message)) is None:
        return None
    kind, space = parts
    count = math.prod(dataspace(space))
    code, bits, size = kind.number(1) & 15, kind.number(3), kind.number(4)
    if code == _TEXT:
        return [_fixed(file, message.take(size), bits & 15) for _ in range(_possible(count, size, message))]
    if code == _VARIABLE and bits & 15 == 1:
        return [_variable(file, message) for _ in range(_possible(count, 16, message))]
    return None


def _attribute(message: Cursor) -> tuple[Cursor, Cursor] | None:
    """Return dtype and space of an attribute, leaving the values; None where either stands somewhere else."""
    version, flags = message.number(1), message.number(1)
    sizes = [message.number(2) for _ in range(3)]
    message.take(1 if version == 3 else 0)
    if flags & _SHARED and version > 1:
        return None
    padded = [(size + 7) & ~7 if version == 1 else size for size in sizes]
    _, kind, space = (Cursor(message.take(size), message.where) for size in padded)
    return kind, space


def _possible(count: int, size: int, message: Cursor) -> int:
    # Never loop for longer than the bytes last, which runs into the error that tells of missing ones.
    return min(count, message.left // max(1, size) + 1)


def _fixed(file: File, raw: memoryview, padding: int) -> str:
    text = bytes(raw).rstrip(b" ") if padding == 2 else bytes(raw).partition(b"\0")[0]
    return file.text(text)


def _variable(file: File, message: Cursor) -> str:
    length, address, index = message.number(4), message.number(8), message.number(4)
    return file.text(bytes(file.heap_object(address, index)[:length]).rstrip(b"\0")) if length else ""
