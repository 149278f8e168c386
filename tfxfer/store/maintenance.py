"""Look after a store as a whole: list, verify, merge, compact, collect garbage, and export.

Each of these may run beside processes that write to the store, since a shard is never changed once it is there. Only
`compact` and `collect` take files away, from processes that have a table open and read it too.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfxfer import files, names
from tfxfer.data.batches import chunks
from tfxfer.errors import DataError
from tfxfer.store import shards
from tfxfer.store.shards import Shard, list_records, read_record
from tfxfer.store.store import SHARD_ROWS, VERSION, Rows, Store, Table, open_table, read_about
from tfxfer.weights.writers.placing import placed

FULL_BYTES = 32 << 20  # a full shard
QUIET_SECONDS = 600.0  # a table or a file that changed later may still be written to
LEFT_OVER = (".workers-", ".beam-", ".gone-", "beam-temp-")


class TableInfo(NamedTuple):
    """What the files of a table say of it.

    Attributes:
      path: its folder, whose name is its address.
      about: what computes it.
      shards: how many there are.
      rows: how many different ones they hold.
      doubled: how many rows they hold beyond these.
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


def open_existing(path: str | os.PathLike[str]) -> Path:
    """Return the folder of a store, which must be there already.

    Raises:
      DataError: the folder is not a store, or a store of another version.
    """
    folder = Path(path)
    if not (folder / "store.json").is_file():
        raise DataError(f"{folder} is not a store: it has no store.json, which every store of version {VERSION} has")
    return Store(folder).path


def list_tables(store: Path) -> list[TableInfo]:
    """Return the tables of a store, by address.

    Raises:
      DataError: a record of a table is damaged.
    """
    return [_table_info(folder) for folder in _table_folders(store)]


def _table_folders(store: Path) -> list[Path]:
    return sorted(about.parent for about in store.glob("*/about.json"))


def _table_info(folder: Path) -> TableInfo:
    records = list_records(folder)
    keys = [key for record in records for key in read_record(record).keys]
    stats = [entry.stat() for entry in os.scandir(folder)]
    rows = len(set(keys))
    size, changed = sum(stat.st_size for stat in stats), max(stat.st_mtime for stat in stats)
    return TableInfo(folder, read_about(folder), len(records), rows, len(keys) - rows, size, changed)


def find_table(store: Path, prefix: str | None) -> TableInfo:
    """Return the table whose address begins with a prefix; without one, the only table.

    Raises:
      DataError: there is none, or more than one.
    """
    tables = list_tables(store)
    matching = [table for table in tables if table.path.name.startswith(prefix or "")]
    if len(matching) != 1:
        shown = [f"{table.path.name[:12]} ({table.about.get('tensor', '?')})" for table in matching or tables]
        which = f"beginning with {prefix}" if prefix else "told by `address`"
        raise DataError(f"{store}: {len(matching)} tables {which}, and one is wanted; it holds {names.listed(shown)}")
    return matching[0]


def verify(store: Path) -> Iterator[str]:
    """Yield what is wrong with each damaged file of a store, after reading every byte of it."""
    for folder in _table_folders(store):
        try:
            dtype = np.dtype(read_about(folder)["dtype"])
        except DataError as error:
            yield str(error)
            continue
        for record in list_records(folder):
            try:
                shards.check(read_record(record), dtype)
            except DataError as error:
                yield str(error)


def merge(store: Path, others: Sequence[Path]) -> int:
    """Copy the rows that other stores have and this one has not, a shard at a time; each shard is checked before.

    Returns:
      How many rows were new.

    Raises:
      DataError: a shard is damaged, or cannot be written; the shards before it were copied.
    """
    return sum(_merge_table(store, theirs) for other in others for theirs in _table_folders(other))


def _merge_table(store: Path, theirs: Path) -> int:
    about = read_about(theirs)
    ours = Table(store / theirs.name, about, np.dtype(about["dtype"]))
    before = len(ours)
    for record in list_records(theirs):
        shard = open_table(theirs, [record])
        keys = list(shard)
        ours.write(keys, Rows(shard, keys, shard.dtype)[np.arange(len(keys))], shard_rows=len(keys), by_content=True)
    return len(ours) - before


def compact(table: TableInfo, full_bytes: int = FULL_BYTES) -> tuple[int, int]:
    """Write the rows of small shards, and those that are held twice, anew in full shards; then remove the old ones.

    The new shards are whole before an old one goes: stopped at any moment, no row is lost, and the next call finishes.
    Whoever has opened the table before, to read it, must open it again.

    Args:
      table: what `list_tables` says of it.
      full_bytes: how large a shard is to be; a shard that is half as large already, and holds no row twice, stays.

    Returns:
      How many shards there were, and are.

    Raises:
      DataError: a shard is damaged, or cannot be written.
    """
    present = [read_record(record) for record in list_records(table.path)]
    old, kept = _to_join(present, full_bytes // 2)
    # Another process may have compacted the table since it was listed.
    if not old or (len(old) < 2 and not table.doubled):
        return len(present), len(present)
    source = open_table(table.path, [shard.path.with_suffix(".json") for shard in old])
    target = open_table(table.path, records=())  # What lies in old shards is not there for it, and is written again.
    keys = [key for key in source if key not in kept]
    shard_rows = max(1, full_bytes // max(1, source.dtype.itemsize * math.prod(source.row_shape)))
    new: set[Path] = set()
    for start in range(0, len(keys), shard_rows):
        part = keys[start : start + shard_rows]
        rows = Rows(source, part, source.dtype)[np.arange(len(part))]
        new.update(target.write(part, rows, shard_rows=len(part), by_content=True))
    _remove([shard.path for shard in old if shard.path not in new])  # A shard of the same rows has the same name.
    return len(present), len(list_records(table.path))


def _to_join(all_shards: Iterable[Shard], least: int) -> tuple[list[Shard], set[str]]:
    """Return the shards that are to go, and the keys of those that stay."""
    old, kept = [], set[str]()
    for shard in all_shards:
        doubled = not kept.isdisjoint(shard.keys) or len(set(shard.keys)) < len(shard.keys)
        if doubled or shard.path.stat().st_size < least:
            old.append(shard)
        else:
            kept.update(shard.keys)
    return old, kept


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.with_suffix(".json").unlink(missing_ok=True)  # First: without it, the other file counts for nothing.
        path.unlink(missing_ok=True)


def collect_garbage(store: Path, addresses: Sequence[str], days: float | None, *, dry_run: bool = False) -> list[str]:
    """Remove tables, and what killed processes have left behind.

    Args:
      store: the folder.
      addresses: tables go whose addresses begin with one of these.
      days: tables go to which nothing was written for so many days; None: no table goes by its age.
      dry_run: only say what would be removed.

    Returns:
      A line for each table or file that went, and for each table that stays because it was just written to.

    Raises:
      DataError: an address belongs to no table.
    """
    now = time.time()
    tables = list_tables(store)
    unknown = [prefix for prefix in addresses if not any(table.path.name.startswith(prefix) for table in tables)]
    if unknown:
        there = names.listed(table.path.name[:12] for table in tables) or "none"
        raise DataError(f"{store} has no table {names.listed(unknown)}; it has {there}")
    lines: list[str] = []
    for table in tables:
        named = table.path.name.startswith(tuple(addresses))
        old = days is not None and now - table.changed > 86400 * days
        if not (named or old):
            lines += _drop_all(_left_behind(table.path, now), dry_run)
        elif now - table.changed < QUIET_SECONDS:
            lines.append(f"kept {table.path}: written to {now - table.changed:.0f} s ago; try again in 10 minutes")
        else:
            lines += _drop_all([table.path], dry_run)
    return lines + _drop_all([path for path in store.iterdir() if _is_left(path, now)], dry_run)


def _left_behind(table: Path, now: float) -> list[Path]:
    """Return the parts that a killed writer left: files that were never renamed, and rows without a record."""
    whole = {record.stem for record in list_records(table)}
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


def export(folder: Path, out: Path) -> int:
    """Write a table's rows, in the order of their keys, for other programs.

    Args:
      folder: of the table.
      out: a new file. `.npy`: the rows, and beside it `OUT.keys.txt`, a key a line; `.tfrecord`: a tf.train.Example a
        row, with the features `key` (bytes), `values` (floats or integers) and `shape` (integers).

    Returns:
      How many rows.

    Raises:
      DataError: a file is there already, the name ends otherwise, or the table holds no row or is damaged.
    """
    named = out.with_name(f"{out.name}.keys.txt")
    paths = [named, out] if out.suffix == ".npy" else [out]
    there = [str(path) for path in paths if os.path.lexists(path)]
    if there:
        raise DataError(f"{' and '.join(there)} is there already; give another name")
    if out.suffix not in (".npy", ".tfrecord"):
        raise DataError(f"{out}: give a name that ends in .npy or .tfrecord")
    table = open_table(folder)
    keys = sorted(table)
    if not keys:
        raise DataError(f"{folder} holds no rows")
    with placed(paths, {}) as parts:
        (_write_npy if out.suffix == ".npy" else _write_records)(parts[-1], table, keys)
        if out.suffix == ".npy":
            parts[0].write_bytes("".join(f"{key}\n" for key in keys).encode())
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
