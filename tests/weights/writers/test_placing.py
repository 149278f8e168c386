"""Files come to their places together or not at all, whatever happens among the renames."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.weights.writers.test_writers import held, names_in, same, values
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights, streams, writers
from tfxfer.weights.writers import placing


def refuse_links(*_: object, **__: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("step", ["link", "unlink", "rename"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("out", "call"), [*(("out.ckpt", call) for call in range(1, 5)), *(("out.npz", call) for call in range(1, 3))]
)
def test_whatever_happens_among_the_renames_is_taken_back(tmp_path, monkeypatch, out, call, late, step):
    old = values()
    writers.write(tmp_path / out, held(old))
    before, done, count = names_in(tmp_path), getattr(os, step), itertools.count(1)

    def fail(*arguments, **options):
        number = next(count)
        if number == call and not late:
            raise OSError(5, "Input/output error")
        done(*arguments, **options)
        if number == call:
            raise KeyboardInterrupt

    if step == "rename":
        monkeypatch.setattr(os, "link", refuse_links)
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(KeyboardInterrupt if late else WeightsError, match=None if late else "Input/output error"):
        writers.write(tmp_path / out, held(values()), overwrite=True)
    assert names_in(tmp_path) == before
    assert all(same(open_weights(tmp_path / out)[key], array) for key, array in old.items())


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("out", "name"), [("a.npz", "a.npz"), ("a.ckpt", "a.ckpt.index")])
def test_what_appears_while_it_is_written_is_not_replaced(tmp_path, monkeypatch, links, overwrite, out, name):
    def slow() -> Iterator[np.ndarray]:
        (tmp_path / name).write_text("of another")
        yield np.ones(2, np.float32)

    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    with pytest.raises(
        WeightsError, match=rf"{out} was not written: somebody has put a file there meanwhile\. Nothing has changed"
    ):
        writers.write(tmp_path / out, {"w": streams.computed((2,), np.dtype(np.float32), slow)}, overwrite=overwrite)
    assert names_in(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "of another"


def test_an_error_that_only_flushing_meets_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(placing, "PAUSE", 0.001)
    sync = placing.files.sync

    def fail_once(path):
        monkeypatch.setattr(placing.files, "sync", sync)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(placing.files, "sync", fail_once)

    def slow() -> Iterator[np.ndarray]:
        time.sleep(0.1)
        yield np.ones(2, np.float32)

    with pytest.raises(WeightsError, match=r"was not written: Input/output error\. Nothing has changed"):
        writers.write(tmp_path / "a.npz", {"w": streams.computed((2,), np.dtype(np.float32), slow)})
    assert names_in(tmp_path) == []


def test_files_are_written_together_and_what_was_there_is_moved_aside(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "c").symlink_to(tmp_path / "nowhere")
    contents = {tmp_path / name: name.encode() for name in ("a", "b", "c")}
    before = names_in(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(placing.files, "sync_folder", fail)
        with pytest.raises(OSError, match="No space left"):
            placing.write_files(contents)
    assert names_in(tmp_path) == before
    assert (tmp_path / "a").read_bytes() == b"old"
    moved = {tmp_path / name: tmp_path / f"{name}.old-1" for name in ("a", "c")}
    assert placing.write_files(contents) == moved
    assert {path: path.read_bytes() for path in contents} == contents
    assert (tmp_path / "a.old-1").read_bytes() == b"old"
    assert (tmp_path / "c.old-1").is_symlink()
