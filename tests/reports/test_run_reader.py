"""Reading a run directory: what is damaged is named, and nothing else gets in."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests import made_runs
from tests.made_runs import make
from tests.reports import test_suspects
from tests.reports.pages import pictures, shown
from tests.statistics import test_calibration, test_folds
from tfxfer import reports
from tfxfer.errors import RunError
from tfxfer.plots.png import png
from tfxfer.reports.run_reader import SUSPECTS
from tfxfer.statistics import calibration, folds


def test_the_last_checkpoint_tells_the_history(tmp_path):
    make(tmp_path / "run")
    made_runs.write(tmp_path / "run", "model.ckpt-40.state.json", made_runs.state(made_runs.history(1)))
    assert len(reports.read(tmp_path / "run").rows("train")) == 6
    (tmp_path / "run/model.ckpt-240.state.json").write_text("{")
    run = reports.read(tmp_path / "run")
    assert len(run.rows("train")) == 1
    assert len(run.faults) == 1
    assert run.faults[0].startswith("model.ckpt-240.state.json cannot be used: it is not JSON (Expecting")


def test_a_directory_without_a_run_is_refused_with_what_is_there(tmp_path):
    with pytest.raises(RunError, match="missing is not there; give a run directory, what `logdir` was"):
        reports.read(tmp_path / "missing")
    with pytest.raises(RunError, match="is not a run directory: it is empty"):
        reports.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file is a file; give a run directory"):
        reports.read(tmp_path / "file")
    with pytest.raises(
        RunError, match=r"is not a run directory: it has no settings.json, but file; give what `logdir`"
    ):
        reports.read(tmp_path)
    make(tmp_path / "one")
    make(tmp_path / "two")
    with pytest.raises(RunError, match="holds runs and is not one itself; give one or more of them: one, two; "):
        reports.read(tmp_path)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "settings.json is damaged: it is not JSON"),
    ("[]", "settings.json is damaged: it is not a JSON object"),
    ("[" * 100_000, "settings.json is damaged: it is nested too deeply"),
])  # fmt: skip
def test_settings_that_cannot_be_read_are_refused(tmp_path, text, message):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(RunError, match=message):
        reports.read(tmp_path)


@pytest.mark.parametrize("name", ["plan.json", "frozen.json", "test.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"a": 1}', "[" * 100_000, '"\\ud800"'])
def test_a_damaged_file_leaves_its_part_out_and_is_named(tmp_path, name, text):
    make(tmp_path / "run")
    (tmp_path / "run" / name).write_text(text)
    run = reports.read(tmp_path / "run")
    assert [fault.split()[0] for fault in run.faults] == [name]
    parsed = shown(tmp_path / "run")
    assert f"{name} cannot be used" in parsed.text
    assert {"plan.json": "plan", "frozen.json": "frozen", "test.json": "confusion"}[name] not in parsed.values("id")


def test_whatever_stands_in_a_file_of_a_run_there_is_a_page(tmp_path):
    run = make(tmp_path / "run")
    (run / calibration.FILE).write_bytes(calibration.to_bytes(test_calibration.made()))
    made_runs.write(run, folds.FILE, test_folds.FOLDS.to_json())
    (run / SUSPECTS).write_text(json.dumps(test_suspects.value()))
    assert not reports.read(run).faults
    rng = random.Random(0)
    others = [5, -1, 1.5, "x", "\ud800", [], {}, None, True, 10**400, float("nan"), [[1]], {"a": 1}]
    for file in sorted(run.glob("*.json")):
        whole = json.loads(file.read_bytes())
        for place in rng.sample(all_places := list(places(whole)), min(12, len(all_places))):
            file.write_text(json.dumps(changed(whole, place, rng.choice(others))))
            with contextlib.suppress(RunError):
                shown(run)
            file.write_text(json.dumps(changed(whole, place)))
            with contextlib.suppress(RunError):
                shown(run)
        file.write_text(json.dumps(whole))


def places(value: object, place: tuple = ()) -> Iterator[tuple]:
    """Yield where each value inside another one stands."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*place, key)
        yield from places(value[key], (*place, key))


def changed(value: object, place: tuple, *new: object) -> object:
    """Return a copy with another value at a place, or without one there."""
    copied = part = json.loads(json.dumps(value))
    for key in place[:-1]:
        part = part[key]
    if new:
        part[place[-1]] = new[0]
    else:
        del part[place[-1]]
    return copied


def test_a_pairing_without_a_status_and_a_share_that_is_too_large_are_named(tmp_path):
    run = make(tmp_path / "run")
    plan = json.loads((run / "plan.json").read_bytes())
    (run / "plan.json").write_text(json.dumps(changed(plan, (0, "variables", 0, "status"))))
    (run / SUSPECTS).write_text(json.dumps(test_suspects.value() | {"accuracy": 10**400}))
    assert reports.read(run).faults == [
        "plan.json cannot be used: 'status'",
        "suspects.json cannot be used: int too large to convert to float",
    ]


@pytest.mark.parametrize("spoil", [
    lambda path: path.unlink(),
    lambda path: path.write_bytes(b"GIF89a"),
    lambda path: path.write_bytes(png(np.zeros((1, 1, 3), np.uint8)) + bytes(1 << 20)),
    lambda path: (path.unlink(), path.mkdir()),
    lambda path: (path.rename(path.parent / "other.png"), path.symlink_to(path.parent / "other.png")),
])  # fmt: skip
def test_a_picture_that_is_missing_or_none_leaves_a_place(tmp_path, spoil):
    run = make(tmp_path / "run")
    first, *_ = sorted((run / "mistakes").iterdir())
    spoil(first)
    parsed = shown(run)
    assert len(pictures(parsed)) == 4
    assert sum(str(label).startswith("Missing picture: ") for label in parsed.values("aria-label")) == 1


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "mistakes/../../secret.png", 7, "a\x00b", "x" * 5000]
)
def test_no_file_but_the_runs_own_pictures_gets_into_the_page(tmp_path, name):
    run = make(tmp_path / "run")
    made_runs.picture(tmp_path / "secret.png", 9)
    made_runs.picture(run / "secret.png", 9)
    test = json.loads((run / "test.json").read_text())
    test["mistakes"] = [{**test["mistakes"][0], "picture": name}]
    made_runs.write(run, "test.json", test)
    assert pictures(shown(run)) == []
