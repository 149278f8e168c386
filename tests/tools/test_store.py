"""tools/store.py: what it says of a store, and that joining, tidying and taking out keep every row as it was."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.store.test_maintenance import ABOUT, KEYS, fill, rows
from tests.tools.test_predict import run
from tfxfer.store import maintenance
from tfxfer.store.store import Store, Table
from tfxfer.tools import store


def aged(path: Path, seconds: float) -> None:
    """Make all below a folder look as if nobody had touched it for some time."""
    then = path.stat().st_mtime - seconds
    for below in sorted(path.rglob("*"), reverse=True):
        os.utime(below, (then, then))


def test_list_says_what_each_table_holds(tmp_path, capsys):
    fill(tmp_path / "s", "aa11", KEYS)
    fill(tmp_path / "s", "bb22", KEYS[:2], "float16")
    assert run(store, "list", tmp_path / "s") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "aa11  pool5:0 float32 2, of images uint8 (8, 8, 3), 4 at once, TensorFlow 2.21.0"
    assert re.fullmatch(r" +10 rows in 4 shards, 0\.00 MB, 0\.0 days old", lines[1])
    assert re.fullmatch(rf"{tmp_path / 's'}: 2 tables, 12 rows, 0\.00 MB", lines[-1])
    assert run(store, "list", tmp_path / "s", "--json") == 0
    table = json.loads(capsys.readouterr().out)[1]
    assert (table["rows"], table["doubled"], table["about"]["dtype"]) == (2, 0, "float16")


def test_verify_names_every_damaged_file(tmp_path, capsys):
    fill(tmp_path / "s", "aa11", KEYS)
    assert run(store, "verify", tmp_path / "s") == 0
    assert capsys.readouterr().out == f"{tmp_path / 's'}: 10 rows in 4 shards are whole\n"
    first, second, third, _ = sorted((tmp_path / "s/aa11").glob("*.npy"))
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    second.unlink()
    third.with_suffix(".json").write_text("{}")
    assert run(store, "verify", tmp_path / "s") == 1
    error = capsys.readouterr().err
    assert "3 files are damaged" in error
    assert re.search(
        rf"{first.name} is damaged: its checksum is wrong; delete .*/{first.name} and .*/{first.stem}\.json", error
    )
    assert re.search(rf"{second.name} is damaged: .*No such file", error)
    assert re.search(rf"{third.stem}\.json is damaged: it is not a record of a shard", error)


def test_merge_brings_what_is_new_and_nothing_twice(tmp_path, capsys):
    fill(tmp_path / "a", "aa11", KEYS[:6])
    fill(tmp_path / "b", "aa11", KEYS[4:])
    fill(tmp_path / "b", "bb22", KEYS)
    both = rows(tmp_path / "b")
    wanted = {"aa11": {**rows(tmp_path / "a")["aa11"], **both["aa11"]}, "bb22": both["bb22"]}
    assert run(store, "merge", tmp_path / "new", tmp_path / "a", tmp_path / "b") == 0
    assert "20 new rows" in capsys.readouterr().out
    assert rows(tmp_path / "new") == wanted
    assert run(store, "merge", tmp_path / "new", tmp_path / "b") == 0
    assert "0 new rows" in capsys.readouterr().out
    assert all(held.doubled == 0 for held in maintenance.list_tables(tmp_path / "new"))


def test_a_damaged_shard_is_not_merged(tmp_path, capsys):
    fill(tmp_path / "a", "aa11", KEYS)
    shard = min((tmp_path / "a/aa11").glob("*.npy"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert run(store, "merge", tmp_path / "new", tmp_path / "a") == 1
    assert "its checksum is wrong" in capsys.readouterr().err
    assert rows(tmp_path / "new") == {}


def test_compact_joins_shards_drops_doubles_and_leaves_what_was_just_written(tmp_path, capsys):
    fill(tmp_path / "s", "aa11", KEYS)
    other = Table(tmp_path / "none", ABOUT, np.dtype("f4"))
    other.path = tmp_path / "s/aa11"
    other.write(KEYS[:5], np.array([[float(int(key, 36) % 1000), 2] for key in KEYS[:5]], "f4"))
    wanted = rows(tmp_path / "s")
    assert maintenance.list_tables(tmp_path / "s")[0].doubled == 5
    assert run(store, "compact", tmp_path / "s") == 0
    assert "kept aa11: written to in the last 10 minutes" in capsys.readouterr().out
    aged(tmp_path / "s", 3600)
    assert run(store, "compact", tmp_path / "s") == 0
    assert capsys.readouterr().out == "aa11: 5 shards, now 1; 5 doubled rows dropped\n"
    assert rows(tmp_path / "s") == wanted
    assert [held[2:5] for held in maintenance.list_tables(tmp_path / "s")] == [(1, 10, 0)]
    assert list(maintenance.verify(tmp_path / "s")) == []
    aged(tmp_path / "s", 3600)
    assert run(store, "compact", tmp_path / "s") == 0
    assert "1 shards, now 1" in capsys.readouterr().out


def test_gc_takes_tables_by_address_or_age_and_what_was_left_behind(tmp_path, capsys):
    path = tmp_path / "s"
    fill(path, "aa11", KEYS)
    fill(path, "bb22", KEYS)
    fill(path, "cc33", KEYS)
    lonely = min((path / "cc33").glob("*.npy"))
    lonely.with_suffix(".json").unlink()
    part = path / "cc33" / ".x.npy.1.part"
    part.write_text("")
    assert run(store, "gc", path, "--address=aa") == 0
    assert re.search(r"kept .*aa11: written to \d s ago; try again in 10 minutes", capsys.readouterr().out)
    aged(path, 3600)
    assert run(store, "gc", path, "--address=aa", "--dry_run") == 0
    assert f"would remove {path / 'aa11'}\n" in capsys.readouterr().out
    assert (path / "aa11").exists()
    assert run(store, "gc", path, "--address=aa") == 0
    assert set(capsys.readouterr().out.splitlines()) == {f"removed {one}" for one in (path / "aa11", lonely, part)}
    assert sorted(rows(path)) == ["bb22", "cc33"]
    assert run(store, "gc", path, "--older_than_days=1") == 0
    assert capsys.readouterr().out == f"{path}: nothing to remove\n"
    aged(path, 2 * 86400)
    assert run(store, "gc", path, "--older_than_days=1") == 0
    assert rows(path) == {}
    assert run(store, "gc", path, "--address=zz") == 1
    assert "has no table zz; it has none" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_export_gives_the_rows_to_numpy_and_to_tensorflow(tmp_path, dtype):
    fill(tmp_path / "s", "aa11", KEYS, dtype)
    fill(tmp_path / "s", "bb22", KEYS[:1], dtype)
    wanted = rows(tmp_path / "s")["aa11"]
    assert run(store, "export", tmp_path / "s", tmp_path / "out.npy", "--address=aa") == 0
    keys = (tmp_path / "out.npy.keys.txt").read_text().split()
    values = np.load(tmp_path / "out.npy")
    assert keys == sorted(KEYS)
    assert {key: row.tobytes() for key, row in zip(keys, values, strict=True)} == wanted
    assert run(store, "export", tmp_path / "s", tmp_path / "out.tfrecord", "--address=aa") == 0
    for place, record in enumerate(tf.python_io.tf_record_iterator(str(tmp_path / "out.tfrecord"))):
        feature = tf.train.Example.FromString(record).features.feature
        kind = feature["values"].int64_list if dtype == "int64" else feature["values"].float_list
        assert feature["key"].bytes_list.value == [keys[place].encode()]
        assert np.array(kind.value, dtype).reshape(feature["shape"].int64_list.value).tobytes() == wanted[keys[place]]


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path, capsys):
    fill(tmp_path / "s", "aa11", KEYS)
    fill(tmp_path / "s", "ab22", KEYS)
    for out, more, message in (
        ("out.npy", [], "2 tables told by --address, and one is wanted; it holds aa11"),
        ("out.npy", ["--address=a"], "2 tables beginning with a"),
        ("out.npy", ["--address=c"], "0 tables beginning with c, and one is wanted; it holds aa11"),
        ("out.csv", ["--address=aa"], r"give a name that ends in \.npy or \.tfrecord"),
        ("s", ["--address=aa"], "is there already; give another name"),
    ):
        assert run(store, "export", tmp_path / "s", tmp_path / out, *more) == 1
        assert re.search(message, capsys.readouterr().err)
    assert os.listdir(tmp_path) == ["s"]
    keys = tmp_path / "out.npy.keys.txt"
    keys.write_text("mine")
    assert run(store, "export", tmp_path / "s", tmp_path / "out.npy", "--address=aa") == 1
    assert f"{keys} is there already; give another name" in capsys.readouterr().err
    assert (keys.read_text(), sorted(os.listdir(tmp_path))) == ("mine", ["out.npy.keys.txt", "s"])


def test_bad_usage_is_told(tmp_path, capsys):
    Store(tmp_path / "s")
    assert run(store, "lst", tmp_path / "s") == 2
    assert "lst is none of list, verify, merge, compact, gc, export (did you mean list?)" in capsys.readouterr().err
    assert run(store, "merge", tmp_path / "s") == 2
    assert "merge takes STORE and one other store or more" in capsys.readouterr().err
    assert run(store, "list", tmp_path) == 1
    assert "is not a store: it has no store.json" in capsys.readouterr().err
    assert run(store, "list", tmp_path / "gone") == 1
    assert not (tmp_path / "gone").exists()
