"""The header of an object: a list of messages, in one block or several."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from tfxfer.formats.hdf5.file import File
from tfxfer.formats.reading import Cursor

_CONTINUED = 0x10
_SHARED = 2  # a flag
_COMMITTED = 2
_FIRST, _SECOND = struct.Struct("<HHB3x"), struct.Struct("<BHB")  # type, size and flags of a message


class Message(NamedTuple):
    """A part of a header: what it is about, and from where to where its bytes lie."""

    kind: int
    flags: int
    start: int
    end: int


def messages(file: File, address: int) -> Iterator[Message]:
    """Read a header of the first (IV.A.1.a) or second version (IV.A.1.b).

    Raises:
      WeightsError: no header starts at this address, or it is corrupt.
    """
    cursor = file.cursor(address)
    second = cursor.data[address : address + 4] == b"OHDR"
    size, extra = _second(cursor) if second else _first(cursor, file)
    blocks = [file.part(cursor.position, cursor.position + size)]
    for block in blocks:  # which grows
        while block.left >= (4 + extra if second else 8):
            file.step()
            kind, length, flags = block.unpack(_SECOND if second else _FIRST)
            block.take(extra)
            start = block.position
            block.take(length)
            if kind == _CONTINUED:
                blocks.append(_continued(file, file.part(start, block.position), second))
            else:
                yield Message(kind, flags, start, block.position)


def body(file: File, message: Message) -> Cursor:
    """Start to read a message, which may stand in the header of another object (IV.A.1, shared messages).

    That is how a dtype with a name of its own ("committed") is kept.

    Raises:
      WeightsError: it is not there, or stands in a heap of messages, where neither h5py nor Keras puts any.
    """
    cursor = file.part(message.start, message.end)
    if not message.flags & _SHARED:
        return cursor
    version, place = cursor.number(1), cursor.number(1)
    cursor.take(6 if version == 1 else 0)
    if version not in (1, 2, 3) or (version == 3 and place != _COMMITTED):
        raise file.corrupt(f"a message of type {message.kind} stands in a heap, or nowhere")
    for other in messages(file, cursor.number(8)):
        if other.kind == message.kind and not other.flags & _SHARED:
            return file.part(other.start, other.end)
    raise file.corrupt(f"a message of type {message.kind} is missing where another object refers to it")


def _first(cursor: Cursor, file: File) -> tuple[int, int]:
    # The size of the first block, and the bytes between the head of a message and its body.
    if cursor.number(1) != 1:
        raise file.corrupt(f"no object starts at byte {cursor.position - 1:,}")
    cursor.take(7)
    size = cursor.number(4)
    cursor.take(4)
    return size, 0


def _second(cursor: Cursor) -> tuple[int, int]:
    cursor.take(5)
    flags = cursor.number(1)
    cursor.take((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
    return cursor.number(1 << (flags & 3)), 2 if flags & 4 else 0


def _continued(file: File, message: Cursor, second: bool) -> Cursor:
    # A block of the second version has a signature before and a checksum behind its messages.
    address, length = message.number(8), message.number(8)
    cursor = file.cursor(address, b"OCHK" if second else b"")
    return file.part(cursor.position, address + length - (4 if second else 0))
