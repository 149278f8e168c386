"""Whose a directory is, what a start that died leaves, and what is refused by name when a file of a run is damaged."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.train.test_fit import Small, tensors, two_classes
from tfxfer.errors import RunError
from tfxfer.train.run_directory import RunDirectory, opened


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, Small().fit(two_classes(), folder, epochs=2)


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run[0], tmp_path / "copy")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("names", [
    ["roses/1.jpg", "tulips/2.jpg"],
    ["train/roses/1.jpg", "validation/roses/2.jpg"],  # as Keras lays pictures out, and as we lay events out
    ["settings.json", "thesis.tex"],
    ["train.log"],
    ["best/song.mp3", ".lock"],
])  # fmt: skip
def test_somebodys_folder_is_refused_and_nothing_is_written_there_or_moved(tmp_path, names, overwrite):
    for name in names:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("{}")
    before = left(tmp_path)
    with pytest.raises(RunError, match="holds files and no run"):
        Small().fit(two_classes(), tmp_path / "mine", overwrite=overwrite)
    assert left(tmp_path) == before


def test_a_start_that_died_before_its_settings_were_written_is_a_beginning(tmp_path):
    with opened(tmp_path / "run") as directory:
        for name in ("plan.json", "frozen.json", "train.log", ".settings.json.abc.part"):
            (directory.path / name).write_text("half")
        for folder in ("train", "best", ".saving"):
            (directory.path / folder).mkdir()
        (directory.path / "train/events.out.tfevents.1.host").write_text("")
    assert Small().fit(two_classes(), tmp_path / "run", epochs=1).epochs == 1


def test_a_run_that_has_lost_its_settings_is_not_begun_anew_in_silence(copied):
    (copied / "settings.json").unlink()
    with pytest.raises(RunError, match=r"has lost its settings\.json; put it back"):
        Small().fit(two_classes(), copied)


@pytest.mark.parametrize("fails", ["mkdir", "write", "settings"])
def test_a_full_disk_at_the_start_is_named_and_leaves_neither_lock_nor_folder(tmp_path, monkeypatch, fails):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        place = {"mkdir": "pathlib.Path.mkdir", "write": "os.write", "settings": "tfxfer.files.write_json"}[fails]
        patch.setattr(place, full)
        with pytest.raises(RunError, match=r"cannot write in .*outer/run: No space left on device"):
            Small().fit(two_classes(), tmp_path / "outer/run")
    assert left(tmp_path) == []
    handles = len(os.listdir("/proc/self/fd"))
    with opened(tmp_path / "outer/run"):
        pass
    assert left(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == handles
    assert Small().fit(two_classes(), tmp_path / "outer/run", epochs=1).epochs == 1


def test_a_directory_that_another_removed_meanwhile_is_locked_once(tmp_path):
    first = RunDirectory(tmp_path / "run")
    with pytest.raises(RunError, match="in use by process"):
        RunDirectory(tmp_path / "run")
    first.close()
    with opened(tmp_path / "run") as second, pytest.raises(RunError, match=f"process {os.getpid()}"):
        RunDirectory(second.path)


# --- damage ---


@pytest.mark.parametrize(("name", "text", "told"), [
    ("settings.json", "[]", "is not a JSON object"),
    ("settings.json", "{", "is not JSON"),
    ("frozen.json", "{}", "does not hold digests by name"),
    ("frozen.json", "[[", "is not JSON"),
])  # fmt: skip
def test_other_files_that_are_damaged_are_named_and_overwrite_begins_anew(copied, name, text, told):
    (copied / name).write_text(text)
    with pytest.raises(RunError, match=rf"{name} is damaged: .*{told}.*`overwrite=True`"):
        Small().fit(two_classes(), copied, epochs=3)
    assert Small().fit(two_classes(), copied, epochs=1, overwrite=True).epochs == 1


def test_best_checkpoints_that_were_deleted_come_back_from_the_last_ones_or_are_counted_out(run, copied):
    _, fitted = run
    shutil.rmtree(copied / "best")
    again = Small().fit(two_classes(), copied, epochs=2)
    assert tensors(again.best) == tensors(fitted.best)
    shutil.rmtree(copied / "best")
    step = fitted.best.rpartition("-")[2]
    for file in copied.glob(f"model.ckpt-{step}.*"):
        file.unlink()
    if step != "14":
        with pytest.raises(RunError, match=rf"has lost best/model\.ckpt-{step}, and the run has ended.*raise `epochs`"):
            Small().fit(two_classes(), copied, epochs=2)
    longer = Small().fit(two_classes(), copied, epochs=3)  # the cure that is named
    assert Path(f"{longer.best}.index").exists()
