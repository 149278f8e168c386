"""What is done to a store as a whole: looking at it, checking it, joining, tidying, and taking rows out.

Each of these may run beside processes that write to the store, since a shard is never changed once it is there. Only
`compact` and `collect` take files away, from processes that have a table open and read it too.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from tfxfer import files, names
from tfxfer.data.batches import chunks
from tfxfer.errors import DataError
from tfxfer.store.shards import keys_in
from tfxfer.store.store import SHARD_ROWS, VERSION, Rows, Store, Table

FULL_BYTES = 32 << 20  # a full shard
QUIET_SECONDS = 600.0  # a table or a file that changed later may still be written to
LEFT_OVER = (".workers-", ".beam-", ".gone-", "beam-temp-")


class Held(NamedTuple):
    """A table, as it lies on disk.

    Attributes:
      path: its folder, whose name is its address.
      about: what computes it.
      shards: how many there are.
      rows: how many different ones they hold.
      doubled: how many more they hold.
      size: of all its files, in bytes.
      changed: when a file of it last changed, in s since 1970.
    """

    path: Path
    about: dict[str, Any]
    shards: int
    rows: int
    doubled: int
    size: int
    changed: float

    def table(self) -> Table:
        """Open its rows."""
        return Table(self.path, self.about, np.dtype(self.about["dtype"]))


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the folder of a store, which must be there already.

    Raises:
      DataError: there is no store, or one of another version.
    """
    folder = Path(path)
    if not (folder / "store.json").is_file():
        raise DataError(f"{folder} is no store: it has no store.json, which every store of version {VERSION} has")
    return Store(folder).path


def tables(store: Path) -> list[Held]:
    """Return the tables of a store, by address.

    Raises:
      DataError: a record of one is damaged.
    """
    return [_held(about.parent) for about in sorted(store.glob("*/about.json"))]


def _held(path: Path) -> Held:
    about = _about(path)
    keys = [key for record in records(path) for key in keys_in(record)[0]]
    stats = [entry.stat() for entry in os.scandir(path)]
    rows = len(set(keys))
    size, changed = sum(one.st_size for one in stats), max(one.st_mtime for one in stats)
    return Held(path, about, len(records(path)), rows, len(keys) - rows, size, changed)


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads((path / "about.json").read_bytes())
        np.dtype(about["dtype"])
        return about
    except (OSError, ValueError, TypeError, KeyError):
        raise DataError(
            f"{path / 'about.json'} is damaged; delete the folder, and its rows are computed again"
        ) from None


def records(path: Path) -> list[Path]:
    """Return the records of the shards of a table."""
    return sorted(file for file in path.glob("[!.]*.json") if file.name != "about.json")


def chosen(store: Path, prefix: str | None) -> Held:
    """Return the table whose address begins so, or the only one.

    Raises:
      DataError: there is none, or more than one.
    """
    found = [held for held in tables(store) if held.path.name.startswith(prefix or "")]
    if len(found) != 1:
        held = [f"{one.path.name[:12]} ({one.about.get('tensor', '?')})" for one in found or tables(store)]
        what = f"beginning with {prefix}" if prefix else "told by `address`"
        raise DataError(f"{store}: {len(found)} tables {what}, and one is wanted; it holds {names.listed(held)}")
    return found[0]


def verify(store: Path) -> Iterator[str]:
    """Yield what is wrong with each damaged file of a store, after reading every byte of it."""
    for about in sorted(store.glob("*/about.json")):
        try:
            dtype = np.dtype(_about(about.parent)["dtype"])
        except DataError as error:
            yield str(error)
            continue
        for record in records(about.parent):
            try:
                _check_shard(record, dtype)
            except DataError as error:
                yield str(error)


def _check_shard(record: Path, dtype: np.dtype) -> None:
    """Read a shard, to see that it is whole."""
    keys, crc32c = keys_in(record)
    npy = record.with_suffix(".npy")
    both = f"delete it and {record.name}, and their rows are computed again"
    try:
        if google_crc32c.value(npy.read_bytes()) != crc32c:
            raise DataError(f"{npy} is damaged: its checksum is wrong; {both}")
        rows = np.load(npy, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise error if isinstance(error, DataError) else DataError(f"{npy} is damaged: {why}; {both}") from None
    if len(rows) != len(keys) or rows.dtype != dtype:
        raise DataError(f"{npy} is damaged: {len(rows)} rows of {rows.dtype} for {len(keys)} of {dtype}; {both}")


def merge(store: Path, others: Sequence[Path]) -> int:
    """Copy what other stores hold and this one does not, a shard at a time, checked on the way.

    Returns:
      How many rows were new.

    Raises:
      DataError: a shard is damaged, or cannot be written; those before it are there then.
    """
    new = 0
    for other in others:
        for theirs in sorted(other.glob("*/about.json")):
            about = _about(theirs.parent)
            ours = Table(store / theirs.parent.name, about, np.dtype(about["dtype"]))
            before = len(ours)
            for record in records(theirs.parent):
                _check_shard(record, ours.dtype)
                rows = np.load(record.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
                ours.write(keys_in(record)[0], rows, shard_rows=len(rows), by_content=True)
            new += len(ours) - before
    return new


def compact(held: Held, full_bytes: int = FULL_BYTES) -> tuple[int, int]:
    """Write the rows of small shards, and those that are held twice, anew in full shards; then remove the old ones.

    The new ones are whole before an old one goes: stopped at any moment, no row is lost, and the next call finishes.
    Whoever has opened the table before, to read it, must open it again.

    Args:
      held: the table.
      full_bytes: how large a shard is to be; what is half as large already, and holds no row twice, stays.

    Returns:
      How many shards there were, and are.

    Raises:
      DataError: a shard is damaged, or cannot be written.
    """
    found = {record: keys_in(record)[0] for record in records(held.path)}
    old, kept = _to_join(found, full_bytes // 2)
    table = held.table()
    if len(old) < 2 and not held.doubled:
        return len(found), len(found)
    keys = list(dict.fromkeys(key for record in old for key in found[record] if key not in kept))
    target = Table(held.path.with_name(f".none-{held.path.name}"), held.about, table.dtype)  # It has no row yet.
    target.path = held.path
    row_bytes = max(1, table.dtype.itemsize * int(np.prod(table.row_shape)))
    shard_rows = max(1, full_bytes // row_bytes)
    for start in range(0, len(keys), shard_rows):
        part = keys[start : start + shard_rows]
        rows = Rows(table, part, table.dtype)[np.arange(len(part))]
        target.write(part, rows, shard_rows=len(part), by_content=True)
    _remove(old, {path for path, _ in target._shards})
    return len(found), len(records(held.path))


def _to_join(found: dict[Path, list[str]], least: int) -> tuple[list[Path], set[str]]:
    """Return the records of the shards that are to go, and the keys of those that stay."""
    old, kept = [], set[str]()
    for record, keys in found.items():
        if record.with_suffix(".npy").stat().st_size < least or not kept.isdisjoint(keys) or len(set(keys)) < len(keys):
            old.append(record)
        else:
            kept.update(keys)
    return old, kept


def _remove(old: Sequence[Path], new: set[Path]) -> None:
    for record in old:
        npy = record.with_suffix(".npy")
        if npy not in new:  # A shard of the same rows has the same name.
            record.unlink(missing_ok=True)  # First: without it, the other file counts for nothing.
            npy.unlink(missing_ok=True)


def collect(store: Path, addresses: Sequence[str], days: float | None, *, dry_run: bool = False) -> list[str]:
    """Remove tables, and what killed processes have left behind.

    Args:
      store: the folder.
      addresses: tables whose addresses begin so go.
      days: tables to which nothing was written for so long go; None for no such.
      dry_run: say it only.

    Returns:
      A line for each table or file that went, or was to go and did not, since it was just written to.

    Raises:
      DataError: an address belongs to no table.
    """
    now = time.time()
    every = tables(store)
    unknown = [prefix for prefix in addresses if not any(held.path.name.startswith(prefix) for held in every)]
    if unknown:
        there = names.listed(one.path.name[:12] for one in every) or "none"
        raise DataError(f"{store} has no table {names.listed(unknown)}; it has {there}")
    said: list[str] = []
    for held in every:
        named = held.path.name.startswith(tuple(addresses))
        old = days is not None and now - held.changed > 86400 * days
        if not (named or old):
            said += _drop_all(_left_behind(held.path, now), dry_run)
        elif now - held.changed < QUIET_SECONDS:
            said.append(f"kept {held.path}: written to {now - held.changed:.0f} s ago; try again in 10 minutes")
        else:
            said += _drop_all([held.path], dry_run)
    return said + _drop_all([path for path in store.iterdir() if _is_left(path, now)], dry_run)


def _left_behind(table: Path, now: float) -> list[Path]:
    """Return the parts that a killed writer left: files that were never renamed, and rows without a record."""
    whole = {record.stem for record in records(table)}
    lonely = [file for file in table.glob("[!.]*.npy") if file.stem not in whole]
    return [file for file in [*table.glob(f".*{files.PART}"), *lonely] if _is_quiet(file, now)]


def _is_left(path: Path, now: float) -> bool:
    return path.name.startswith(LEFT_OVER) and _is_quiet(path, now)


def _is_quiet(path: Path, now: float) -> bool:
    # A job's folder is not written to while the job runs, which may take days.
    most = 7 * 86400 if path.name.startswith(LEFT_OVER) else QUIET_SECONDS
    return now - path.stat().st_mtime > most


def _drop_all(paths: Sequence[Path], dry_run: bool) -> list[str]:
    for path in [] if dry_run else paths:
        if path.is_dir():
            # Renamed first: a table is there or not, and never a part of one.
            gone = path.rename(path.with_name(f".gone-{path.name.lstrip('.')}"))
            shutil.rmtree(gone)
        else:
            path.unlink()
    return [f"{'would remove' if dry_run else 'removed'} {path}" for path in paths]


def export(held: Held, out: Path) -> int:
    """Write a table's rows, in the order of their keys, for other programs.

    Args:
      held: the table.
      out: a new file. `.npy`: the rows, and beside it `OUT.keys.txt`, a key a line; `.tfrecord`: a tf.train.Example a
        row, with the features `key` (bytes), `values` (floats or integers) and `shape` (integers).

    Returns:
      How many rows.

    Raises:
      DataError: the file is there, is of another kind, or the table holds no row or is damaged.
    """
    if out.exists():
        raise DataError(f"{out} is there already; give another name")
    if out.suffix not in (".npy", ".tfrecord"):
        raise DataError(f"{out}: give a name that ends in .npy or .tfrecord")
    table = held.table()
    keys = sorted(key for record in records(held.path) for key in keys_in(record)[0])
    keys = list(dict.fromkeys(keys))
    if not keys:
        raise DataError(f"{held.path} holds no rows")
    part = files.beside(out)
    try:
        (_write_npy if out.suffix == ".npy" else _write_records)(part, table, keys)
        if out.suffix == ".npy":
            files.write_bytes(out.with_name(f"{out.name}.keys.txt"), "".join(f"{key}\n" for key in keys).encode())
        files.sync(part)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return len(keys)


def _rows(table: Table, keys: Sequence[str]) -> Iterator[np.ndarray]:
    rows = Rows(table, keys, table.dtype)
    for chunk in chunks(len(keys), SHARD_ROWS):
        yield from rows[chunk]


def _write_npy(path: Path, table: Table, keys: Sequence[str]) -> None:
    shape = (len(keys), *table.row_shape)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=table.dtype, shape=shape)
    for place, row in enumerate(_rows(table, keys)):
        out[place] = row
    out.flush()


def _write_records(path: Path, table: Table, keys: Sequence[str]) -> None:
    import tensorflow.compat.v1 as tf

    shape = tf.train.Feature(int64_list=tf.train.Int64List(value=table.row_shape))
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        for key, row in zip(keys, _rows(table, keys), strict=True):
            if table.dtype.kind == "f":
                values = tf.train.Feature(float_list=tf.train.FloatList(value=row.ravel()))
            else:
                values = tf.train.Feature(int64_list=tf.train.Int64List(value=row.ravel()))
            name = tf.train.Feature(bytes_list=tf.train.BytesList(value=[key.encode()]))
            features = tf.train.Features(feature={"key": name, "values": values, "shape": shape})
            writer.write(tf.train.Example(features=features).SerializeToString())
