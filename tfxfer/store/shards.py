"""A shard of a store: rows in a `.npy`, and beside it a record of their keys and checksums, which is written last."""

from __future__ import annotations

import hashlib
import io
import json
import math
import mmap
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np

from tfxfer import files
from tfxfer.errors import DataError


def write(
    folder: Path, keys: Sequence[str], rows: np.ndarray, *, by_content: bool, flush: bool
) -> tuple[Path, int, Layout]:
    """Write rows and then the record of them.

    Args:
      folder: of the table.
      keys: one a row.
      rows: [m, ...].
      by_content: name them by what they hold, not by the time.
      flush: have both on disk, safe from a power cut, before returning; else call `flush` with what is returned.

    Returns:
      The path of the rows, their CRC-32C, and where they lie in it.

    Raises:
      OSError: the disk is full, or the folder cannot be written.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
    data = b"".join([header.getvalue(), rows.data])  # np.save would copy it three times.
    crc32c = google_crc32c.value(data)
    record = json.dumps({"keys": list(keys), "npy_crc32c": crc32c, "crc32c": _crc32c_of(keys, crc32c)}).encode()
    # The rows are part of the name: of two processors that differ in the last bits, neither may replace the other's
    # .npy beside its own .json.
    content = hashlib.sha256(record).hexdigest()[:32]
    name = content if by_content else f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
    path = folder / f"{name}.npy"
    files.write_bytes(path, data, flush=flush)
    files.write_bytes(path.with_suffix(".json"), record, flush=flush)
    return path, crc32c, Layout(rows.shape, len(header.getvalue()), rows.nbytes // max(1, len(rows)))


def flush(path: Path) -> None:
    """Have a shard on disk; where that fails, it does not count any more.

    Raises:
      OSError: the disk is full.
    """
    record = path.with_suffix(".json")
    try:
        files.sync(path)
        files.sync(record)
    except OSError:
        record.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise


def keys_in(record: Path) -> tuple[list[str], int]:
    """Return the keys of a shard and the CRC-32C of its rows, from the record of it.

    Raises:
      DataError: it is damaged or gone.
    """
    try:
        found = json.loads(record.read_bytes())
        keys, of_npy = found["keys"], found["npy_crc32c"]
        if found["crc32c"] != _crc32c_of(keys, of_npy):
            raise ValueError("its checksum is wrong")
    except (OSError, ValueError) as error:
        raise damaged(record, str(error)) from None
    except (KeyError, TypeError):
        raise damaged(record, "it is no record of a shard") from None
    return keys, of_npy


def _crc32c_of(keys: Iterable[str], of_npy: int) -> int:
    return google_crc32c.value("\n".join([str(of_npy), *keys]).encode())


def damaged(path: Path, why: str) -> DataError:
    """Return the error of a shard whose rows or record cannot be used."""
    return DataError(
        f"{path} is damaged: {why}; delete {path.with_suffix('.npy')} and {path.with_suffix('.json')}, "
        "and their rows are computed again"
    )


class Layout(NamedTuple):
    """Where the rows lie in the file of a shard.

    Attributes:
      shape: [m, ...].
      offset: of the first row, in bytes.
      row_bytes: of one.
    """

    shape: tuple[int, ...]
    offset: int
    row_bytes: int


def checked(path: Path, crc32c: int, dtype: np.dtype) -> Layout:
    """Return where the rows of a shard lie, all of which is read once and compared with its CRC-32C.

    Raises:
      DataError: it is damaged, or holds something else.
    """
    try:
        data = path.read_bytes()
        if google_crc32c.value(data) != crc32c:
            raise ValueError("its checksum is wrong")
        header = io.BytesIO(data)
        if np.lib.format.read_magic(header) != (1, 0):
            raise ValueError("it is of another version of .npy")
        shape, fortran, found = np.lib.format.read_array_header_1_0(header)
        if found != dtype:
            raise ValueError(f"its rows are {found}, not {dtype}")
        layout = Layout(shape, header.tell(), dtype.itemsize * math.prod(shape[1:]))
        if fortran or not shape or len(data) != layout.offset + shape[0] * layout.row_bytes:
            raise ValueError("it does not hold as many bytes as its header says")
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from None
    return layout


class Shard:
    """An open shard, whose rows are read into memory of the caller's.

    They are not memory-mapped: what is read of a mapped file counts as memory of the process, and more and more rows
    would seem to need more and more of it.
    """

    __slots__ = ("_handle", "_layout", "_path")

    def __init__(self, path: Path, layout: Layout) -> None:
        """Open it.

        Raises:
          DataError: it is gone.
        """
        self._handle = -1
        self._path, self._layout = path, layout
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise damaged(path, str(error)) from None

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # By name, `os` may be gone: what is still open when the interpreter ends is let go of after its modules.
        if self._handle >= 0:
            close(self._handle)

    def read(self, first: int, out: memoryview) -> None:
        """Fill a buffer of bytes with the rows from one on.

        Raises:
          DataError: they are not there any more.
        """
        place, read = self._layout.offset + first * self._layout.row_bytes, 0
        while read < len(out):
            try:
                more = os.preadv(self._handle, [out[read:]], place + read)
            except OSError as error:
                raise damaged(self._path, str(error)) from None
            if not more:
                raise damaged(self._path, "it became shorter while it was read")
            read += more


def mapped(path: Path, layout: Layout, dtype: np.dtype) -> np.ndarray:
    """Return all rows of a shard, memory-mapped.

    Raises:
      DataError: it is gone, or shorter than it was.
    """
    try:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(memory, dtype, math.prod(layout.shape), layout.offset).reshape(layout.shape)
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from None
