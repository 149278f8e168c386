"""Protocol buffers and LevelDB tables as TensorFlow writes them; `protobuf` and `leveldb` read them.

Source: LevelDB's doc/table_format.md and table/block_builder.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import google_crc32c

from tfxfer.formats.leveldb import FOOTER, MAGIC, masked
from tfxfer.formats.protobuf import FIXED32

BLOCK = 1 << 15  # bytes, about
RESTART = 16  # entries, after which a key is written whole


def varint(value: int) -> bytes:
    """Encode a number from 0 to below 2**64."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field(tag: int, value: int | bytes) -> bytes:
    """Encode a field of a message under a tag that `protobuf.tag` made; a number is not negative."""
    if isinstance(value, bytes):
        return varint(tag) + varint(len(value)) + value
    return varint(tag) + (value.to_bytes(4, "little") if tag & 7 == FIXED32 else varint(value))


def table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode a table, uncompressed.

    Args:
      entries: pairs of key and value, sorted by key, no key twice.
    """
    result, index = bytearray(), []
    for last, block in _blocks(entries):
        index.append((last, _sealed(result, block)))
    none = _sealed(result, _block([]))  # what would be filters
    root = _sealed(result, _block(index))
    return bytes(result) + (none + root).ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def _blocks(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield blocks, each with its last key."""
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in entries:
        part.append((key, value))
        size += len(key) + len(value)
        if size >= BLOCK:
            yield key, _block(part)
            part, size = [], 0
    if part:
        yield part[-1][0], _block(part)


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    body, restarts, before = bytearray(), [0], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number and number % RESTART == 0:
            restarts.append(len(body))
        elif number:
            shared = _shared(before, key)
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    for number in [*restarts, len(restarts)]:
        body += number.to_bytes(4, "little")
    return bytes(body)


def _shared(one: bytes, other: bytes) -> int:
    """Return how many bytes two keys have in common at their beginnings."""
    limit = min(len(one), len(other))
    return next((at for at in range(limit) if one[at] != other[at]), limit)


def _sealed(result: bytearray, block: bytes) -> bytes:
    """Put a block behind what is there, with its kind of compression and its checksum; return where it lies."""
    handle = varint(len(result)) + varint(len(block))
    content = block + b"\0"
    result += content + masked(google_crc32c.value(content)).to_bytes(4, "little")
    return handle
