"""The store: rows come back as they were written, whoever wrote them; nothing damaged is ever taken for a row."""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import signal
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.errors import DataError
from tfxfer.store import store
from tfxfer.store.shard_writer import writer
from tfxfer.store.store import Rows, Store

ADDRESS = "ab" * 32


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def table(folder, dtype="float32", address=ADDRESS):
    return Store(folder).table(address, {"tensor": "conv1:0"}, np.dtype(dtype))


def numbers(count, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def keys(count, start=0):
    return [f"key{index}" for index in range(start, start + count)]


def rows(table, keys, dtype=np.float32):
    return Rows(table, keys, dtype)[np.arange(len(keys))]


def shards(table):
    return sorted(table.path.glob("*.npy"))


# What is written is read.


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_rows_come_back_as_they_were_written(tmp_path, dtype, shape):
    values = (numbers(150, *shape) * 100).astype(dtype)
    table(tmp_path, dtype).write(keys(150), values)
    again = table(tmp_path, dtype)
    assert len(again) == 150
    assert again.row_shape == shape
    order = np.random.default_rng(1).permutation(150)
    read = Rows(again, keys(150), dtype)[order]
    assert read.dtype == dtype
    assert read.tobytes() == values[order].tobytes()


def test_float16_on_disk_is_read_as_the_dtype_of_the_tensor(tmp_path):
    values = numbers(5, 3)
    table(tmp_path, "float16").write(keys(5), values)
    read = rows(table(tmp_path, "float16"), keys(5))
    assert read.dtype == np.float32
    assert np.array_equal(read, values.astype(np.float16))
    assert np.load(shards(table(tmp_path))[0]).dtype == np.float16


def test_what_float16_cannot_hold_is_refused(tmp_path):
    values = np.float32([[1, 2], [-70000, np.inf]])
    message = "conv1:0 reaches 70000, and float16 no more than 65504.0; keep float32"
    with pytest.raises(DataError, match=re.escape(message)):
        table(tmp_path, "float16").write(keys(2), values)
    assert not len(table(tmp_path, "float16"))
    table(tmp_path, "float16").write(keys(2), np.float32([[1, 2], [np.nan, np.inf]]))
    assert np.isinf(rows(table(tmp_path, "float16"), keys(2))[1, 1])


def test_rows_are_indexed_as_an_array_is(tmp_path):
    values = numbers(150, 2)
    table(tmp_path).write(keys(150), values)
    held = Rows(table(tmp_path), keys(150), np.float32)
    assert (held.shape, held.dtype, len(held)) == ((150, 2), np.float32, 150)
    for indices in (
        np.array([149, 0, 0, 64]),
        np.array([-1]),
        slice(60, 70),
        np.arange(150) % 7 == 0,
        np.array([], int),
    ):
        assert np.array_equal(held[indices], values[indices])
    with pytest.raises(IndexError):
        held[np.array([150])]
    part = held.subset(np.array([140, -147]))
    assert (part.shape, part.keys) == ((2, 2), (held.keys[140], held.keys[3]))
    assert np.array_equal(part[np.array([1])], values[[3]])
    part = held.subset(np.arange(150) % 7 == 0)
    assert part.keys == held.keys[::7]
    assert np.array_equal(part[:], values[::7])


def test_a_key_may_stand_for_several_examples(tmp_path):
    values = numbers(2, 3)
    table(tmp_path).write(["a", "b"], values)
    assert np.array_equal(rows(table(tmp_path), ["b", "a", "b"]), values[[1, 0, 1]])


def test_a_key_that_is_not_there_is_a_key_error(tmp_path):
    table(tmp_path).write(["a"], numbers(1, 3))
    with pytest.raises(KeyError):
        Rows(table(tmp_path), ["b"], np.float32)


def test_a_folder_of_rows_says_what_they_are(tmp_path):
    table(tmp_path).write(["a"], numbers(1, 3))
    about = json.loads((tmp_path / ADDRESS / "about.json").read_text())
    assert about == {"tensor": "conv1:0", "row_shape": [3], "dtype": "float32"}


def test_nothing_is_made_for_a_table_without_rows(tmp_path):
    assert not len(table(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["store.json"]


def test_addresses_are_kept_apart(tmp_path):
    table(tmp_path, address="aa").write(["a"], np.float32([[1]]))
    table(tmp_path, address="bb").write(["a"], np.float32([[2]]))
    assert rows(table(tmp_path, address="aa"), ["a"]) == 1
    assert rows(table(tmp_path, address="bb"), ["a"]) == 2


# Shards.


def test_a_shard_has_at_most_64_rows(tmp_path):
    written = table(tmp_path)
    written.write(keys(150), numbers(150, 2))
    assert [len(np.load(file)) for file in shards(written)] == [64, 64, 22]


def test_rows_that_are_there_are_not_written_again(tmp_path):
    values = numbers(100, 2)
    table(tmp_path).write(keys(50), values[:50])
    again = table(tmp_path)
    again.write(keys(100), values)
    assert [len(np.load(file)) for file in shards(again)] == [50, 50]
    assert np.array_equal(rows(again, keys(100)), values)


def test_two_writers_may_write_the_same_rows_which_are_found_once(tmp_path):
    values = numbers(100, 2)
    first, second = table(tmp_path), table(tmp_path)
    first.write(keys(60), values[:60])
    second.write(keys(60, 40), values[40:])
    assert (len(first), len(second), len(table(tmp_path))) == (60, 60, 100)
    assert np.array_equal(rows(table(tmp_path), keys(100)), values)


def test_more_shards_than_a_process_may_open_files_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_ROWS", 1)
    monkeypatch.setattr(store, "OPEN_SHARDS", 5)
    values = numbers(40, 3)
    table(tmp_path).write(keys(40), values)
    again = table(tmp_path)
    gc.collect()  # what other tests left open
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert np.array_equal(rows(again, keys(40)), values)
    assert len(os.listdir("/proc/self/fd")) - before == 5


def test_reading_and_writing_take_memory_for_a_shard_and_not_for_the_table(tmp_path):
    """5,000 rows of 2,500 floats are 50 MB, a shard 0.64 MB."""
    values = numbers(50, 2500)
    tracemalloc.start()
    held = table(tmp_path)
    with writer([held]) as gathering:
        for start in range(0, 5000, 50):
            gathering.add(keys(50, start), [values + start])
    read = Rows(held, keys(5000), np.float32)
    for start in range(0, 5000, 50):
        assert np.array_equal(read[np.arange(start, start + 50)], values + start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


# Damage.


def small(folder):
    table(folder).write(keys(3), numbers(3, 2))
    (path,) = shards(table(folder))
    return path


def read(folder):
    held = table(folder)
    return {key: rows(held, [key]).tobytes() for key in held}


# What is not a store.


def test_a_store_of_another_version_is_refused(tmp_path):
    small(tmp_path)
    (tmp_path / "store.json").write_text('{"version": 2}')
    message = (
        f"the store {tmp_path} was written by another version (format 2, this one reads 1); give another `store`, or"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        Store(tmp_path)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"3", b"\xff"])
def test_a_damaged_marker_is_refused(tmp_path, data):
    (tmp_path / "store.json").write_bytes(data)
    with pytest.raises(DataError, match=f"{tmp_path}/store.json is damaged; give another `store`"):
        Store(tmp_path)


def test_a_folder_of_other_files_is_refused_and_nothing_is_written_to_it(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=f"{tmp_path} holds files and no store; give another `store`"):
        Store(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=f"cannot make a store in {tmp_path}/file: File exists; give another `store`"):
        Store(tmp_path / "file")
    with pytest.raises(DataError, match=r"cannot make a store in .*: Not a directory; give another `store`"):
        Store(tmp_path / "file" / "below")


def test_a_store_is_made_with_the_folders_above_it_and_found_again(tmp_path):
    Store(tmp_path / "a/b")
    Store(tmp_path / "a/b")
    assert json.loads((tmp_path / "a/b/store.json").read_text()) == {"version": 1}


def test_two_processes_may_make_a_store_at_the_same_moment(tmp_path, monkeypatch):
    """The other one comes in between the two looks at the folder, and is already writing rows."""
    iterdir = Path.iterdir

    def overtaken(self):
        found = list(iterdir(self))
        monkeypatch.undo()
        small(tmp_path)
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", overtaken)
    Store(tmp_path)
    assert len(read(tmp_path)) == 3


# A full disk.


@pytest.fixture
def full_disk():
    """A limit on the size of files stands in for it: writing past it fails in the same place."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


FULL = r"cannot write to the store .*: File too large; what was written before is kept, and the same command goes on"


def test_a_full_disk_is_named_and_what_was_written_is_kept(tmp_path, full_disk):
    values = numbers(80, 100)
    table(tmp_path).write(keys(30), values[:30])
    with pytest.raises(DataError, match=FULL):
        table(tmp_path).write(keys(80), values)
    assert np.array_equal(rows(table(tmp_path), keys(30)), values[:30])
    assert len(table(tmp_path)) == 30
    assert not [*tmp_path.rglob("*.part")]


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """Return rows in shards of 7, and the same as an array."""
    values, held = numbers(40, 3), table(tmp_path_factory.mktemp("forty"))
    held.write(keys(40), values, shard_rows=7)
    return Rows(held, keys(40), np.float32), values


@given(st.lists(st.integers(-40, 39), max_size=60))
def test_rows_are_those_of_an_array_in_whatever_order(forty, order):
    held, values = forty
    assert np.array_equal(held[np.array(order, int)], values[np.array(order, int)])


def test_threads_may_read_at_once_from_more_shards_than_are_held_open(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "OPEN_SHARDS", 3)
    values = numbers(60, 4)
    table(tmp_path).write(keys(60), values, shard_rows=2)
    held = Rows(table(tmp_path), keys(60), np.float32)
    orders = [np.random.default_rng(seed).permutation(60) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(held.__getitem__, orders))
    assert all(np.array_equal(rows, values[order]) for rows, order in zip(found, orders, strict=True))


def test_parts_that_are_joined_are_read_as_one(forty):
    held, values = forty
    whole = store.joined([held.subset(np.array([3, 1])), held.subset(np.array([39]))])
    assert (whole.shape, whole.keys) == ((3, 3), tuple(held.keys[place] for place in (3, 1, 39)))
    assert np.array_equal(whole[np.array([2, 0, 1])], values[[39, 3, 1]])
