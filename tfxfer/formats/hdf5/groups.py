"""What a group holds: links, in one of the three ways in which HDF5 keeps them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tfxfer.formats.hdf5.dense import records
from tfxfer.formats.hdf5.file import File
from tfxfer.formats.reading import Cursor

Link = tuple[str, int | str]  # a name, and the address of an object or in words what else it is

_SOFT = "a soft link to another place"
_SOFT_CACHED = 2
_ENTRY = struct.Struct("<QQI20x")  # where the name is, where the object is, what is cached about it


def symbols(file: File, message: Cursor) -> Iterator[Link]:
    """Read the links of a symbol table (IV.A.2.r): a B-tree of nodes (III.B), with the names in a heap (III.D)."""
    tree, heap = message.number(8), file.cursor(message.number(8), b"HEAP")
    heap.take(20)
    names = heap.number(8)
    for _, node in file.leaves(tree, 0, key_size=8):
        cursor = file.cursor(node, b"SNOD")
        cursor.take(2)
        for _ in range(cursor.number(2)):
            name, address, kind = cursor.unpack(_ENTRY)
            yield file.text(file.cursor(names + name).until(b"\0")), _SOFT if kind == _SOFT_CACHED else address


def link(file: File, message: Cursor) -> Link:
    """Read a link message (IV.A.2.g)."""
    message.take(1)
    flags = message.number(1)
    kind = message.number(1) if flags & 8 else 0
    message.take((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = file.text(message.take(message.number(1 << (flags & 3))))
    if kind == 0:
        return name, message.number(8)
    return name, _SOFT if kind == 1 else "a link to another file"


def dense(file: File, message: Cursor) -> Iterator[Link]:
    """Read the links of a link info message (IV.A.2.c), which stand in a heap of their own once there are many."""
    message.take(1)
    message.take(8 if message.number(1) & 1 else 0)
    for record in records(file, message.number(8), message.number(8)):
        yield link(file, record)
