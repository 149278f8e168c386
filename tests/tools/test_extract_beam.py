"""tools/extract_beam.py: the rows of one machine, whoever computes them, however often; and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tools.test_predict import coloured, run
from tfxfer.store import store
from tfxfer.tools import extract, extract_beam, train

MISSING = importlib.util.find_spec("apache_beam") is None
needs_beam = pytest.mark.skipif(MISSING, reason="Apache Beam is missing: pip install 'tfxfer[beam]'")
# What Beam and what it imports warn of is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

NETWORK = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean"]
HERE = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
TWO = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return coloured(tmp_path_factory.mktemp("coloured") / "pictures", 20)


def flags(pictures: Path, *more: str) -> list[str]:
    return [*NETWORK, "--dataset=folder", f"--data_dir={pictures}", *more]


def rows(folder: Path) -> tuple[dict[tuple[str, str], bytes], int]:
    """Return the bytes of each row by address and key, and how many rows all shards hold."""
    found, held = {}, 0
    for about in folder.glob("*/about.json"):
        table = store.Table(about.parent, {}, np.dtype(json.loads(about.read_text())["dtype"]))
        held += sum(len(np.load(path)) for path in about.parent.glob("*.npy"))
        for key, row in zip(table, store.Rows(table, [*table], table.dtype)[:], strict=True):
            found[about.parent.name, key] = row.tobytes()
    return found, held


def alone(folder: Path, *given: str) -> dict[tuple[str, str], bytes]:
    """Return the rows that one process computes."""
    assert run(extract, folder / "codes", f"--store={folder / 'alone'}", *given) == 0
    return rows(folder / "alone")[0]


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "tfxfer.tools._main", "extract_beam", *map(str, args)]


def started(args: list[str]) -> subprocess.CompletedProcess[str]:
    tests = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(args, capture_output=True, text=True, timeout=300, env=env)


# --- without Beam ---


def test_without_beam_it_says_what_to_install(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert run(extract_beam, tmp_path / "store", *flags(pictures)) == 1
    assert re.search(
        r"DataError: Apache Beam cannot be imported .* pip install 'tfxfer\[beam\]'", capsys.readouterr().err
    )
    assert not (tmp_path / "store").exists()


def test_a_kind_of_pictures_without_its_flag_is_bad_usage(tmp_path, capsys):
    assert run(extract_beam, tmp_path / "store", *NETWORK, "--dataset=pattern") == 2
    assert "--dataset=pattern needs --pattern" in capsys.readouterr().err


def test_a_shard_that_is_written_again_replaces_itself(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    # As by three processes, none of which has seen what the others wrote.
    first, again, other = (store.Table(tmp_path / "t", {}, np.dtype("f4")) for _ in range(3))
    first.write("abc", values, by_content=True)
    again.write("abc", values, by_content=True)
    assert len(list((tmp_path / "t").glob("*.npy"))) == 1
    # Of other bits, as another processor gives them: neither may lie beside the other's record.
    other.write("abc", values + 1, by_content=True)
    table = store.Table(tmp_path / "t", {}, np.dtype("f4"))
    assert [len(np.load(path)) for path in (tmp_path / "t").glob("*.npy")] == [3, 3]
    assert len(table) == 3


# --- in this process ---


@needs_beam
def test_bad_pictures_are_told_with_their_reasons_and_twins_are_computed_once(tmp_path, capsys):
    top = coloured(tmp_path / "pictures", 10)
    (top / "rose" / "cut.png").write_bytes((top / "rose" / "1.png").read_bytes()[:-200])
    (top / "rose" / "text.jpg").write_text("no picture")
    (top / "rose" / ".hidden.png").write_text("no picture")
    (top / "rose" / "notes.txt").write_text("no picture")
    shutil.copy(top / "rose" / "1.png", top / "rose" / "twin.png")
    bad = tmp_path / "bad.jsonl"
    bad.write_text("mine")
    assert run(extract_beam, tmp_path / "s", *flags(top), f"--bad={bad}", "--", HERE) == 0
    assert "of 33 pictures: 30 computed, 1 there before, 2 bad" in capsys.readouterr().out
    lines = [json.loads(line) for line in bad.read_text().splitlines()]
    assert sorted(os.path.basename(line["path"]) for line in lines) == ["cut.png", "text.jpg"]
    assert all(line["reason"] for line in lines)
    assert (tmp_path / "bad.jsonl.old-1").read_text() == "mine"
    assert rows(tmp_path / "s")[1] == 30
    assert run(extract_beam, tmp_path / "s", *flags(top), "--most_bad=0.05", "--", HERE) == 1
    assert re.search(r"2 of 33 pictures cannot be used, more than --most_bad=0.05; .*jsonl", capsys.readouterr().err)


@needs_beam
def test_training_finds_the_rows_and_computes_nothing(pictures, tmp_path, capsys):
    assert run(extract_beam, tmp_path / "s", *flags(pictures), "--", HERE) == 0
    before = sorted((tmp_path / "s").rglob("*.npy"))
    given = [*flags(pictures), "--hidden=none", "--epochs=2", "--learning_rate=0.01"]
    assert run(train, *given, f"--store={tmp_path / 's'}", f"--logdir={tmp_path / 'run'}") == 0
    assert sorted((tmp_path / "s").rglob("*.npy")) == before


@needs_beam
def test_nothing_but_bad_pictures_is_an_error(tmp_path, capsys):
    (tmp_path / "p" / "a").mkdir(parents=True)
    (tmp_path / "p" / "a" / "x.png").write_text("no picture")
    assert run(extract_beam, tmp_path / "s", *flags(tmp_path / "p"), "--most_bad=1", "--", HERE) == 1
    assert "1 of 1 pictures cannot be used" in capsys.readouterr().err


@needs_beam
def test_a_store_that_cannot_be_written_is_refused(pictures, tmp_path, capsys):
    (tmp_path / "s").write_text("a file")
    assert run(extract_beam, tmp_path / "s", *flags(pictures), "--", HERE) == 1
    assert "cannot make a store in" in capsys.readouterr().err


# --- in two processes ---


@needs_beam
@pytest.mark.slow
def test_two_processes_fill_a_store_with_the_rows_of_one(real_data, tmp_path):
    flowers = [f"--weights={real_data('weights/squeezenet1_0.npz')}", f"--data_dir={real_data('flowers')}"]
    given = ["--model=squeezenet1_0", "--dataset=folder", *flowers]
    done = started(command(tmp_path / "two", *given, "--", *TWO))
    assert done.returncode == 0, done.stderr
    assert "600 computed, 0 there before, 0 bad" in done.stdout
    assert done.stderr == ""
    wanted = alone(tmp_path, *given)
    assert len(wanted) == 600
    assert rows(tmp_path / "two") == (wanted, 600)


@needs_beam
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fail:0.1", "kill"])
def test_batches_that_fail_and_workers_that_are_killed_lose_and_double_nothing(kind, pictures, tmp_path):
    wanted = alone(tmp_path, *flags(pictures, "--batch_size=4"))
    kind = f"kill:{tmp_path / 'killed'}" if kind == "kill" else kind
    args = [kind, str(tmp_path / "s"), *flags(pictures, "--batch_size=4"), "--", *TWO]
    ends = []
    while not ends or ends[-1]:
        done = started([sys.executable, str(Path(__file__).parents[1] / "flaky.py"), *args])
        ends.append(done.returncode)
        assert len(ends) < 20, done.stderr
    if kind.startswith("kill"):
        assert ends == [1, 0]
        assert "a worker was lost" not in done.stderr
    assert rows(tmp_path / "s") == (wanted, len(wanted))
