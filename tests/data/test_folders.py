"""A folder of pictures: classes, bad pictures, the index, splits, identical pictures."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tfxfer.data import Pictures, decoding, folder
from tfxfer.data.folders import SUFFIXES, find
from tfxfer.data.splits import by_digest
from tfxfer.errors import DataError


def picture(path: Path, seed: object = None, kind: str = "PNG") -> Path:
    """Write a small picture; without a seed, its path decides what is on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(str(path.name if seed is None else seed).encode()))
    Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(path, kind)
    return path


def fill(top: Path, **counts: int) -> Path:
    """Write so many pictures a class, all different."""
    for name, count in counts.items():
        for number in range(count):
            picture(top / name / f"{number:03}.png", f"{name} {number}")
    return top


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return fill(tmp_path / "pets", cat=20, dog=30, eel=10)


def in_splits(data) -> list[set[str]]:
    return [set(split.images.paths) for split in (data.train, data.validation, data.test)]


# --- what is found ---


def test_each_subfolder_is_a_class_and_the_splits_are_8_to_1_to_1_in_each(pets):
    data = folder(pets, size=(7, 9))
    assert data.class_names == ("cat", "dog", "eel")
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.validation, data.test)] == [
        [16, 24, 8],
        [2, 3, 1],
        [2, 3, 1],
    ]
    for split in (data.train, data.validation, data.test):
        assert isinstance(split.images, Pictures)
        assert split.images.shape == (len(split), 7, 9, 3)
        assert [Path(path).parent.name for path in split.images.paths] == [data.class_names[k] for k in split.labels]
    assert len(set.union(*in_splits(data))) == 60
    assert (data.notes, data.set_aside) == ((), {})


def test_images_are_those_of_the_files(pets):
    data = folder(pets, size=(5, 6), resize="plain")
    assert np.array_equal(data.test.images[0], np.asarray(Image.open(data.test.images.paths[0])))


def test_the_seed_decides_the_split(pets):
    assert in_splits(folder(pets, seed=1)) == in_splits(folder(pets, seed=1)) != in_splits(folder(pets, seed=2))


def test_proportions_are_met(pets):
    data = folder(pets, proportions=(0.5, 0.25, 0.25))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [30, 15, 15]


def test_the_folder_may_be_named_by_a_string_and_with_a_dot(pets, monkeypatch):
    paths = folder(str(pets)).test.images.paths
    monkeypatch.chdir(pets)
    assert folder(".").test.images.paths == tuple(map(os.path.relpath, paths))


def test_names_that_differ_only_in_case_or_punctuation_stay_apart(tmp_path):
    names = ["Cat", "cat", "cat.", "cat-", "cät", "golden retriever"]
    data = folder(fill(tmp_path, **dict.fromkeys(names, 10)))
    assert data.class_names == tuple(sorted(names))
    assert np.bincount(data.train.labels).tolist() == [8] * 6


def test_subfolders_of_a_class_belong_to_it(pets):
    shutil.move(pets / "eel", pets / "dog" / "deep" / "down")
    data = folder(pets)
    assert data.class_names == ("cat", "dog")
    assert sum(np.bincount(split.labels)[1] for split in (data.train, data.validation, data.test)) == 40


def test_a_class_may_be_a_link(pets, tmp_path):
    shutil.move(pets / "eel", tmp_path / "elsewhere")
    (pets / "eel").symlink_to(tmp_path / "elsewhere")
    (pets / "cat" / "loop").symlink_to(pets)
    assert len(find(pets).paths) == 60


def test_hidden_files_and_others_are_passed_over_and_counted(pets):
    for name in (".DS_Store", "cat/._1.png", "cat/.thumbs/2.png", "dog/a.txt", "dog/b.TXT", "dog/README", "cat/x.csv"):
        (pets / name).parent.mkdir(exist_ok=True)
        (pets / name).write_bytes(b"")
    picture(pets / ".git" / "1.png")
    data = folder(pets)
    assert len(set.union(*in_splits(data))) == 60
    assert data.notes == (
        "passed over, as their names are not those of pictures: 2 .txt, 1 hidden, 1 .csv, 1 without a suffix",
    )


def test_pictures_beside_the_subfolders_are_left_out_with_a_note(pets):
    picture(pets / "stray.JPG")
    data = folder(pets)
    assert data.notes == ("1 pictures beside the subfolders belong to no class and are left out",)


def test_suffixes_in_capitals_are_those_of_pictures(tmp_path):
    for number, suffix in enumerate([".JPG", ".Jpeg", ".PNG", ".bMp", ".GIF"] * 2):
        picture(tmp_path / "ab"[number // 5] / f"{number}{suffix}", number, {".Jpeg": "JPEG"}.get(suffix, "PNG"))
    assert len(find(tmp_path).paths) == 10


# --- refusals ---


def refused(directory: Path, **options) -> str:
    with pytest.raises(DataError) as error:
        folder(directory, **options)
    return str(error.value)


CURE = "give the folder that has one subfolder of pictures for each class"


def test_a_folder_that_is_not_there_is_answered_with_one_that_is(pets):
    assert refused(pets.with_name("pet")) == f"{pets.with_name('pet')} is not there (did you mean pets?); {CURE}"
    assert refused(pets / "no" / "such") == f"{pets / 'no/such'} is not there; {CURE}"


def test_a_file_in_place_of_the_folder_is_refused(pets):
    (pets / "list.txt").write_text("")
    message = f"{pets / 'list.txt'} is a file; {CURE} (a file of lines `path label` is for `listing`)"
    assert refused(pets / "list.txt") == message


def test_folders_that_may_not_be_listed_are_all_named(pets, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name in ("cat", "eel"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    lines = [f"  {pets / name} (Permission denied)" for name in ("cat", "eel")]
    assert refused(pets).splitlines() == ["folders cannot be listed:", *lines]


def test_a_top_folder_that_may_not_be_listed_is_refused(pets, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr("os.scandir", refuse)
    assert refused(pets) == f"{pets} cannot be listed (Permission denied)"


def test_no_pictures_are_refused(tmp_path):
    assert refused(tmp_path) == f"{tmp_path} has neither subfolders nor pictures; {CURE}"
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    assert refused(tmp_path) == f"{tmp_path} has no pictures in 2 subfolders; {CURE}"
    (tmp_path / "dog" / "a.txt").write_text("")
    assert refused(tmp_path) == f"{tmp_path} has no pictures in 2 subfolders, but 1 .txt; {CURE}"


def test_pictures_without_subfolders_are_refused_with_the_tool_that_helps(tmp_path):
    picture(tmp_path / "cat.1.jpg")
    message = f"{tmp_path} has 1 pictures and no subfolders (if their names tell the class, as in cat.12.jpg, "
    assert refused(tmp_path) == f"{message}`tfxfer make_listing` can make a listing of them by their names); {CURE}"


def split_fill(top: Path, **counts: int) -> Path:
    """Write cats and dogs, so many of each, into subfolders of these names."""
    for name, count in counts.items():
        for kind in ("cat", "dog"):
            for number in range(count):
                picture(top / name / kind / f"{number:03}.png", f"{name} {kind} {number}")
    return top


def below(data, folder: Path) -> list[set[str]]:
    """Return the subfolder of `folder` that each split's pictures lie in."""
    return [{Path(path).relative_to(folder).parts[0] for path in paths} for paths in in_splits(data)]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_subfolders_that_are_splits_divide_the_pictures_as_they_lie(tmp_path, names):
    top = split_fill(tmp_path, **dict(zip(names, (5, 2, 1), strict=True)))
    (top / "__MACOSX").mkdir()
    data = folder(top, size=(7, 9))
    assert data.class_names == ("cat", "dog")
    assert below(data, top) == [{name} for name in names]
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.validation, data.test)] == [
        [5, 5],
        [2, 2],
        [1, 1],
    ]
    assert data.notes == ()
    assert data.fixed_test
    labelled = zip(data.train.images.paths, data.train.labels, strict=True)
    assert {Path(path).parts[-2] for path, label in labelled if label} == {"dog"}


def test_without_a_test_split_the_validation_split_serves_as_test_and_a_note_says_so(tmp_path):
    data = folder(split_fill(tmp_path, train=5, val=2))
    assert below(data, tmp_path) == [{"train"}, {"val"}, {"val"}]
    assert data.test is data.validation
    assert {Path(path).parts[-3] for part in data.folds(2, 0) for path in part.test.images.paths} == {"train"}
    assert data.notes == ("a test split is missing: the validation split serves as test too",)


def test_without_a_validation_split_a_part_of_train_is_held_out(tmp_path):
    data = folder(split_fill(tmp_path, train=18, test=2), seed=1)
    assert below(data, tmp_path) == [{"train"}, {"train"}, {"test"}]
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.validation)] == [[16, 16], [2, 2]]
    assert not in_splits(data)[0] & in_splits(data)[1]
    assert data.notes == ("a validation split is missing: a part of train is held out for it",)
    other = folder(tmp_path, split="digest")
    assert in_splits(other)[2] == in_splits(data)[2]
    assert len(other.train) + len(other.validation) == 36


def test_a_test_without_subfolders_has_no_labels_and_is_left_out(tmp_path):
    split_fill(tmp_path, train=5, val=2)
    picture(tmp_path / "test" / "1.png")
    data = folder(tmp_path)
    assert data.test is data.validation
    assert data.notes[0] == "test has no subfolder for each class, and so no labels: it is left out"


def test_a_class_that_train_lacks_is_refused(tmp_path):
    split_fill(tmp_path, train=3, val=3)
    picture(tmp_path / "val" / "eel" / "1.png")
    assert refused(tmp_path) == (
        f"{tmp_path}: train lacks classes that other splits have (val: eel), and what is not trained cannot be "
        "recognised; add their pictures, or take these subfolders out"
    )


def test_a_class_without_pictures_to_train_on_is_refused(tmp_path):
    split_fill(tmp_path, train=3, val=3)
    for path in (tmp_path / "train" / "cat").iterdir():
        path.unlink()
    assert "train has no example of 1 of 2 classes: 0 (cat)" in refused(tmp_path)


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        ({"train": 10}, "there is neither val nor test"),
        ({"val": 10, "test": 10}, "none of them is train"),
        ({"train": 10, "val": 10, "validation": 10}, "val, validation are names of one split"),
        ({"train": 10, "val": 10, "extra": 10}, "beside them is extra"),
    ],
)
def test_subfolders_that_look_like_splits_and_divide_nothing_are_refused(tmp_path, folders, problem):
    message = refused(split_fill(tmp_path, **folders))
    assert "which look like splits and not like classes, but " + problem in message
    assert folder(tmp_path / next(iter(folders))).class_names == ("cat", "dog")  # the cure that is named


def test_splits_with_pictures_and_no_classes_are_refused(tmp_path):
    fill(tmp_path, Train=3, val=3)
    assert "but Train, val has no subfolder for each class" in refused(tmp_path)


def test_a_class_may_be_called_test_beside_others(tmp_path):
    assert folder(fill(tmp_path, cat=10, test=10, train=10)).class_names == ("cat", "test", "train")


@pytest.mark.parametrize("name", ["__MACOSX", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN", "lost+found"])
def test_what_a_system_left_is_not_a_class(pets, name):
    (pets / name / "cat").mkdir(parents=True)
    (pets / name / "cat" / "._000.png").write_bytes(b"x")
    picture(pets / name / "cat" / "1.png")
    (pets / "cat" / name).mkdir()
    picture(pets / "cat" / name / "2.png")
    data = folder(pets)
    assert data.class_names == ("cat", "dog", "eel")
    assert sum(map(len, in_splits(data))) == 60


# --- bad pictures ---


@pytest.fixture
def with_bad(pets: Path) -> Path:
    """Spoil six of sixty."""
    whole = (pets / "dog" / "000.png").read_bytes()
    (pets / "dog" / "000.png").write_bytes(whole[: len(whole) // 2])
    (pets / "dog" / "001.png").write_bytes(b"")
    (pets / "cat" / "002.png").write_text("Not a picture.")
    (pets / "cat" / "003.png").unlink()
    (pets / "cat" / "003.png").symlink_to("nowhere")
    huge = io.BytesIO()
    Image.new("1", (1, 1)).save(huge, "PNG")
    header = bytearray(huge.getvalue())
    header[16:24] = (20000).to_bytes(4, "big") * 2
    (pets / "eel" / "004.png").write_bytes(header)
    (pets / "eel" / "005.heic").write_bytes(b"\0\0\0\x1cftypheic")
    (pets / "eel" / "005.png").unlink()
    return pets


REASONS = {
    "dog/000.png": "is damaged, cut short, or a PNG of a rare kind; save it anew",
    "dog/001.png": "is empty",
    "cat/002.png": "is not a JPEG, PNG, BMP or GIF, but perhaps text",
    "cat/003.png": "is not there",
    "eel/004.png": "has 20,000 x 20,000 pixels, more than 100,000,000 or a side of 65,535",
    "eel/005.heic": "is not a JPEG, PNG, BMP or GIF, but perhaps HEIC",
}


def test_bad_pictures_are_set_aside_with_their_reasons(with_bad):
    data = folder(with_bad)
    assert data.set_aside == {str(with_bad / path): reason for path, reason in REASONS.items()}
    assert len(set.union(*in_splits(data))) == 54
    assert not set.union(*in_splits(data)) & set(data.set_aside)
    [note] = data.notes
    head, *lines = note.splitlines()
    assert head == "set aside 6 of 60 pictures:"
    assert set(lines) == {f"  {with_bad / path} {reason}" for path, reason in REASONS.items()}
    assert data.train.images[:].shape == (len(data.train), 224, 224, 3)


def test_a_picture_that_changes_after_it_was_looked_through_is_refused(pets):
    data = folder(pets)
    path = Path(data.train.images.paths[7])
    picture(path, "another")
    with pytest.raises(DataError, match=rf"1 of 48 pictures:\n  {path} has changed since it was looked through"):
        _ = data.train.images[:]


def test_few_leaves_pictures_where_they_are(pets):
    few = folder(pets).few(12, 0)
    assert isinstance(few.train.images, Pictures)
    assert np.bincount(few.train.labels).tolist() == [4, 6, 2]


# --- by digest, and identical pictures ---


HEX = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")


@given(st.lists(HEX, max_size=40), st.lists(HEX, max_size=40), st.tuples(*[st.floats(0.1, 9)] * 3))
def test_by_digest_an_example_stays_where_it_is_as_others_are_added(first, others, proportions):
    def home(digests):
        parts = by_digest(digests, proportions)
        assert sorted(np.concatenate(parts)) == list(range(len(digests)))
        return {digests[place]: number for number, part in enumerate(parts) for place in part}

    alone = home(first)
    together = home([*others, *first, *first])
    assert all(together[digest] == part for digest, part in alone.items())


def test_by_digest_the_parts_have_about_the_proportions_asked_for():
    digests = [decoding.sha256(str(number).encode()) for number in range(10_000)]
    shares = [len(part) / 10_000 for part in by_digest(digests, (8, 1, 1))]
    assert np.allclose(shares, [0.8, 0.1, 0.1], atol=0.01)


def test_by_digest_the_bounds_are_those_of_the_hexadecimal_number():
    digests = ["0" * 64, "7" + "f" * 63, "8" + "0" * 63, "f" * 64]
    assert [part.tolist() for part in by_digest(digests, (1, 1))] == [[0, 1], [2, 3]]


@pytest.mark.parametrize("proportions", [(), (1, 0), (1, -1), (1, float("nan"))])
def test_by_digest_refuses_proportions_that_are_not_positive(proportions):
    with pytest.raises(DataError, match="they must be positive"):
        by_digest(["0" * 64], proportions)


# --- real pictures ---


def test_flowers(real_data, tmp_path):
    data = folder(real_data("flowers"), index=tmp_path / "index.json")
    assert data.class_names == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.validation, data.test)] == [
        [96] * 5,
        [12] * 5,
        [12] * 5,
    ]
    assert data.notes == ()
    assert data.test.images[:].shape == (60, 224, 224, 3)


def test_every_suffix_is_in_small_letters():
    assert {suffix.lower() for suffix in SUFFIXES} == SUFFIXES
