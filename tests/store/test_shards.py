"""A shard: nothing damaged is ever taken for a row, and rows that lie together are read at once."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.store.test_store import keys, numbers, quick, read, rows, shards, small, table  # noqa: F401
from tfxfer.errors import DataError
from tfxfer.store import store
from tfxfer.store.store import Rows


def complaint(folder):
    try:
        read(folder)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_flipped_bit_is_found_and_the_files_to_delete_are_named(tmp_path, suffix):
    path = small(tmp_path).with_suffix(suffix)
    good, whole = read(tmp_path), path.read_bytes()
    cure = f"; delete {path.with_suffix('.npy')} and {path.with_suffix('.json')}, and their rows are computed again"
    messages = []
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        message = complaint(tmp_path)
        if message:
            messages.append(message)
        else:  # Between two keys, a line feed may become another kind of space.
            assert suffix == ".json"
            assert read(tmp_path) == good
    assert all(message.startswith(f"{path} is damaged: ") and message.endswith(cure) for message in messages)
    assert len(messages) > 0.9 * len(whole)


@pytest.mark.parametrize(
    ("suffix", "data", "why"),
    [
        (".npy", None, "No such file"),
        (".npy", b"", "its checksum is wrong"),
        (".json", b"", "Expecting value"),
        (".json", b"[]", "it is not a record of a shard"),
        (".json", b"{}", "it is not a record of a shard"),
        (".json", b'{"keys": [1], "npy_crc32c": 0, "crc32c": 0}', "it is not a record of a shard"),
        (".json", b'{"keys": ["a"], "npy_crc32c": 0, "crc32c": 0}', "its checksum is wrong"),
        (".json", b"\xff", "decode"),
    ],
)
def test_a_damaged_file_is_named_with_the_cure(tmp_path, suffix, data, why):
    path = small(tmp_path).with_suffix(suffix)
    good = read(tmp_path)
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path} is damaged: .*{why}.*; delete .*\.npy and .*\.json, and their rows"):
        read(tmp_path)
    for file in (path.with_suffix(".npy"), path.with_suffix(".json")):
        file.unlink(missing_ok=True)
    assert read(tmp_path) == {}
    table(tmp_path).write(keys(3), numbers(3, 2))
    assert read(tmp_path) == good


@pytest.mark.parametrize("length", [1, 64, 128, 140])
def test_a_truncated_shard_is_refused(tmp_path, length):
    path = small(tmp_path)
    os.truncate(path, length)
    with pytest.raises(DataError, match=f"{path} is damaged: its checksum is wrong; delete"):
        read(tmp_path)


def test_rows_of_another_dtype_are_refused(tmp_path):
    path = small(tmp_path)
    with pytest.raises(DataError, match=f"{path} is damaged: its rows are float32, not float64; delete"):
        rows(table(tmp_path, "float64"), keys(1))


def test_a_shard_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_ROWS", 1)
    monkeypatch.setattr(store, "OPEN_SHARDS", 1)
    table(tmp_path).write(keys(2), numbers(2, 2))
    held = table(tmp_path)
    rows(held, keys(2))
    path = shards(held)[0]
    os.truncate(path, 100)
    with pytest.raises(DataError, match=f"{path} is damaged: .*; delete"):
        rows(held, keys(1))


def test_a_shard_without_its_record_does_not_count(tmp_path):
    """A kill between the two files leaves just that."""
    path = small(tmp_path)
    path.with_suffix(".json").unlink()
    assert read(tmp_path) == {}
    table(tmp_path).write(keys(3), numbers(3, 2))
    assert len(read(tmp_path)) == 3


def test_rows_that_lie_behind_each_other_are_read_at_once(tmp_path, monkeypatch):
    values = numbers(150, 2)
    table(tmp_path).write(keys(150), values)
    held = Rows(table(tmp_path), keys(150), np.float32)
    calls, preadv = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *given: (calls.append(given), preadv(*given))[1])
    assert np.array_equal(held[np.arange(150)], values)
    assert len(calls) == 3
    order = np.array([3, 4, 5, 5, 6, 2, 64, 63])
    assert np.array_equal(held[order], values[order])
    assert len(calls) == 3 + 5


AT_EXIT = """
import sys, numpy as np
from tfxfer.store.store import Rows, Store
table = Store(sys.argv[1]).table("ab", {}, np.float32)
table.write([str(k) for k in range(200)], np.zeros((200, 3), np.float32))
rows = Rows(table, [str(k) for k in range(200)], np.float32)
rows[np.arange(200)]
shard = next(iter(table._open.values()))
import os
del os.close, os
sys.modules["os"].__dict__.clear()
"""


def test_shards_that_are_open_when_the_interpreter_ends_say_nothing(tmp_path):
    """A module's names are gone before what lies in it is let go of."""
    done = subprocess.run([sys.executable, "-c", AT_EXIT, str(tmp_path / "s")], capture_output=True, text=True)
    assert "Shard" not in done.stderr
    assert done.returncode == 0
