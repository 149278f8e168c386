"""The files of a run directory: which folder holds a run, which checkpoints are whole, and what is said of damage."""

from __future__ import annotations

import pytest

from tests import made_runs
from tfxfer.errors import RunError
from tfxfer.runs import files


def test_a_folder_with_settings_is_a_run_and_others_are_refused_with_what_they_hold(tmp_path):
    made_runs.write_settings(tmp_path / "runs/one")
    assert files.find_run(tmp_path / "runs/one") == tmp_path / "runs/one"
    (tmp_path / "file").touch()
    for path, why in [("gone", "is not there"), ("file", "is a file"), ("runs", "holds runs and is not one itself")]:
        assert not files.is_run(tmp_path / path)
        with pytest.raises(RunError, match=why):
            files.find_run(tmp_path / path)
    with pytest.raises(RunError, match=r"is not a run directory: it has no settings.json, but file, runs; give what"):
        files.find_run(tmp_path)


def test_a_checkpoint_counts_when_it_has_an_index(tmp_path):
    for name in ("model.ckpt-7.index", "model.ckpt-14.state.json", "model.ckpt-x.index", "other-3.index"):
        (tmp_path / name).touch()
    assert files.checkpoint_steps(tmp_path) == {7}


def test_a_file_that_is_gone_or_damaged_is_named_with_the_cure(tmp_path):
    with pytest.raises(RunError, match=r"a\.json cannot be read: No such file or directory; put it back"):
        files.read_json(tmp_path / "a.json", "put it back")
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(RunError, match=r"a\.json is damaged: it is not JSON \(.*\)$"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("value", [None, True, -1, 0.5, "1", 10**16])
def test_a_count_is_an_int_from_0_on(value):
    assert files.is_count(0)
    assert not files.is_count(value)
