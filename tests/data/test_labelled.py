"""Labelled pictures: classes and splits that cannot be used, identical pictures, and the split by digest."""
# ruff: noqa: F811  # imported fixtures are taken by their names

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.data.test_folders import REASONS, fill, in_splits, pets, picture, refused, with_bad  # noqa: F401
from tfxfer.data import decoding, folder
from tfxfer.errors import DataError


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
