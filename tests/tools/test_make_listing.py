"""The tool that writes train.txt, val.txt and classes.txt."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfxfer.data import listing
from tfxfer.tools import _flags, make_listing
from tfxfer.weights.writers import placing

FILES = ("train.txt", "val.txt", "classes.txt")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Forty cats and sixty golden retrievers, in files that are empty: the tool opens none."""
    for number in range(100):
        path = tmp_path / "pets" / ("cat" if number < 40 else "golden retriever") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "pets"


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """Pictures whose names begin with the label."""
    (tmp_path / "named" / "deep").mkdir(parents=True)
    for number in range(20):
        for name in (f"cat.{number}.jpg", f"dog_{number}.png", f"deep/big fish {number}.jpg", f"Cat-{number}.JPEG"):
            (tmp_path / "named" / name).touch()
    return tmp_path / "named"


def run(*args: object) -> int:
    return _flags.run(make_listing.main, ["make_listing", *map(str, args)])


def rows(file: Path) -> list[tuple[str, int]]:
    return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in file.read_text().splitlines()]


def test_a_folder_of_classes_is_divided_85_to_15_in_each(pets, tmp_path, capsys):
    assert run(pets, tmp_path / "out") == 0
    train, validation = rows(tmp_path / "out/train.txt"), rows(tmp_path / "out/val.txt")
    assert Counter(label for _, label in train) == {0: 34, 1: 51}
    assert Counter(label for _, label in validation) == {0: 6, 1: 9}
    assert (tmp_path / "out/classes.txt").read_text() == "cat\ngolden retriever\n"
    found = [path.relative_to(pets).as_posix() for path in pets.glob("*/*.jpg")]
    assert sorted(path for path, _ in train + validation) == sorted(found)
    assert all(path.startswith(("cat/", "golden retriever/")[label]) for path, label in train + validation)
    files = f"{tmp_path}/out/train.txt and {tmp_path}/out/val.txt"
    assert capsys.readouterr() == (f"85 and 15 pictures of 2 classes in {files}; their root is {pets}\n", "")


def test_labels_may_be_in_the_names_of_files(named, tmp_path):
    assert run(named, tmp_path / "out", "--labels=name", "--validation=0.25") == 0
    assert (tmp_path / "out/classes.txt").read_text() == "Cat\nbig fish\ncat\ndog\n"
    assert Counter(label for _, label in rows(tmp_path / "out/val.txt")) == dict.fromkeys(range(4), 5)
    both = dict(rows(tmp_path / "out/train.txt") + rows(tmp_path / "out/val.txt"))
    assert (both["deep/big fish 7.jpg"], both["cat.3.jpg"], both["Cat-3.JPEG"], len(both)) == (1, 2, 0, 80)


def test_the_seed_decides_who_goes_where(pets, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(pets, tmp_path / name, f"--seed={seed}")
    first, again, other = ([(tmp_path / name / file).read_bytes() for file in FILES] for name in "abc")
    assert first == again != other


def test_what_it_writes_is_what_listing_reads(pets, tmp_path):
    for number, path in enumerate(sorted(pets.glob("*/*.jpg"))):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(path, "PNG")
    run(pets, tmp_path / "out")
    data = listing(tmp_path / "out/train.txt", tmp_path / "out/val.txt", root=pets)
    assert (len(data.train), len(data.validation)) == (85, 15)
    assert data.class_names == ("cat", "golden retriever")
    assert [Path(path).parent.name for path in data.train.images.paths] == [
        data.class_names[k] for k in data.train.labels
    ]
    run(pets, pets)
    assert listing(pets / "train.txt").class_names == ("cat", "golden retriever")


def test_existing_files_are_moved_aside_only_when_told(pets, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "val.txt").write_text("mine")
    (out / "val.txt.old-1").write_text("older")
    assert run(pets, out) == 1
    assert capsys.readouterr().err == (
        f"DataError: {out}/val.txt exists; take another name, or let --overwrite move what is there aside\n"
    )
    assert {path.name: path.read_text() for path in out.iterdir()} == {"val.txt": "mine", "val.txt.old-1": "older"}
    assert run(pets, out, "--overwrite") == 0
    assert (out / "val.txt.old-2").read_text() == "mine"
    assert (out / "val.txt.old-1").read_text() == "older"
    assert len(rows(out / "val.txt")) == 15
    assert f"moved {out}/val.txt to {out}/val.txt.old-2\n" in capsys.readouterr().out


def test_a_link_to_nothing_is_moved_aside_too_and_not_renamed_over(pets, tmp_path, capsys):
    for name in ("val.txt", "val.txt.old-1"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    assert run(pets, tmp_path) == 1
    assert "val.txt exists; take another name" in capsys.readouterr().err
    assert run(pets, tmp_path, "--overwrite") == 0
    assert all((tmp_path / f"val.txt.old-{number}").is_symlink() for number in (1, 2))
    assert len(rows(tmp_path / "val.txt")) == 15


def test_what_is_passed_over_is_said(pets, tmp_path, capsys):
    (pets / "cat" / "notes.txt").touch()
    (pets / "stray.jpg").touch()
    assert run(pets, tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "passed over, as their names are not those of pictures: 1 .txt",
        "1 pictures beside the subfolders belong to no class and are left out",
    ]


def error_of(capsys, *args: object) -> str:
    assert run(*args) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_refusals_name_the_cure_and_leave_nothing_behind(pets, named, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    assert "named has 60 pictures and no subfolders" not in error_of(capsys, tmp_path / "empty", out)
    assert f"DataError: {pets}x is not there (did you mean pets?); give" in error_of(capsys, f"{pets}x", out)
    assert f"{pets}x is not there, or is not a folder" in error_of(capsys, f"{pets}x", out, "--labels=name")
    assert f"{tmp_path}/empty: no pictures" in error_of(capsys, tmp_path / "empty", out, "--labels=name")
    assert "only one" not in error_of(capsys, pets / "cat", out)
    assert f"{pets}: 100 of 100 pictures have no label in their names\n  {pets}/cat/0.jpg\n" in error_of(
        capsys, pets, out, "--labels=name"
    )
    assert "into 100 + 0: each part needs room for every class" in error_of(capsys, pets, out, "--validation=0")
    assert not out.exists()


def test_one_class_is_refused(tmp_path, capsys):
    for number in range(9):
        (tmp_path / f"cat.{number}.jpg").touch()
    message = (
        f"DataError: {tmp_path}: a classifier needs two classes or more, and there is only one, cat (9 pictures)\n"
    )
    assert error_of(capsys, tmp_path, tmp_path, "--labels=name") == message


def test_a_class_with_one_picture_is_refused(pets, tmp_path, capsys):
    (pets / "eel").mkdir()
    assert "1 of 3 classes have no picture: eel" in error_of(capsys, pets, tmp_path / "out")
    (pets / "eel" / "1.jpg").touch()
    assert "1 of 3 classes have fewer pictures than there are splits, 2: eel (1)" in error_of(
        capsys, pets, tmp_path / "out"
    )


def test_names_that_no_line_can_hold_are_all_named(pets, tmp_path, capsys):
    for name in ("#1", "two\nlines", " blank"):
        (pets / name).mkdir()
        for number in range(4):
            (pets / name / f"{number}.jpg").touch()
    message = error_of(capsys, pets, tmp_path / "out")
    assert message.startswith(f"DataError: {pets}: rename what cannot be in a line:\n")
    assert message.count("cannot be a path of a listing") == 12
    assert "' blank' cannot be a line of classes.txt" in message


def test_bad_usage_has_status_2(pets, tmp_path):
    assert run(pets) == 2
    assert run(pets, tmp_path, "more") == 2
    assert run(pets, tmp_path, "--validation=2") == 2
    assert run(pets, tmp_path, "--labels=stem") == 2


def test_names_that_are_no_utf_8_come_back_as_they_were(tmp_path):
    top = tmp_path / "odd"
    for number in range(8):
        path = os.fsencode(top / "ab"[number % 2]) + b"/\xff%d.png" % number
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(file, "PNG")
    assert run(top, tmp_path / "out", "--validation=0.25") == 0
    assert len(listing(tmp_path / "out/train.txt", tmp_path / "out/val.txt", root=top).train.images[:]) == 6


def test_it_loads_no_tensorflow(pets, tmp_path):
    code = (
        "import sys; from tfxfer.tools import make_listing; make_listing.main(['', *sys.argv[1:]]); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, pets, tmp_path / "out"], capture_output=True).returncode == 0


def test_cats_and_dogs(real_data, tmp_path):
    assert run(real_data("cats_dogs/train"), tmp_path, "--labels=name") == 0
    assert Counter(label for _, label in rows(tmp_path / "train.txt")) == {0: 255, 1: 255}
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\n"


def test_on_a_full_disk_every_old_file_stays_at_its_name(pets, tmp_path, capsys, monkeypatch):
    assert run(pets, tmp_path) == 0
    (tmp_path / "val.txt").write_text("mine")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(placing.files, "sync", fail)
    assert run(pets, tmp_path, "--overwrite") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert (tmp_path / "val.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"pets", *FILES}
