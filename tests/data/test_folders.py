"""A folder of pictures: classes, bad pictures, the index, splits, identical pictures."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tfxfer.data import Pictures, decoding, folder
from tfxfer.data import scan as scanning
from tfxfer.data.folders import SUFFIXES, find
from tfxfer.data.scan import scan
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
    labelled = zip(data.train.images.paths, data.train.labels, strict=True)
    assert {Path(path).parts[-2] for path, label in labelled if label} == {"dog"}


def test_without_a_test_split_the_validation_split_serves_as_test_and_a_note_says_so(tmp_path):
    data = folder(split_fill(tmp_path, train=5, val=2))
    assert below(data, tmp_path) == [{"train"}, {"val"}, {"val"}]
    assert data.test is data.validation
    assert data.notes == ("there is no test split: the validation split serves as test too",)


def test_without_a_validation_split_a_part_of_train_is_held_out(tmp_path):
    data = folder(split_fill(tmp_path, train=18, test=2), seed=1)
    assert below(data, tmp_path) == [{"train"}, {"train"}, {"test"}]
    assert [np.bincount(split.labels).tolist() for split in (data.train, data.validation)] == [[16, 16], [2, 2]]
    assert not in_splits(data)[0] & in_splits(data)[1]
    assert data.notes == ("there is no validation split: a part of train is held out for it",)
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


def test_one_class_is_refused(tmp_path):
    message = f"{tmp_path}: a classifier needs two classes or more, and there is only one, cat (20 pictures)"
    assert refused(fill(tmp_path, cat=20)) == message


def test_classes_without_a_picture_are_refused(pets):
    (pets / "ape").mkdir()
    (pets / "fox").mkdir()
    assert refused(pets) == (f"{pets}: 2 of 5 classes have no picture: ape, fox; add some, or take these classes out")


@pytest.mark.parametrize("split", ["shuffle", "digest"])
def test_classes_with_fewer_pictures_than_splits_are_refused(pets, split):
    fill(pets, ape=1, fox=2)
    assert refused(pets, split=split) == (
        f"{pets}: 2 of 5 classes have fewer pictures than there are splits, 3: ape (1), fox (2); "
        "add some, or take these classes out"
    )


def test_too_few_pictures_for_the_splits_are_refused(tmp_path):
    assert refused(fill(tmp_path, cat=3, dog=3)) == (
        f"{tmp_path}: cannot split 6 examples of 2 classes into 5 + 0 + 1: each part needs room for every class"
    )


def test_a_split_by_digest_that_leaves_a_split_empty_is_refused(tmp_path):
    assert refused(fill(tmp_path, cat=3, dog=3), split="digest", proportions=(1e9, 1, 1)).splitlines() == [
        f"{tmp_path}: the data cannot be used:",
        "  validation has no examples",
        "  test has no examples",
        "add pictures, or divide them in another way",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "random"}, "`split` is 'random'; take one of 'shuffle', 'digest'"),
        ({"proportions": (8, 2)}, r"proportions are \(8, 2\); give three above 0, as in \(8, 1, 1\)"),
        ({"proportions": (8, 2, 0)}, r"proportions are \(8, 2, 0\)"),
        ({"proportions": (8, 2, float("nan"))}, r"proportions are \(8, 2, nan\)"),
        ({"most_bad": 1.5}, "`most_bad` is 1.5; it is a share of all pictures, from 0 to 1"),
        ({"seed": -1}, "`seed=-1` is out of range"),
        ({"size": (0, 5)}, r"size is \(0, 5\)"),
        ({"resize": "pad"}, "resize is 'pad'"),
    ],
)
def test_arguments_are_looked_at_before_any_picture_is(pets, monkeypatch, options, message):
    monkeypatch.setattr(decoding, "read_file", None)
    with pytest.raises(DataError, match=message):
        folder(pets, **options)


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
    "cat/002.png": "is no JPEG, PNG, BMP or GIF, but perhaps text",
    "cat/003.png": "is not there",
    "eel/004.png": "has 20,000 x 20,000 pixels, more than 100,000,000 or a side of 65,535",
    "eel/005.heic": "is no JPEG, PNG, BMP or GIF, but perhaps HEIC",
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


def test_more_bad_pictures_than_a_stated_share_are_refused_and_listed(with_bad):
    message = refused(with_bad, most_bad=0.09)
    head, *lines, cure = message.splitlines()
    assert head == f"{with_bad}: 6 of 60 pictures cannot be used, more than `most_bad=0.09`:"
    assert set(lines) == {f"  {with_bad / path} {reason}" for path, reason in REASONS.items()}
    assert cure == "mend or remove them, or allow more by `most_bad`"


def test_a_class_whose_pictures_are_all_bad_is_refused(pets):
    fill(pets, ape=3)
    for path in (pets / "ape").iterdir():
        path.write_bytes(b"")
    assert refused(pets) == (
        f"{pets}: 1 of 4 classes have no picture that can be decoded: ape; add some, or take these classes out"
    )
    fill(pets, ape=2)
    assert "1 of 4 classes have fewer pictures that can be decoded than there are splits, 3: ape (2)" in refused(pets)


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


# --- the index ---


@pytest.fixture
def decoded(monkeypatch) -> Counter[str]:
    """Count the files that are read; none counts as changed just now."""
    monkeypatch.setattr(scanning, "TICK_NS", 0)
    counter: Counter[str] = Counter()
    read = decoding.read_file

    def counted(path: str, *args) -> bytes:
        counter[path] += 1
        return read(path, *args)

    monkeypatch.setattr(decoding, "read_file", counted)
    return counter


def test_with_an_index_only_what_is_new_or_changed_is_decoded_again(pets, tmp_path, decoded):
    index = tmp_path / "index.json"
    first = folder(pets, index=index)
    assert decoded.total() == 60
    assert in_splits(folder(pets, index=index)) == in_splits(first)
    assert decoded.total() == 60
    decoded.clear()
    new, changed, touched = picture(pets / "eel" / "new.png"), pets / "cat" / "001.png", pets / "cat" / "002.png"
    picture(changed, "changed")
    os.utime(touched, ns=(0, 0))
    (pets / "dog" / "000.png").unlink()
    data = folder(pets, index=index)
    assert decoded == {str(path): 1 for path in (new, changed, touched)}
    digests = {
        path: split.images.digest(k)
        for split in (data.train, data.validation, data.test)
        for k, path in enumerate(split.images.paths)
    }
    assert digests == {str(path): decoding.sha256(path.read_bytes()) for path in pets.glob("*/*.png")}


def test_the_index_remembers_what_is_wrong_with_contents_and_looks_at_all_else_again(with_bad, tmp_path, decoded):
    first = folder(with_bad, index=tmp_path / "index.json")
    decoded.clear()
    assert folder(with_bad, index=tmp_path / "index.json").set_aside == first.set_aside
    again = {Path(path).relative_to(with_bad).as_posix() for path in decoded}
    assert again == {"dog/001.png", "cat/002.png", "cat/003.png", "eel/005.heic"}


def test_the_index_is_written_though_the_job_is_refused(with_bad, tmp_path, decoded):
    refused(with_bad, most_bad=0, index=tmp_path / "index.json")
    decoded.clear()
    folder(with_bad, index=tmp_path / "index.json")
    assert decoded.total() == 4


def test_the_index_holds_for_the_folder_under_any_name(pets, tmp_path, monkeypatch, decoded):
    folder(pets, index=tmp_path / "index.json")
    monkeypatch.chdir(pets / "cat")
    folder("..", index=tmp_path / "index.json")
    assert decoded.total() == 60


def test_an_index_of_another_limit_is_made_anew(pets, tmp_path, decoded):
    paths = find(pets).paths
    assert all(one.digest for one in scan(paths, index=tmp_path / "index.json"))
    assert not any(one.digest for one in scan(paths, index=tmp_path / "index.json", most_pixels=29))
    assert decoded.total() == 120


@pytest.mark.parametrize(
    "content",
    [
        "", "[1, 2]", "{}", "null", '{"format": "tfxfer pictures 0"}', "[" * 10**5,
        '{"format": "tfxfer pictures 1", "most_pixels": 100000000, "pictures": {"a": [1, 2, "b"]}}',
        '{"format": "tfxfer pictures 1", "most_pixels": 100000000, "pictures": [1]}',
    ],
)  # fmt: skip
def test_a_file_that_is_no_index_is_neither_used_nor_overwritten(pets, tmp_path, content):
    (tmp_path / "notes.json").write_text(content)
    message = f"{tmp_path / 'notes.json'} is no index of pictures; delete it, or name another file as index"
    assert refused(pets, index=tmp_path / "notes.json") == message
    assert (tmp_path / "notes.json").read_text() == content


def test_an_index_that_cannot_be_written_is_refused_before_the_work(pets, tmp_path, decoded):
    index = tmp_path / "no" / "index.json"
    assert refused(pets, index=index) == f"the index {index} cannot be written: there is no folder {index.parent}"
    assert refused(pets, index=tmp_path) == f"the index {tmp_path} cannot be read (Is a directory)"
    assert decoded.total() == 0


def test_the_index_is_json_that_names_each_file(pets, tmp_path, decoded):
    folder(pets, index=tmp_path / "index.json")
    pictures = json.loads((tmp_path / "index.json").read_bytes())["pictures"]
    status = (pets / "cat" / "000.png").stat()
    digest = decoding.sha256((pets / "cat" / "000.png").read_bytes())
    assert pictures[str(pets / "cat" / "000.png")] == [
        status.st_size, status.st_mtime_ns, digest, "", status.st_ctime_ns, status.st_ino
    ]  # fmt: skip


def test_a_picture_replaced_by_one_of_equal_size_and_time_is_read_again(tmp_path, decoded):
    """As `cp -p`, `rsync -t` and `tar` leave them: BMP files of one shape always have the same length."""
    paths, index = [str(tmp_path / f"{k}.png") for k in range(4)], tmp_path / "index.json"
    for k, path in enumerate(paths):
        picture(Path(path), str(k))
    size = max(os.stat(path).st_size for path in paths)
    for path in paths:
        Path(path).write_bytes(Path(path).read_bytes().ljust(size, b"\0"))
        os.utime(path, ns=(10**18, 10**18))
    before = [one.digest for one in scan(paths, index=index)]
    other = Path(paths[3]).read_bytes()
    (tmp_path / "other").write_bytes(other)
    Path(paths[1]).write_bytes(other)
    os.utime(paths[1], ns=(10**18, 10**18))
    os.utime(tmp_path / "other", ns=(10**18, 10**18))
    os.replace(tmp_path / "other", paths[2])
    after = [one.digest for one in scan(paths, index=index)]
    assert after == [before[0], before[3], before[3], before[3]]
    assert [decoded[path] for path in paths] == [1, 2, 2, 1]


def test_a_picture_that_changed_just_before_it_was_looked_at_is_read_again_and_not_decoded(
    tmp_path, decoded, monkeypatch
):
    monkeypatch.setattr(scanning, "TICK_NS", 10**15)
    path = str(picture(tmp_path / "a.png"))
    first = scan([path], index=tmp_path / "index.json")
    monkeypatch.setattr(decoding, "verify", None)
    assert scan([path], index=tmp_path / "index.json") == first
    assert decoded[path] == 2


def test_an_index_without_times_of_entries_is_used_after_reading_each_file(tmp_path, decoded, monkeypatch):
    path, index = str(picture(tmp_path / "a.png")), tmp_path / "index.json"
    first = scan([path], index=index)
    written = json.loads(index.read_bytes())
    written["format"] = "tfxfer pictures 1"
    written["pictures"] = {key: row[:4] for key, row in written["pictures"].items()}
    index.write_text(json.dumps(written))
    monkeypatch.setattr(decoding, "verify", None)
    assert scan([path], index=index) == first
    assert decoded[path] == 2


def test_a_path_that_is_there_twice_is_looked_at_once(pets, decoded):
    path = str(pets / "cat" / "000.png")
    assert scan([path, path, path]) == [scan([path])[0]] * 3
    assert decoded[path] == 2


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


def test_with_digest_pictures_stay_in_their_split_as_others_are_added(pets):
    before = in_splits(folder(pets, split="digest"))
    fill(pets, cat=40, dog=60, ape=40)
    after = in_splits(folder(pets, split="digest", seed=9))
    assert all(old <= new for old, new in zip(before, after, strict=True))


def test_a_class_that_a_split_lacks_is_noted(tmp_path):
    data = folder(fill(tmp_path, cat=40, dog=40, eel=3), split="digest")
    held = {name: set(split.labels) for name, split in (("validation", data.validation), ("test", data.test))}
    assert set(data.notes) == {f"{name} has no picture of eel" for name, labels in held.items() if 2 not in labels}
    assert data.notes


def test_identical_pictures_in_two_splits_are_noted(pets):
    for number in range(9):
        shutil.copy(pets / "dog" / f"{number:03}.png", pets / "dog" / f"copy {number}.png")
    data = folder(pets)
    home = {
        Path(path): f"{path} ({name})"
        for name, split in (("train", data.train), ("validation", data.validation), ("test", data.test))
        for path in split.images.paths
    }
    twins = [(home[pets / f"dog/{n:03}.png"], home[pets / f"dog/copy {n}.png"]) for n in range(9)]
    apart = [(one, other) for one, other in twins if one.split()[-1] != other.split()[-1]]
    assert apart
    [note] = data.notes
    assert note.splitlines() == [
        f"{len(apart)} pictures are identical in two splits, whose numbers are then not independent; "
        "`split='digest'` keeps them together:",
        *(f"  {one} = {other}" for one, other in apart),
    ]
    assert not any("identical" in note for note in folder(pets, split="digest").notes)


def test_identical_pictures_in_two_classes_are_noted(pets):
    shutil.copy(pets / "dog" / "000.png", pets / "cat" / "same.png")
    assert folder(pets, split="digest").notes[-1].splitlines() == [
        "1 pictures are identical under two labels:",
        f"  {pets / 'cat/same.png'} (cat) = {pets / 'dog/000.png'} (dog)",
    ]


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
