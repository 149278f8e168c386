"""Computed tensors on disk: rows that are found again by what computed them and from which bytes.

    STORE/store.json                     the format's version
    STORE/<address>/about.json           what computes these rows, for people to read
    STORE/<address>/<shard>.npy          up to 64 rows, memory-mapped when read
    STORE/<address>/<shard>.json         their keys, and the CRC-32C of the .npy and of itself

An address is a digest of the computation, a key a digest of an example. A shard counts once its .json is there, which
is written last; both are written beside and renamed. So any number of processes may fill a store at once and be killed
at any moment: a row that two of them computed is held twice and found once.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import resource
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from tfxfer import files
from tfxfer.errors import DataError

VERSION = 1
SHARD_ROWS = 64
SHARD_SECONDS = 10.0
# Each open shard of a table holds a file descriptor: a quarter of those that a process may have, often 1,024.
OPEN_SHARDS = min(max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, 256), 8192)


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
            # Listed before the marker is looked for: another process may be making the same store.
            foreign = any(entry.name[0] != "." for entry in self.path.iterdir())
            if not marker.exists():
                if foreign:
                    raise DataError(f"{path} holds files and no store; give another --store")
                files.write_json(marker, {"version": VERSION})
        except OSError as error:
            raise DataError(f"cannot make a store in {path}: {error.strerror}; give another --store") from None
        try:
            version = json.loads(marker.read_bytes())["version"]
        except (OSError, ValueError, TypeError, KeyError):
            raise DataError(f"{marker} is damaged; give another --store") from None
        if version != VERSION:
            raise DataError(
                f"the store {path} was written by another version (format {version}, this one reads {VERSION}); "
                "give another --store, or delete it to compute its rows again"
            )

    def table(self, address: str, about: Mapping[str, Any], dtype: np.dtype) -> Table:
        """Return the rows of one computation, those that are there already among them.

        Args:
          address: a digest of the computation, as hexadecimal digits.
          about: what it is, for people to read; its `tensor` names it in messages.
          dtype: the dtype on disk.

        Raises:
          DataError: a record of a shard is damaged.
        """
        return Table(self.path / address, about, dtype)


class Table:
    """The rows of one computation.

    Attributes:
      path: the folder.
      about: what computes the rows.
      dtype: the dtype on disk.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], dtype: np.dtype) -> None:
        """Read the keys of what is there; see `Store.table`."""
        self.path, self.about, self.dtype = path, about, np.dtype(dtype)
        self._shards: list[tuple[Path, int]] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._headers: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._open: dict[int, np.ndarray] = {}
        for record in sorted(file for file in path.glob("*.json") if file.name != "about.json"):
            self._admit(record.with_suffix(".npy"), *keys_in(record))

    def _admit(self, path: Path, keys: Sequence[str], crc32c: int) -> None:
        for offset, key in enumerate(keys):
            self._places.setdefault(key, (len(self._shards), offset))
        self._shards.append((path, crc32c))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row; there must be one."""
        return self.shard(0).shape[1:]

    def place(self, key: str) -> tuple[int, int]:
        """Return the number of the shard that holds a key's row, and where in it.

        Raises:
          KeyError: there is no such row.
        """
        return self._places[key]

    def shard(self, number: int) -> np.ndarray:
        """Return all rows of a shard, memory-mapped; it is checked when it is first read.

        Raises:
          DataError: it is damaged or gone.
        """
        rows = self._open.get(number)
        if rows is None:
            while len(self._open) >= OPEN_SHARDS:
                del self._open[next(iter(self._open))]
            rows = self._open[number] = self._map(number)
        return rows

    def _map(self, number: int) -> np.ndarray:
        path, crc32c = self._shards[number]
        try:
            if number not in self._headers:
                if google_crc32c.value(path.read_bytes()) != crc32c:
                    raise ValueError("its checksum is wrong")
                mapped = np.load(path, mmap_mode="r", allow_pickle=False)
                if mapped.dtype != self.dtype:
                    raise ValueError(f"its rows are {mapped.dtype}, not {self.dtype}")
                self._headers[number] = mapped.offset, mapped.shape
            offset, shape = self._headers[number]
            # A memmap's own indexing is several times slower than an array's.
            return np.memmap(path, self.dtype, "r", offset, shape).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from None

    def write(
        self, keys: Sequence[str], rows: np.ndarray, *, shard_rows: int | None = None, by_content: bool = False
    ) -> None:
        """Write the rows that are not there yet, in shards, each whole or not at all.

        Args:
          keys: one a row.
          rows: [m, ...]; cast to the table's dtype.
          shard_rows: how many a shard has; `SHARD_ROWS` unless told.
          by_content: name shards by what they hold, not by the time: whoever writes the same again replaces them by
            the same bytes.

        Raises:
          DataError: the disk is full, the folder cannot be written, or a number is too large for the dtype.
        """
        new = [place for place, key in enumerate(keys) if key not in self]
        if len(new) < len(keys):
            keys, rows = [keys[place] for place in new], rows[new]
        shard_rows = shard_rows or SHARD_ROWS
        count = shard_rows or SHARD_ROWS
        for start in range(0, len(keys), count):
            part = slice(start, start + count)
            self._write_shard(keys[part], self._cast(rows[part]), by_content)

    def _cast(self, rows: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            cast = np.asarray(rows, self.dtype, "C")
        lost = np.isinf(cast) & ~np.isinf(rows) if self.dtype == np.float16 else np.zeros(0, bool)
        if lost.any():
            raise DataError(
                f"{self.about.get('tensor', self.path)} reaches {np.abs(rows[lost]).max():g}, and float16 no more "
                f"than {np.finfo(np.float16).max}; keep float32"
            )
        return cast

    def _write_shard(self, keys: Sequence[str], rows: np.ndarray, by_content: bool) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
        data = b"".join([header.getvalue(), rows.data])  # np.save would copy it three times.
        crc32c = google_crc32c.value(data)
        record = {"keys": list(keys), "npy_crc32c": crc32c, "crc32c": _crc32c_of(keys, crc32c)}
        # The rows are part of the name: of two processors that differ in the last bits, neither may replace the
        # other's .npy beside its own .json.
        content = hashlib.sha256(json.dumps(record).encode()).hexdigest()[:32]
        name = content if by_content else f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"
        path = self.path / f"{name}.npy"
        try:
            if not (self.path / "about.json").exists():
                self.path.mkdir(exist_ok=True)
                about = {**self.about, "row_shape": rows.shape[1:], "dtype": self.dtype.name}
                files.write_json(self.path / "about.json", about)
            files.write_bytes(path, data)
            files.write_json(path.with_suffix(".json"), record)
        except OSError as error:
            raise DataError(
                f"cannot write to the store {self.path.parent}: {error.strerror}; what was written before is kept, "
                "and the same command goes on from there"
            ) from None
        self._admit(path, keys, crc32c)


class Rows:
    """The rows of one tensor for some examples, in their order: `rows[indices]` reads these and no others.

    Attributes:
      shape: [n, ...], n the number of examples.
      dtype: what indexing gives, whatever the dtype on disk.
    """

    def __init__(self, table: Table, keys: Sequence[str], dtype: np.dtype) -> None:
        """Take rows of a table.

        Args:
          table: where they lie; it must hold a row for each key.
          keys: one an example.
          dtype: what indexing is to give.
        """
        self._table = table
        self._places = np.array([table.place(key) for key in keys], np.int64).reshape(-1, 2)
        self.dtype = np.dtype(dtype)
        self.shape = (len(keys), *table.row_shape)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        places = self._places[indices].tolist()
        out = np.empty((len(places), *self.shape[1:]), self.dtype)
        for row, (shard, offset) in enumerate(places):
            out[row] = self._table.shard(shard)[offset]
        return out

    def subset(self, indices: np.ndarray) -> Rows:
        """Return some of the rows (integers [m]), in that order, still on disk."""
        chosen = copy.copy(self)
        chosen._places = self._places[indices]
        chosen.shape = (len(chosen._places), *self.shape[1:])
        return chosen


class Writer:
    """Gathers rows of several tables and writes shards of them every 64 rows or 10 s, whichever is first."""

    def __init__(self, tables: Sequence[Table], pool: ThreadPoolExecutor) -> None:
        """Begin with nothing gathered; see `writer`."""
        self._tables, self._pool = tables, pool
        self._writing: Future[None] | None = None
        self._clear()

    def _clear(self) -> None:
        self._keys: list[str] = []
        self._rows: list[list[np.ndarray]] = [[] for _ in self._tables]
        self._began = time.monotonic()

    def add(self, keys: Sequence[str], rows: Sequence[np.ndarray]) -> None:
        """Add rows: for each table an array [m, ...], one row a key.

        Raises:
          DataError: what was added before cannot be written.
        """
        self._wait()
        self._keys += keys
        for gathered, values in zip(self._rows, rows, strict=True):
            gathered.append(values)
        if len(self._keys) >= SHARD_ROWS or time.monotonic() - self._began > SHARD_SECONDS:
            self._flush()

    def finish(self) -> None:
        """Write what is gathered, and wait until it is written."""
        self._wait()
        if self._keys:
            self._flush()
        self._wait()

    def _flush(self) -> None:
        self._writing = self._pool.submit(_write, self._tables, self._keys, self._rows)
        self._clear()

    def _wait(self) -> None:
        if self._writing:
            self._writing.result()


@contextlib.contextmanager
def writer(tables: Sequence[Table]) -> Iterator[Writer]:
    """Open a writer; what it has gathered when the block ends, in whatever way, is written.

    It writes in a thread while the next rows are computed, and takes these once it is done: what a kill can lose is one
    shard.
    """
    with ThreadPoolExecutor(1) as pool:
        gathering = Writer(tables, pool)
        try:
            yield gathering
        finally:
            gathering.finish()


def _write(tables: Sequence[Table], keys: Sequence[str], rows: Sequence[Sequence[np.ndarray]]) -> None:
    for table, parts in zip(tables, rows, strict=True):
        table.write(keys, np.concatenate(parts))


def keys_in(path: Path) -> tuple[list[str], int]:
    """Return the keys of a shard and the checksum of its rows, from the record of it."""
    try:
        record = json.loads(path.read_bytes())
        keys, of_npy = record["keys"], record["npy_crc32c"]
        if record["crc32c"] != _crc32c_of(keys, of_npy):
            raise ValueError("its checksum is wrong")
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    except (KeyError, TypeError):
        raise _damaged(path, "it is no record of a shard") from None
    return keys, of_npy


def _crc32c_of(keys: Iterable[str], of_npy: int) -> int:
    return google_crc32c.value("\n".join([str(of_npy), *keys]).encode())


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is damaged: {why}; delete {path.with_suffix('.npy')} and {path.with_suffix('.json')}, "
        "and their rows are computed again"
    )
