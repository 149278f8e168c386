"""The writer: rows are gathered into shards, and what it has is written however the work ends."""
# ruff: noqa: F811  # imported fixtures are taken by their names

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from tests.store.test_store import FULL, full_disk, keys, numbers, quick, rows, shards, table  # noqa: F401
from tfxfer.errors import DataError
from tfxfer.store import shard_writer as gatherer
from tfxfer.store.shard_writer import writer


def test_the_writer_writes_every_64_rows_and_what_is_left_at_the_end(tmp_path):
    held = table(tmp_path), table(tmp_path, "float16", "cd" * 32)
    values = numbers(150, 3)
    with writer(held) as gathering:
        for start in range(0, 150, 25):
            gathering.add(keys(len(values[start : start + 25]), start), [values[start : start + 25]] * 2)
    assert [len(np.load(file)) for file in shards(held[0])] == [64, 11, 64, 11]
    assert np.array_equal(rows(table(tmp_path), keys(150)), values)
    assert np.array_equal(rows(held[1], keys(150)), values.astype(np.float16))


def test_the_writer_writes_after_ten_seconds_however_few_rows_there_are(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(gatherer.time, "monotonic", lambda: clock[0])
    with writer([table(tmp_path)]) as gathering:
        for second in (1, 9, 11, 12, 20, 22):
            clock[0] = second
            gathering.add([str(second)], [numbers(1, 2)])
    assert [len(np.load(file)) for file in shards(table(tmp_path))] == [3, 3]


def test_what_is_gathered_is_written_when_the_work_is_interrupted(tmp_path):
    def interrupted():
        with writer([table(tmp_path)]) as gathering:
            gathering.add(keys(10), [numbers(10, 2)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(table(tmp_path)) == 10


def test_a_table_that_has_the_rows_already_gets_none_again(tmp_path):
    values = numbers(10, 2)
    table(tmp_path).write(keys(10), values)
    with writer([table(tmp_path), table(tmp_path, address="cd")]) as gathering:
        gathering.add(keys(10), [values, values + 1])
    assert len(shards(table(tmp_path))) == 1
    assert np.array_equal(rows(table(tmp_path, address="cd"), keys(10)), values + 1)


def test_a_full_disk_ends_the_work_of_a_writer(tmp_path, full_disk):
    added = []

    def work():
        with writer([table(tmp_path)]) as gathering:
            for start in range(0, 640, 64):
                gathering.add(keys(64, start), [numbers(64, 100)])
                added.append(start)

    with pytest.raises(DataError, match=FULL):
        work()
    assert added == [0]
    assert not len(table(tmp_path))


def test_a_disk_that_fills_up_while_it_is_flushed_ends_the_work_and_the_shard_does_not_count(tmp_path, monkeypatch):
    """Some file systems say only then that they have no room."""

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    held = table(tmp_path)
    held.write(keys(3), numbers(3, 2))
    monkeypatch.setattr(os, "fsync", full)
    message = r"cannot write to the store .*: No space left on device; what was written before is kept"
    with pytest.raises(DataError, match=message), writer([held]) as gathering:
        gathering.add(keys(64, 3), [numbers(64, 2)])
    assert len(table(tmp_path)) == 3
    assert [file.name for file in tmp_path.rglob("*") if file.suffix == ".part"] == []


def test_what_a_writer_has_written_is_flushed_when_it_ends(tmp_path, monkeypatch):
    flushed = set()
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.add(os.readlink(f"/proc/self/fd/{handle}")))
    held = table(tmp_path), table(tmp_path, address="cd" * 32)
    with writer(held) as gathering:
        for start in range(0, 150, 50):
            gathering.add(keys(50, start), [numbers(50, 2)] * 2)
    shards = list(tmp_path.rglob("*.npy"))
    assert len(shards) == 6
    assert flushed >= {str(path.with_suffix(suffix)) for path in shards for suffix in (".npy", ".json")}
