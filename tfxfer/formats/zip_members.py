"""Zip archives, as far as `.npz` and `.keras` need them: the members, and their bytes without unpacking.

Source: PKWARE's APPNOTE.TXT, sections 4.3 (structure) and 4.5.3 (zip64).
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.formats.reading import Cursor

MAGIC = (b"PK\3\4", b"PK\5\6")  # of an archive, and of an empty one
STORED, DEFLATED = 0, 8
MAX_MEMBERS = 50_000
_END, _END64, _LOCATOR64, _MEMBER, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_FULL32 = 0xFFFFFFFF
_STEP = 1 << 18  # bytes that are unpacked at a time


class Member(NamedTuple):
    """A file in an archive: `packed` bytes at `offset`, `size` when unpacked."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def members(data: np.ndarray, where: str) -> dict[str, Member]:
    """List the files in an archive by name, in the order of its directory. Every local header is checked.

    Args:
      data: uint8 [n], the whole archive.
      where: the file, for the error messages.

    Raises:
      WeightsError: the archive is cut short, corrupt or encrypted, a name leads out of it or comes twice, or a member
        is compressed otherwise than by deflate.
    """
    view = data.data
    count, cursor = _directory(view, where)
    if count > MAX_MEMBERS:
        raise WeightsError(f"{where} announces {count:,} members, more than {MAX_MEMBERS:,}")
    found: dict[str, Member] = {}
    for _ in range(count):
        member = _member(cursor, view)
        if member.name in found:
            raise WeightsError(f"{where} is corrupt: it holds {member.name!r} twice")
        found[member.name] = member
    return found


def unpack(data: np.ndarray, member: Member, count: int, where: str) -> bytes:
    """Return the first `count` bytes of a member, never unpacking more.

    Raises:
      WeightsError: the member is cut short or corrupt.
    """
    packed = data[member.offset : member.offset + member.packed]
    if member.method == STORED:
        return packed[:count].tobytes()
    stream, result = zlib.decompressobj(-zlib.MAX_WBITS), b""
    try:
        # What is handed over at once and not needed is copied whole.
        for start in range(0, len(packed), _STEP):
            result += stream.decompress(packed[start : start + _STEP].data, count - len(result))
            if len(result) == count or stream.eof:
                break
        return result
    except zlib.error as error:
        raise WeightsError(f"{where}: member {member.name!r} is corrupt: {error}") from None


def unpack_into(data: np.ndarray, member: Member, skip: int, result: np.ndarray, where: str) -> None:
    """Unpack a whole member, leaving out its first `skip` bytes; the rest must fill `result` and pass the checksum.

    Args:
      data: uint8 [n], the whole archive.
      member: the member; its size is `skip` and the size of `result`.
      skip: the bytes before what is wanted.
      result: uint8 [member.size - skip], which is written.
      where: the file, for the error messages.

    Raises:
      WeightsError: the member is corrupt, or gives more or less than it announces.
    """
    crc, position = 0, -skip
    for piece in _pieces(data[member.offset : member.offset + member.packed], member, where):
        fresh = piece[max(0, -position) :]
        start, position, crc = max(0, position), position + len(piece), zlib.crc32(piece, crc)
        if position > len(result):
            break
        result[start : start + len(fresh)] = np.frombuffer(fresh, np.uint8)
    if position != len(result):
        raise WeightsError(f"{where}: member {member.name!r} does not unpack to the {member.size:,} bytes it announces")
    check(crc, member, where)


def _pieces(packed: np.ndarray, member: Member, where: str) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for start in range(0, len(packed), _STEP):
            pending: bytes | memoryview = buffers.fetched(packed[start : start + _STEP]).data
            while pending and not stream.eof:
                yield stream.decompress(pending, 4 * _STEP)
                pending = stream.unconsumed_tail
        yield stream.flush()
    except zlib.error as error:
        raise WeightsError(f"{where}: member {member.name!r} is corrupt: {error}") from None


def whole(data: np.ndarray, member: Member, where: str) -> np.ndarray:
    """Return all bytes of a member, uint8 [member.size]; if it is stored uncompressed, as part of `data` and unchecked.

    Raises:
      WeightsError: the member is corrupt, or gives more or less than it announces.
    """
    if member.method == STORED:
        return data[member.offset : member.offset + member.size]
    result = np.empty(member.size, np.uint8)
    unpack_into(data, member, 0, result, where)
    return result


def crc(content: np.ndarray) -> int:
    """Return the CRC-32 of bytes, uint8 [n], which may be part of a mapped file.

    Raises:
      WeightsError: the file has changed since it was opened.
    """
    return functools.reduce(lambda found, piece: zlib.crc32(piece.data, found), buffers.seen(content, content.dtype), 0)


def check(crc: int, member: Member, where: str) -> None:
    """Compare a checksum with the one in the archive.

    Raises:
      WeightsError: they differ.
    """
    if crc != member.crc:
        raise WeightsError(f"{where}: member {member.name!r} fails its checksum: the file is damaged; copy it again")


def _directory(view: memoryview, where: str) -> tuple[int, Cursor]:
    # The end record stands before a comment of at most 64 KiB.
    start = max(0, len(view) - 22 - 0xFFFF)
    at = bytes(view[start:]).rfind(_END)
    if at < 0:
        raise WeightsError(
            f"{where} is cut short: a zip archive ends with a directory, which is missing; copy it again"
        )
    cursor = Cursor(view, where, start + at + 10)
    count, size, offset = cursor.number(2), cursor.number(4), cursor.number(4)
    locator = start + at - 20
    if locator >= 0 and view[locator : locator + 4] == _LOCATOR64:
        cursor = Cursor(view, where, Cursor(view, where, locator + 8).number(8))
        if cursor.take(4) != _END64:
            raise WeightsError(f"{where} is corrupt: its zip64 directory is not where it should be")
        cursor.take(28)
        count, size, offset = cursor.number(8), cursor.number(8), cursor.number(8)
    if offset + size > len(view) or count * 46 > size:
        raise WeightsError(f"{where} is corrupt: its directory of {count:,} members goes beyond the end of the file")
    return count, Cursor(view[: offset + size], where, offset)


def _member(cursor: Cursor, view: memoryview) -> Member:
    if cursor.take(4) != _MEMBER:
        raise WeightsError(f"{cursor.where} is corrupt: its directory is damaged at byte {cursor.position - 4:,}")
    cursor.take(4)
    flags, method = cursor.number(2), cursor.number(2)
    cursor.take(4)
    crc, packed, size = cursor.number(4), cursor.number(4), cursor.number(4)
    name_size, extra_size, comment_size = cursor.number(2), cursor.number(2), cursor.number(2)
    cursor.take(8)
    offset, raw_name = cursor.number(4), bytes(cursor.take(name_size))
    packed, size, offset = _zip64(Cursor(cursor.take(extra_size), cursor.where), packed, size, offset)
    cursor.take(comment_size)
    name = raw_name.decode("utf-8" if flags & 0x800 else "cp437", "replace")
    if flags & 1 or method not in (STORED, DEFLATED):
        raise WeightsError(f"{cursor.where}: member {name!r} is encrypted, or compressed otherwise than by deflate")
    if ".." in name.replace("\\", "/").split("/"):
        raise WeightsError(f"{cursor.where} is hostile: the name {name!r} of a member leads out of the archive")
    if method == STORED and packed != size:
        raise WeightsError(f"{cursor.where} is corrupt: member {name!r} is stored in {packed:,} bytes and has {size:,}")
    # Deflate can shrink by a factor of 1032 at most.
    if size > 1040 * packed + 1024:
        raise WeightsError(f"{cursor.where} is hostile: member {name!r} announces {size:,} bytes in {packed:,}")
    return Member(name, method, crc, packed, size, _start(Cursor(view, cursor.where, offset), raw_name, method, packed))


def _zip64(extra: Cursor, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    while extra.left >= 4:
        kind, length = extra.number(2), extra.number(2)
        field = Cursor(extra.take(length), extra.where)
        if kind == 1:  # holds, in this order, those of the three that do not fit into 32 bits
            size = field.number(8) if size == _FULL32 else size
            packed = field.number(8) if packed == _FULL32 else packed
            offset = field.number(8) if offset == _FULL32 else offset
    return packed, size, offset


def _start(local: Cursor, name: bytes, method: int, packed: int) -> int:
    # The bytes begin behind a local header, which must tell of the same member.
    signature, _, local_method = local.take(4), local.take(4), local.number(2)
    local.take(16)
    name_size, extra_size = local.number(2), local.number(2)
    if signature != _LOCAL or local_method != method or local.take(name_size) != name:
        raise WeightsError(
            f"{local.where} is corrupt: member {name.decode(errors='replace')!r} is not where its directory says"
        )
    local.take(extra_size)
    start = local.position
    local.take(packed)
    return start
