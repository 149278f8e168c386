"""The file as a whole: where it begins, how long it is, and the structures that everything else is built of."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.formats.reading import Cursor

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 0xFFFFFFFFFFFFFFFF  # the address of what is not there
MAX_STEPS = 400_000  # blocks and entries that are looked at; a model of 10,000 variables takes about 230,000
MAX_TEXT = 16 << 20  # bytes of names and attributes in all
MAX_DEPTH = 16  # of trees
_HEAP_OBJECT = struct.Struct("<H6xQ")  # its number, how often it is used, its size


def start(data: np.ndarray) -> int:
    """Return where an HDF5 file begins in the bytes: at 0, 512, 1024, 2048 and so on; -1 if nowhere (II.A)."""
    places = [0, *(512 << power for power in range(12))]
    return next((place for place in places if data[place : place + 8].tobytes() == SIGNATURE), -1)


class File:
    """An HDF5 file: its bytes, and how much of it may still be looked at.

    Attributes:
      data: uint8 [n], from its superblock on; addresses count from there.
      where: the file, for the error messages.
      root: the address of the first group.
    """

    def __init__(self, data: np.ndarray, where: str) -> None:
        """Read the superblock (II.A).

        Args:
          data: uint8 [n], the whole file.
          where: the file, for the error messages.

        Raises:
          WeightsError: it is not an HDF5 file, is of an unknown version, or is cut short.
        """
        self.where = where
        self._steps = MAX_STEPS
        self._text = MAX_TEXT
        self._heap: tuple[int, dict[int, memoryview]] = (UNDEFINED, {})  # the collection that was read last
        base = start(data)
        if base < 0:
            raise WeightsError(f"{where} is not an HDF5 file: it does not begin with HDF5's signature")
        self.data = data[base:]
        self._view = self.data.data
        end, self.root = self._superblock(self.cursor(8))
        if end > len(data):
            raise WeightsError(f"{where} is cut short: it has {len(data):,} of {end:,} bytes; copy it again")

    def _superblock(self, cursor: Cursor) -> tuple[int, int]:
        version = cursor.number(1)
        cursor.take(4 if version < 2 else 0)
        if version > 3 or (cursor.number(1), cursor.number(1)) != (8, 8):
            raise WeightsError(
                f"{self.where}: HDF5 superblocks of version {version} and addresses that do not have 8 bytes "
                "are not read; write the file anew with h5py"
            )
        # Flags and sizes, the base address and one more; the end of the file, two more or none; the root group.
        cursor.take({0: 9, 1: 13, 2: 1, 3: 1}[version] + 16)
        end = cursor.number(8)
        cursor.take(16 if version < 2 else 0)
        return end, cursor.number(8)

    def cursor(self, address: int, signature: bytes = b"") -> Cursor:
        """Start to read a structure at an address, behind its signature.

        Raises:
          WeightsError: no such structure is there, or the file has more of them than it may.
        """
        self.step()
        if address >= len(self._view) or self._view[address : address + len(signature)] != signature:
            raise self.corrupt(f"a structure {signature.decode()} is missing at byte {address:,}")
        return Cursor(self._view, self.where, address + len(signature))

    def part(self, start: int, end: int) -> Cursor:
        """Start to read bytes of which it is known where they end.

        Raises:
          WeightsError: they end beyond the end of the file, or before they start.
        """
        if not start <= end <= len(self._view):
            raise self.corrupt(f"a structure at byte {start:,} goes beyond the end of the file")
        return Cursor(self._view[:end], self.where, start)

    def step(self) -> None:
        """Count one more entry; what runs in a loop ends here.

        Raises:
          WeightsError: there were MAX_STEPS already.
        """
        self._steps -= 1
        if self._steps < 0:
            raise self.corrupt("its structures run in a loop, or are far too many")

    def restart(self) -> None:
        """Count anew: an array in chunks may be read any number of times.

        Raises:
          WeightsError: the file has changed since it was opened.
        """
        buffers.checked(self.data)
        self._steps = MAX_STEPS

    def values(self, address: int, size: int) -> memoryview:
        """Read some bytes of values.

        Raises:
          WeightsError: they end beyond the end of the file, or the file has changed since it was opened.
        """
        self.cursor(address).take(size)
        return buffers.fetched(self.data[address : address + size]).data

    def corrupt(self, what: str) -> WeightsError:
        """Make the error for a structure that cannot be."""
        return WeightsError(f"{self.where} is corrupt: {what}")

    def text(self, raw: bytes | memoryview) -> str:
        """Decode a name or an attribute.

        Raises:
          WeightsError: it is not UTF-8, or there were MAX_TEXT bytes of text already.
        """
        self._text -= len(raw)
        if self._text < 0:
            raise self.corrupt(f"its texts take more than {MAX_TEXT:,} bytes")
        try:
            return bytes(raw).decode()
        except UnicodeDecodeError:
            raise self.corrupt(f"the text {bytes(raw[:40])!r} is not UTF-8") from None

    def heap_object(self, address: int, index: int) -> memoryview:
        """Return an object of a global heap collection (III.E), where texts of variable length lie."""
        if address != self._heap[0]:
            self._heap = (address, dict(self._heap_objects(address)))
        if index not in self._heap[1]:
            raise self.corrupt(f"a text is missing from the collection at byte {address:,}")
        return self._heap[1][index]

    def _heap_objects(self, address: int) -> Iterator[tuple[int, memoryview]]:
        cursor = self.cursor(address, b"GCOL")
        cursor.take(4)
        end = address + cursor.number(8)
        while cursor.position + 16 <= end:
            self.step()
            index, size = cursor.unpack(_HEAP_OBJECT)
            if index == 0:  # the free space at the end
                return
            yield index, cursor.take(size)
            cursor.take(-size % 8)

    def leaves(self, address: int, kind: int, key_size: int, depth: int = 0) -> Iterator[tuple[memoryview, int]]:
        """Walk a B-tree of version 1 (III.A.1).

        Args:
          address: of its root, or UNDEFINED for an empty tree.
          kind: 0 for groups, 1 for chunks.
          key_size: the bytes of a key.
          depth: how deep the walk has come.

        Yields:
          The key before each child of a leaf, and the address of the child.

        Raises:
          WeightsError: it is not such a tree.
        """
        if address == UNDEFINED:
            return
        cursor = self.cursor(address, b"TREE")
        if cursor.number(1) != kind or depth > MAX_DEPTH:
            raise self.corrupt("an index is damaged")
        level, used = cursor.number(1), cursor.number(2)
        cursor.take(16)
        for _ in range(used):
            self.step()
            key, child = cursor.take(key_size), cursor.number(8)
            if level:
                yield from self.leaves(child, kind, key_size, depth + 1)
            else:
                yield key, child
