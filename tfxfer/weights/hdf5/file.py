"""The file as a whole: where it begins, how long it is, and the structures that everything else is built of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.weights.files import Cursor

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 0xFFFFFFFFFFFFFFFF  # the address of what is not there
MAX_STEPS = 600_000  # blocks and entries that are looked at; a model of 10,000 variables takes about 250,000
MAX_TEXT = 16 << 20  # bytes of names and attributes in all
MAX_DEPTH = 16  # of trees


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
          WeightsError: it is no HDF5 file, is of an unknown version, or is cut short.
        """
        self.where = where
        self._steps = MAX_STEPS
        self._text = MAX_TEXT
        base = start(data)
        if base < 0:
            raise WeightsError(f"{where} is no HDF5 file: it does not begin with HDF5's signature")
        self.data = data[base:]
        self._view = memoryview(self.data)  # type: ignore[arg-type]
        end, self.root = self._superblock(self.cursor(8))
        if end > len(self.data):
            raise WeightsError(f"{where} is cut short: it has {len(self.data):,} of {end:,} bytes; copy it again")

    def _superblock(self, cursor: Cursor) -> tuple[int, int]:
        version = cursor.number(1)
        cursor.take(4 if version < 2 else 0)
        if version > 3 or (cursor.number(1), cursor.number(1)) != (8, 8):
            raise WeightsError(f"{self.where}: HDF5 superblocks of version {version} and addresses that do not have 8 bytes "
                               "are not read; write the file anew with h5py")
        # Flags and sizes; the base address and one more; the end of the file; one more; the root group.
        cursor.take({0: 9, 1: 13, 2: 1, 3: 1}[version] + 16)
        end, other, root = cursor.number(8), cursor.number(8), cursor.number(8)
        return end, cursor.number(8) if version < 2 else other if version < 0 else root
