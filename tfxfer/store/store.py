"""The feature store: computed rows on disk, found again by the computation and by the bytes of the example.

    STORE/store.json                     the format's version
    STORE/<address>/about.json           a description of the computation, for people to read
    STORE/<address>/<shard>.npy          up to 64 rows
    STORE/<address>/<shard>.json         their keys, and the CRC-32C of the .npy and of itself

An address is a digest of the computation, a key a digest of an example. A shard counts once its .json is there, which
is written last; both are written beside and renamed. So any number of processes may fill a store at once and be killed
at any moment: a row that two of them computed is held twice and found once.
"""

from __future__ import annotations

import copy
import json
import math
import os
import resource
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer import files
from tfxfer.errors import DataError
from tfxfer.formats.buffers import aligned
from tfxfer.store import shards
from tfxfer.store.shards import Layout, OpenShard, Shard

VERSION = 1
SHARD_ROWS = 64
# Of the file descriptors that a process may have, often 1,024, a quarter is for the open shards of a table.
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
                    raise DataError(f"{path} holds files and no store; give another `store`")
                files.write_json(marker, {"version": VERSION})
        except OSError as error:
            raise DataError(f"cannot make a store in {path}: {error.strerror}; give another `store`") from None
        try:
            version = json.loads(marker.read_bytes())["version"]
        except (OSError, ValueError, TypeError, KeyError):
            raise DataError(f"{marker} is damaged; give another `store`") from None
        if version != VERSION:
            raise DataError(
                f"the store {path} was written by another version (format {version}, this one reads {VERSION}); "
                "give another `store`, or delete it to compute its rows again"
            )

    def table(self, address: str, about: Mapping[str, Any], dtype: np.dtype) -> Table:
        """Return the rows of one computation, those that are there already among them.

        Args:
          address: a digest of the computation, as hexadecimal digits.
          about: a description of it, for people to read; its `tensor` names it in messages.
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

    def __init__(
        self, path: Path, about: Mapping[str, Any], dtype: np.dtype, records: Iterable[Path] | None = None
    ) -> None:
        """Read the keys of the rows that are there; see `Store.table`.

        Args:
          path: the folder.
          about: what computes the rows.
          dtype: the dtype on disk.
          records: the records of the shards to open; default: all in the folder. Rows of other shards count as absent.
        """
        self.path, self.about, self.dtype = path, about, np.dtype(dtype)
        self._shards: list[Shard] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._layouts: dict[int, Layout] = {}
        self._open: dict[int, OpenShard] = {}
        self._opening = threading.Lock()
        self._unflushed: list[Path] = []
        for record in shards.list_records(path) if records is None else records:
            self._admit(shards.read_record(record))

    def _admit(self, shard: Shard) -> None:
        for offset, key in enumerate(shard.keys):
            self._places.setdefault(key, (len(self._shards), offset))
        self._shards.append(shard)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """Go through the keys, each once."""
        return iter(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of a row; there must be one."""
        return self._layout(0).shape[1:]

    def place(self, key: str) -> tuple[int, int]:
        """Return the number of the shard that holds a key's row, and where in it.

        Raises:
          KeyError: the table has no such row.
        """
        return self._places[key]

    def read(self, number: int, first: int, out: memoryview) -> None:
        """Fill a buffer of bytes with rows of a shard, beginning at row `first`; it is checked when it is first read.

        Raises:
          DataError: it is damaged or gone.
        """
        shard = self._open.get(number)
        if shard is None:
            layout = self._layout(number)
            with self._opening:  # One thread may read training's batches ahead, and another those of validation.
                while len(self._open) >= OPEN_SHARDS:
                    del self._open[next(iter(self._open))]
                shard = self._open[number] = OpenShard(self._shards[number].path, layout)
        shard.read(first, out)

    def _layout(self, number: int) -> Layout:
        layout = self._layouts.get(number)
        if layout is None:
            layout = self._layouts[number] = shards.check(self._shards[number], self.dtype)
        return layout

    def write(
        self,
        keys: Sequence[str],
        rows: np.ndarray,
        *,
        shard_rows: int | None = None,
        by_content: bool = False,
        flush: bool = True,
    ) -> list[Path]:
        """Write the rows that are not there yet, in shards, each whole or not at all.

        Args:
          keys: one a row.
          rows: [m, ...]; cast to the table's dtype.
          shard_rows: how many rows a shard has; default: `SHARD_ROWS`.
          by_content: whether to name shards by what they hold, and not by the time: whoever writes the same rows again
            replaces them by the same bytes.
          flush: whether to return only when all is on disk, safe from a power cut; else call `flush` some time. A kill
            loses nothing that is written either way.

        Returns:
          The files of the new shards.

        Raises:
          DataError: the disk is full, the folder cannot be written, or a number is too large for the dtype.
        """
        new = [place for place, key in enumerate(keys) if key not in self]
        if len(new) < len(keys):
            keys, rows = [keys[place] for place in new], rows[new]
        count = shard_rows or SHARD_ROWS
        parts = [slice(start, start + count) for start in range(0, len(keys), count)]
        return [self._write_shard(keys[part], self._cast(rows[part]), by_content, flush) for part in parts]

    def flush(self) -> None:
        """Flush to disk what was written and not flushed yet.

        Raises:
          DataError: the disk is full; what cannot be flushed is removed.
        """
        written, self._unflushed = self._unflushed, []
        try:
            for path in written:
                shards.flush(path)
            if written:
                files.sync_folder(self.path)
        except OSError as error:
            raise self._unwritten(error) from None

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

    def _write_shard(self, keys: Sequence[str], rows: np.ndarray, by_content: bool, flush: bool) -> Path:
        try:
            if not (self.path / "about.json").exists():
                self.path.mkdir(exist_ok=True)
                about = {**self.about, "row_shape": rows.shape[1:], "dtype": self.dtype.name}
                files.write_json(self.path / "about.json", about)
            shard, layout = shards.write(self.path, keys, rows, by_content=by_content, flush=flush)
        except OSError as error:
            raise self._unwritten(error) from None
        if not flush:
            self._unflushed.append(shard.path)
        self._layouts[len(self._shards)] = layout
        self._admit(shard)
        return shard.path

    def _unwritten(self, error: OSError) -> DataError:
        return DataError(
            f"cannot write to the store {self.path.parent}: {error.strerror}; what was written before is kept, "
            "and the same command goes on from there"
        )


def read_about(folder: Path) -> dict[str, Any]:
    """Read the description of the computation in the folder of a table.

    Raises:
      DataError: its `about.json` is damaged or gone.
    """
    try:
        about = json.loads((folder / "about.json").read_bytes())
        np.dtype(about["dtype"])
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(
            f"{folder / 'about.json'} is damaged; delete the folder, and its rows are computed again"
        ) from None
    return about


def open_table(folder: Path, records: Iterable[Path] | None = None) -> Table:
    """Open the rows of a folder, by its `about.json`; `records` as `Table` takes them.

    Raises:
      DataError: `about.json` or a record of a shard is damaged.
    """
    about = read_about(folder)
    return Table(folder, about, np.dtype(about["dtype"]), records)


class Rows:
    """The rows of one tensor for some examples, in their order: `rows[indices]` reads these and no others.

    Attributes:
      shape: [n, ...], n the number of examples.
      dtype: what indexing gives, whatever the dtype on disk.
      keys: the key of each example.
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
        self.keys = tuple(keys)
        self.dtype = np.dtype(dtype)
        self.shape = (len(keys), *table.row_shape)

    @property
    def folder(self) -> Path:
        """Where the table lies."""
        return self._table.path

    @property
    def address(self) -> str:
        """The digest of what computed the rows."""
        return self._table.path.name

    @property
    def about(self) -> Mapping[str, Any]:
        """What computed the rows."""
        return self._table.about

    @property
    def row_bytes(self) -> int:
        """The bytes of a row on disk."""
        return self._table.dtype.itemsize * math.prod(self.shape[1:])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        places = self._places[indices].tolist()
        out = aligned((len(places), *self.shape[1:]), self._table.dtype)
        size = out.nbytes // max(1, len(places))
        memory = out.reshape(-1).view(np.uint8).data
        for begin, end in _runs(places):
            shard, first = places[begin]
            self._table.read(shard, first, memory[begin * size : end * size])
        return out.astype(self.dtype, copy=False)

    def subset(self, indices: np.ndarray) -> Rows:
        """Return some of the rows (integers [m]), in that order, still on disk."""
        subset, chosen = copy.copy(self), np.arange(len(self))[indices]
        subset._places = self._places[chosen]
        subset.keys = tuple(self.keys[index] for index in chosen.tolist())
        subset.shape = (len(subset._places), *self.shape[1:])
        return subset


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several parts, all of one tensor, behind each other, still on disk."""
    whole = copy.copy(parts[0])
    whole._places = np.concatenate([part._places for part in parts])
    whole.keys = tuple(key for part in parts for key in part.keys)
    whole.shape = (len(whole.keys), *whole.shape[1:])
    return whole


def _runs(places: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Yield where each run of rows that lie behind each other in a shard begins and ends."""
    begin, following = 0, None
    for end, (shard, offset) in enumerate(places):
        if end > begin and following != (shard, offset):
            yield begin, end
            begin = end
        following = shard, offset + 1
    if places:
        yield begin, len(places)
