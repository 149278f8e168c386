"""Files appear whole or not at all, and what gives way keeps its content under another name."""

from __future__ import annotations

import json
import os
import re
import stat

import pytest

from tfxfer import files


def test_a_file_is_replaced_whole_and_is_as_readable_as_any_other(tmp_path):
    path = tmp_path / "a"
    for text in (b"old", b"new"):
        files.write_bytes(path, text)
        assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a", text)]
    (tmp_path / "b").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    files.write_bytes(tmp_path / "a", b"old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "a", b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("a", b"old")]


def test_what_cannot_be_written_is_told_by_the_name_that_was_given(tmp_path):
    path = tmp_path / "missing" / "a"
    wanted = f"No such file or directory, for the folder {path.parent} does not exist: '{path}'"
    for write in (lambda: files.write_bytes(path, b""), lambda: files.beside(path)):
        with pytest.raises(FileNotFoundError, match=re.escape(wanted)):
            write()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=re.escape(f"'{tmp_path / 'file' / 'a'}'")):
        files.write_bytes(tmp_path / "file" / "a", b"")


def test_json_keeps_its_order_and_every_bit_of_a_float(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 0.1 + 0.2, "a": [1]})
    text = (tmp_path / "a.json").read_text()
    assert list(json.loads(text).items()) == [("b", 0.1 + 0.2), ("a", [1])]


def test_a_file_a_folder_and_a_dangling_link_are_moved_aside_under_the_next_free_number(tmp_path):
    path = tmp_path / "run"
    (tmp_path / "run.old-2").symlink_to(tmp_path / "nowhere")
    path.write_text("a file")
    assert files.move_aside(path) == tmp_path / "run.old-1"
    assert (tmp_path / "run.old-1").read_text() == "a file"
    path.mkdir()
    (path / "a").touch()
    assert files.move_aside(path) == tmp_path / "run.old-3"
    assert (tmp_path / "run.old-3" / "a").exists()
    path.symlink_to(tmp_path / "nowhere")
    assert files.move_aside(path).is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [f"run.old-{number}" for number in (1, 2, 3, 4)]
    with pytest.raises(FileNotFoundError):
        files.move_aside(path)
