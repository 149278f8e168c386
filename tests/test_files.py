"""Files are old or new, never a part of one."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tfxfer import files


def test_a_file_is_replaced_whole_and_as_readable_as_any_other(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")
    before = os.umask(0o027)
    try:
        files.write_json(path, {"loss": 0.1, "b": [1, 2]})
    finally:
        os.umask(before)
    assert json.loads(path.read_text()) == {"loss": 0.1, "b": [1, 2]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_old_file_stays_and_nothing_else_is_left_where_writing_fails(tmp_path, monkeypatch, failure):
    path = tmp_path / "state.json"
    path.write_text("old")

    def fail(handle: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(failure)):
        files.write_bytes(path, b"new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_without_flush_nothing_waits_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "fsync")
    files.write_bytes(tmp_path / "shard", b"rows", flush=False)
    assert (tmp_path / "shard").read_bytes() == b"rows"


def test_a_file_beside_another_is_in_its_folder_under_a_name_of_its_own(tmp_path):
    first, second = (files.beside(tmp_path / "model") for _ in range(2))
    assert first != second
    assert {path.parent for path in (first, second)} == {tmp_path}
    assert all(path.name.endswith(files.PART) and path.read_bytes() == b"" for path in (first, second))


def test_what_is_moved_aside_gets_the_first_free_number(tmp_path):
    for number in (1, 2):
        (tmp_path / "run").mkdir()
        assert files.move_aside(tmp_path / "run") == tmp_path / f"run.old-{number}"
    (tmp_path / "run.old-3").symlink_to("nowhere")
    (tmp_path / "run").write_text("a file")
    assert files.move_aside(tmp_path / "run").name == "run.old-4"
    assert (tmp_path / "run.old-4").read_text() == "a file"
