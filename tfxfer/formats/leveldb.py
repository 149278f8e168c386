"""The sorted tables of LevelDB, in which TensorFlow keeps the index of a checkpoint.

Source: LevelDB's doc/table_format.md, and snappy's format_description.txt for compressed blocks.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import google_crc32c
import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.formats.protobuf import Bytes, varint

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
MAX_MEMORY = 32 << 20  # bytes for the entries of a table, which for small variables are some 350 and their key
ENTRY = 350


def masked(crc: int) -> int:
    """Mask a crc32c as LevelDB and TensorFlow do before they store it (leveldb/util/crc32c.h)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class Table:
    """A table in a file. Blocks are checked against their crc32c and unpacked when they are asked for."""

    def __init__(self, data: np.ndarray, where: str) -> None:
        """Read the footer and the index block.

        Args:
          data: uint8 [n], the whole file.
          where: the file, for the error messages.

        Raises:
          WeightsError: it is not a table, or the index is corrupt.
        """
        self._data = data
        self._where = where
        if len(data) < FOOTER or data[-8:].tobytes() != MAGIC:
            raise WeightsError(
                f"{where} is not an index of a checkpoint, or is cut short: its last 8 bytes are not LevelDB's"
            )
        footer = data[-FOOTER:-8].tobytes()
        _, position = self._handle(footer, 0)
        index, _ = self._handle(footer, position)
        blocks = list(self._entries(self._block(*index)))
        self._last_keys = [key for key, _ in blocks]
        self._handles = [self._handle(value, 0)[0] for _, value in blocks]

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """Yield all pairs of key and value, in the order of the keys."""
        total, previous = 0, None
        for handle in self._handles:
            for key, value in self._entries(self._block(*handle)):
                total = self._spent(total, key)
                if previous is not None and key <= previous:
                    raise WeightsError(f"{self._where} is corrupt: its keys are not in order")
                previous = key
                yield key, value

    def get(self, key: bytes) -> memoryview | None:
        """Return the value of one key, reading no more than the block that it lies in; None where there is none."""
        at = bisect.bisect_left(self._last_keys, key)
        if at == len(self._handles):
            return None
        return next((value for found, value in self._entries(self._block(*self._handles[at])) if found == key), None)

    def _handle(self, data: Bytes, position: int) -> tuple[tuple[int, int], int]:
        offset, position = varint(data, position, self._where)
        size, position = varint(data, position, self._where)
        return (offset, size), position

    def _block(self, offset: int, size: int) -> memoryview:
        # A block is followed by one byte for its compression and by the crc32c of block and byte.
        end = offset + size
        if end + 5 > len(self._data):
            raise WeightsError(f"{self._where} is corrupt: a block goes beyond the end of the file")
        raw = buffers.fetched(self._data[offset : end + 5])
        if masked(google_crc32c.value(raw[:-4])) != int.from_bytes(raw[-4:].tobytes(), "little"):
            raise WeightsError(f"{self._where} is corrupt: the block at byte {offset:,} fails its checksum")
        block, compression = raw[:-5].data, int(raw[-5])
        if compression == 0:
            return block
        if compression == 1:
            return memoryview(unsnap(block, self._where))
        raise WeightsError(f"{self._where} is compressed in a way ({compression}) that tfxfer does not know")

    def _entries(self, block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
        restarts = int.from_bytes(block[-4:], "little")
        end, position, key, total = len(block) - 4 * (restarts + 1), 0, b"", 0
        if end < 0:
            raise WeightsError(f"{self._where} is corrupt: a block is shorter than its restart table")
        while position < end:
            shared, position = varint(block, position, self._where)
            unshared, position = varint(block, position, self._where)
            size, position = varint(block, position, self._where)
            value = position + unshared
            if shared > len(key) or value + size > end:
                raise WeightsError(f"{self._where} is corrupt: an entry goes beyond the end of its block")
            key = key[:shared] + bytes(block[position:value])
            total = self._spent(total, key)
            position = value + size
            yield key, block[value:position]

    def _spent(self, total: int, key: bytes) -> int:
        # A key may repeat most of the one before it: a small block can announce keys without end.
        total += ENTRY + len(key)
        if total > MAX_MEMORY:
            raise WeightsError(f"{self._where} is corrupt or hostile: it holds more keys than any checkpoint")
        return total


def unsnap(data: Bytes, where: str) -> bytes:
    """Decompress one snappy block.

    Raises:
      WeightsError: the bytes are not a snappy block, or do not give the size that they announce.
    """
    size, position = varint(data, 0, where)
    # The densest element is a copy of 64 bytes that takes 3.
    if size > 22 * len(data):
        raise WeightsError(f"{where} is corrupt: {len(data):,} compressed bytes announce {size:,}")
    result = bytearray()
    while position < len(data):
        kind, length, position = data[position] & 3, data[position] >> 2, position + 1
        extra = _extra(kind, length)
        number = int.from_bytes(data[position : position + extra], "little")
        position += extra
        if kind == 0:
            count = (number if extra else length) + 1
            result += data[position : position + count]
            position += count
        else:
            offset, count = (length >> 3 << 8 | number, (length & 7) + 4) if kind == 1 else (number, length + 1)
            if not 0 < offset <= len(result):
                raise WeightsError(f"{where} is corrupt: a compressed block refers to bytes before its start")
            start = len(result) - offset
            # A copy may overlap what it writes: the bytes from `start` on then repeat.
            result += (bytes(result[start : start + count]) * (count // offset + 1))[:count]
        if len(result) > size or position > len(data):
            break
    if len(result) != size or position != len(data):
        raise WeightsError(f"{where} is corrupt: a compressed block does not give the {size:,} bytes that it announces")
    return bytes(result)


def _extra(kind: int, length: int) -> int:
    # The bytes of a length or an offset that follow the first byte of a snappy element.
    if kind == 0:
        return max(0, length - 59)
    return (0, 1, 2, 4)[kind]
