"""A shard of a store: rows in a `.npy`, and beside it a record of their keys and checksums, which is written last."""

from __future__ import annotations

import hashlib
import io
import json
import math
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


class Shard(NamedTuple):
    """A shard as its record describes it.

    Attributes:
      path: of the file of its rows; the record lies beside it and ends in `.json`.
      keys: of its rows, in their order.
      crc32c: of the whole file.
    """

    path: Path
    keys: Sequence[str]
    crc32c: int


class Layout(NamedTuple):
    """Where the rows lie in the file of a shard.

    Attributes:
      shape: [m, ...].
      offset: of the first row, in bytes.
      row_bytes: of one row.
    """

    shape: tuple[int, ...]
    offset: int
    row_bytes: int


def write(
    folder: Path, keys: Sequence[str], rows: np.ndarray, *, by_content: bool, flush: bool
) -> tuple[Shard, Layout]:
    """Write rows and then the record of them.

    Args:
      folder: of the table.
      keys: one a row.
      rows: [m, ...].
      by_content: whether to name the files by what they hold, and not by the time.
      flush: whether to have both on disk, safe from a power cut, before returning; else call `flush` with the path.

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
    return Shard(path, keys, crc32c), Layout(rows.shape, len(header.getvalue()), rows.nbytes // max(1, len(rows)))


def flush(path: Path) -> None:
    """Flush a shard to disk; where that fails, remove it.

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


def list_records(folder: Path) -> list[Path]:
    """Return the records of the shards of a table, in the order of their names."""
    return sorted(file for file in folder.glob("[!.]*.json") if file.name != "about.json")


def read_record(record: Path) -> Shard:
    """Read what a record says of its shard; the file of the rows is not opened.

    Raises:
      DataError: the record is damaged or gone.
    """
    try:
        fields = json.loads(record.read_bytes())
        keys, crc32c = fields["keys"], fields["npy_crc32c"]
        if fields["crc32c"] != _crc32c_of(keys, crc32c):
            raise ValueError("its checksum is wrong")
    except (OSError, ValueError) as error:
        raise damaged(record, str(error)) from None
    except (KeyError, TypeError):
        raise damaged(record, "it is not a record of a shard") from None
    return Shard(record.with_suffix(".npy"), keys, crc32c)


def _crc32c_of(keys: Iterable[str], of_npy: int) -> int:
    return google_crc32c.value("\n".join([str(of_npy), *keys]).encode())


def damaged(path: Path, why: str) -> DataError:
    """Return the error for a shard whose rows or record cannot be used."""
    return DataError(
        f"{path} is damaged: {why}; delete {path.with_suffix('.npy')} and {path.with_suffix('.json')}, "
        "and their rows are computed again"
    )


def check(shard: Shard, dtype: np.dtype) -> Layout:
    """Return where the rows of a shard lie, after reading the whole file and comparing it with the record.

    Raises:
      DataError: the file is damaged, or holds other rows.
    """
    try:
        data = shard.path.read_bytes()
        if google_crc32c.value(data) != shard.crc32c:
            raise ValueError("its checksum is wrong")
        header = io.BytesIO(data)
        if np.lib.format.read_magic(header) != (1, 0):
            raise ValueError("it is of another version of .npy")
        shape, fortran, stored = np.lib.format.read_array_header_1_0(header)
        if stored != dtype:
            raise ValueError(f"its rows are {stored}, not {dtype}")
        layout = Layout(shape, header.tell(), dtype.itemsize * math.prod(shape[1:]))
        if fortran or not shape or len(data) != layout.offset + shape[0] * layout.row_bytes:
            raise ValueError("it does not hold as many bytes as its header says")
        if shape[0] != len(shard.keys):
            raise ValueError(f"it has {shape[0]} rows for {len(shard.keys)} keys")
    except (OSError, ValueError) as error:
        raise damaged(shard.path, str(error)) from None
    return layout


class OpenShard:
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
        """Fill a buffer of bytes with rows, beginning at row `first`.

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
