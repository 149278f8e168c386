"""Maintenance: what a store says of itself, and that joining and tidying keep every row as it was."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfxfer.errors import DataError
from tfxfer.store import maintenance
from tfxfer.store.store import Rows, Store, Table

ABOUT = {"tensor": "pool5:0", "images": "uint8 (8, 8, 3)", "batch_size": 4, "tensorflow": "2.21.0"}


def fill(path: Path, address: str, keys: list[str], dtype: str = "float32", each: int = 3) -> Table:
    """Write a row for each key, made of it, a few a shard."""
    table = Store(path).table(address, ABOUT, np.dtype(dtype))
    values = np.array([[float(int(key, 36) % 1000), len(key)] for key in keys], dtype)
    table.write(keys, values, shard_rows=each)
    return table


def rows(path: Path) -> dict[str, dict[str, bytes]]:
    """Return the bytes of each row, by address and key."""
    found = {}
    for about in sorted(path.glob("*/about.json")):
        table = Table(about.parent, {}, np.dtype(json.loads(about.read_text())["dtype"]))
        found[about.parent.name] = {
            key: row.tobytes() for key, row in zip(table, Rows(table, [*table], table.dtype)[:], strict=True)
        }
    return found


KEYS = [f"k{number}" for number in range(10)]


@settings(max_examples=30)
@given(st.data())
def test_however_rows_lie_compacting_keeps_each_once(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("compact") / "s"
    (Store(path).path / "aa11").mkdir()
    for _ in range(data.draw(st.integers(1, 5))):
        keys = data.draw(st.lists(st.sampled_from(KEYS), min_size=1, unique=True))
        apart = Table(path / "none", ABOUT, np.dtype("f4"))
        apart.path = path / "aa11"
        values = np.array([[float(int(key, 36) % 1000), 2] for key in keys], "f4")
        apart.write(keys, values, shard_rows=data.draw(st.integers(1, 6)), by_content=data.draw(st.booleans()))
    wanted = rows(path)
    maintenance.compact(maintenance.list_tables(path)[0], data.draw(st.integers(100, 400)))
    assert rows(path) == wanted
    assert maintenance.list_tables(path)[0].doubled == 0


def test_a_compaction_that_is_stopped_loses_nothing(tmp_path, monkeypatch):
    fill(tmp_path / "s", "aa11", KEYS)
    wanted = rows(tmp_path / "s")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(maintenance, "_remove", stop)
    with pytest.raises(KeyboardInterrupt):
        maintenance.compact(maintenance.list_tables(tmp_path / "s")[0])
    monkeypatch.undo()
    assert rows(tmp_path / "s") == wanted
    assert maintenance.list_tables(tmp_path / "s")[0].doubled == 10
    assert maintenance.compact(maintenance.list_tables(tmp_path / "s")[0]) == (5, 1)
    assert rows(tmp_path / "s") == wanted


def test_compacting_what_another_process_has_compacted_changes_nothing(tmp_path):
    fill(tmp_path / "s", "aa11", KEYS[:4])
    fill(tmp_path / "more", "aa11", KEYS[2:6])
    for file in (tmp_path / "more" / "aa11").glob("[0-9]*"):
        file.rename(tmp_path / "s" / "aa11" / file.name)
    listed = maintenance.list_tables(tmp_path / "s")[0]
    assert listed.doubled == 2
    maintenance.compact(listed, 100)
    wanted, (compacted,) = rows(tmp_path / "s"), maintenance.list_tables(tmp_path / "s")
    assert maintenance.compact(listed, 100) == (compacted.shards, compacted.shards)
    assert rows(tmp_path / "s") == wanted


def damaged(path: Path) -> tuple[list[str], str]:
    """Return what `verify` and a merge of a store say is damaged."""
    try:
        maintenance.merge(path.with_name("new"), [path])
    except DataError as error:
        return list(maintenance.verify(path)), str(error)
    return list(maintenance.verify(path)), ""


def rewrite(record: Path, data: bytes, keys: list[str]) -> None:
    """Replace a shard by other bytes, with checksums that fit them."""
    crc32c = google_crc32c.value(data)
    whole = google_crc32c.value("\n".join([str(crc32c), *keys]).encode())
    record.write_text(json.dumps({"keys": keys, "npy_crc32c": crc32c, "crc32c": whole}))
    record.with_suffix(".npy").write_bytes(data)


def as_npy(rows: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, rows, version)
    return file.getvalue()


ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (as_npy(ROWS), ""),
        # numpy would read these all the same.
        (as_npy(ROWS, (2, 0)), "it is of another version of .npy"),
        (as_npy(np.asfortranarray(ROWS)), "it does not hold as many bytes as its header says"),
        (as_npy(ROWS) + b"more", "it does not hold as many bytes as its header says"),
        # These are whole, and not what the record or the table says.
        (as_npy(ROWS[:2]), "it has 2 rows for 3 keys"),
        (as_npy(ROWS.astype(np.float64)), "its rows are float64, not float32"),
        (b"no array", "the magic string is not correct"),
    ],
)
def test_a_shard_is_whole_or_damaged_for_whoever_reads_it(tmp_path, data, message):
    table = fill(tmp_path / "s", "aa11", ["a", "b", "c"])
    (record,) = table.path.glob("[!a]*.json")
    rewrite(record, data, ["a", "b", "c"])
    Store(tmp_path / "new")
    verified, merged = damaged(tmp_path / "s")
    assert [message in line for line in verified] == [True] * bool(message)
    assert message in merged
    if message:
        with pytest.raises(DataError, match=re.escape(message)):
            rows(tmp_path / "s")
    else:
        assert rows(tmp_path / "s") == rows(tmp_path / "new")
