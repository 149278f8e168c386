"""Computed tensors on disk: rows that are found again by what computed them and from which bytes.

    STORE/store.json                     the format's version
    STORE/<address>/about.json           what computes these rows; dtype and shape of a row
    STORE/<address>/<shard>.npy          up to 64 rows, memory-mapped when read
    STORE/<address>/<shard>.json         their keys, and the CRC-32C of the .npy

An address is a digest of the computation, a key a digest of an example. A shard counts once its .json is there, which
is written last; both are written beside and renamed. So any number of processes may fill a store at once and be killed
at any moment: a row that two of them computed is held twice and found once.
"""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from tfxfer import files, names
from tfxfer.errors import DataError

VERSION = 1
SHARD_ROWS = 64
SHARD_SECONDS = 10.0


class Rows:
    """The rows of one tensor for some examples, in their order: `rows[indices]` reads these and no others.

    Attributes:
      shape: [n, ...], n the number of examples.
      dtype: what indexing gives, whatever the dtype on disk.
    """

    def __init__(self, table: Table, keys: Sequence[str], dtype: np.dtype) -> None:
        """Take rows of a table.

        Args:
          table: where they lie.
          keys: one an example.
          dtype: what indexing is to give.
        """
        self._table, self._keys = table, list(keys)
        self.dtype = np.dtype(dtype)
        self.shape = (len(self._keys), *table.row_shape)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for place, index in enumerate(indices):
            out[place] = self._table.row(self._keys[index])
        return out


class Table:
    """The rows of one computation.

    Attributes:
      path: the folder.
      row_shape: the shape of a row.
      dtype: the dtype on disk.
    """

    def __init__(self, path: Path, row_shape: Sequence[int], dtype: np.dtype) -> None:
        """Open what is there; see `Store.table`."""
        self.path, self.row_shape, self.dtype = path, tuple(row_shape), np.dtype(dtype)
        self._places: dict[str, tuple[str, int]] = {}
        self._sums: dict[str, int] = {}
        self._open: dict[str, np.ndarray] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look for shards that other processes have written since."""
        found = sorted(file.stem for file in self.path.glob("*.json") if file.stem != "about")
        for shard in found:
            if shard not in self._sums:
                self._admit(shard)

    def _admit(self, shard: str) -> None:
        record = _read_json(self.path / f"{shard}.json")
        try:
            keys, checksum = list(record["keys"]), int(record["crc32c"])
        except (KeyError, TypeError, ValueError):
            raise _damaged(self.path / f"{shard}.json", "it is no record of a shard") from None
        self._sums[shard] = checksum
        for offset, key in enumerate(keys):
            self._places.setdefault(key, (shard, offset))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def row(self, key: str) -> np.ndarray:
        """Return one row, memory-mapped; its shard is checked when it is first read.

        Raises:
          KeyError: there is no such row.
          DataError: the shard is damaged or gone.
        """
        shard, offset = self._places[key]
        if shard not in self._open:
            self._open[shard] = self._map(shard)
        return self._open[shard][offset]

    def _map(self, shard: str) -> np.ndarray:
        path = self.path / f"{shard}.npy"
        try:
            with path.open("rb") as file:
                checksum = google_crc32c.Checksum()
                for _ in checksum.consume(file, 1 << 20):
                    pass
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from None
        if int.from_bytes(checksum.digest(), "big") != self._sums[shard]:
            raise _damaged(path, "its checksum is wrong")
        if rows.shape[1:] != self.row_shape or rows.dtype != self.dtype:
            raise _damaged(path, f"its rows are {rows.dtype} {rows.shape[1:]}, not {self.dtype} {self.row_shape}")
        return rows.view(np.ndarray)  # A memmap's own indexing is several times slower.

    def write(self, keys: Sequence[str], rows: np.ndarray) -> None:
        """Write one shard, whole or not at all.

        Args:
          keys: one a row.
          rows: [m, ...] of the table's shape; cast to its dtype.

        Raises:
          DataError: the disk is full, or the folder cannot be written.
        """
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(rows, self.dtype), allow_pickle=False)
        data = buffer.getvalue()
        shard = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
        try:
            files.write_bytes(self.path / f"{shard}.npy", data)
            files.write_json(self.path / f"{shard}.json", {"keys": list(keys), "crc32c": google_crc32c.value(data)})
        except OSError as error:
            raise DataError(
                f"cannot write to the store {self.path.parent}: {error.strerror}; what was computed before is kept, "
                "and the same command goes on from there"
            ) from None
        self._admit(shard)


class Writer:
    """Gathers rows of several tables and writes a shard of each every 64 rows or 10 s, whichever is first."""

    def __init__(self, tables: Sequence[Table]) -> None:
        """Begin with nothing gathered."""
        self._tables = tables
        self._clear()

    def _clear(self) -> None:
        self._keys: list[str] = []
        self._rows: list[list[np.ndarray]] = [[] for _ in self._tables]
        self._began = time.monotonic()

    def add(self, keys: Sequence[str], rows: Sequence[np.ndarray]) -> None:
        """Add rows: for each table an array [m, ...], one row a key."""
        start = 0
        while start < len(keys):
            part = slice(start, start + SHARD_ROWS - len(self._keys))
            self._keys += keys[part]
            for gathered, values in zip(self._rows, rows, strict=True):
                gathered.append(values[part])
            if len(self._keys) >= SHARD_ROWS or time.monotonic() - self._began > SHARD_SECONDS:
                self.flush()
            start = part.stop

    def flush(self) -> None:
        """Write what is gathered."""
        if self._keys:
            for table, rows in zip(self._tables, self._rows, strict=True):
                table.write(self._keys, np.concatenate(rows))
        self._clear()


class Store:
    """A folder of tables.

    Attributes:
      path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a store, or make one.

        Raises:
          DataError: the folder holds something else, was written by another version, or cannot be written.
        """
        self.path = Path(path)
        marker = self.path / "store.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                if any(entry.name[0] != "." for entry in self.path.iterdir()):
                    raise DataError(f"{path} holds files and no store; give another --store")
                files.write_json(marker, {"version": VERSION})
        except OSError as error:
            raise DataError(f"cannot make a store in {path}: {error.strerror}; give another --store") from None
        version = _read_json(marker).get("version")
        if version != VERSION:
            raise DataError(
                f"the store {path} was written by another version (format {version}, this one reads {VERSION}); "
                "give another --store, or delete it to compute its rows again"
            )

    def table(self, address: str, about: Mapping[str, Any], row_shape: Sequence[int], dtype: np.dtype) -> Table:
        """Open the rows of one computation, or make room for them.

        Args:
          address: a digest of the computation, as hexadecimal digits.
          about: what it is, for people to read.
          row_shape: the shape of a row.
          dtype: the dtype on disk.
        """
        path = self.path / address
        path.mkdir(exist_ok=True)
        if not (path / "about.json").exists():
            record = {**about, "row_shape": list(row_shape), "dtype": np.dtype(dtype).name}
            files.write_json(path / "about.json", record)
        return Table(path, row_shape, dtype)


def missing(tables: Iterable[Table], keys: Iterable[str]) -> list[str]:
    """Return the keys that are not in all of the tables, each once, in order."""
    every = list(tables)
    return [key for key in dict.fromkeys(keys) if not all(key in table for table in every)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(value, dict):
        raise _damaged(path, "it is no JSON object")
    return value


def _damaged(path: Path, why: str) -> DataError:
    shard = names.listed([path.with_suffix(".npy"), path.with_suffix(".json")])
    return DataError(f"{path} is damaged: {why}; delete {shard}, and its rows are computed again")
