"""data_checks/check.py: planted faults are found, in made features and in those of real networks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import tfxfer as tx
from tfxfer.errors import DataError


def clouds(count: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % classes
    return np.eye(classes, 32)[labels] + np.random.default_rng(0).normal(0, 0.15, (count, 32)), labels


def test_planted_faults_are_found_in_any_features():
    features, labels = clouds()
    given = labels.copy()
    given[[3, 10, 50]] = (labels[[3, 10, 50]] + 1) % 4
    features[20] = features[24]  # of one class
    features[7] = -5 * np.eye(32)[30]
    check = tx.check_data(features, given, class_names=("a", "b", "c", "d"))
    assert {each.index for each in check.of_kind("label")[:4]} >= {3, 10, 50}
    assert [each.suggested for each in check.of_kind("label") if each.index == 3] == ["abcd"[labels[3]]]
    assert [(each.index, each.other_index) for each in check.of_kind("near")] == [(24, 20)]
    assert check.of_kind("outlier")[0].index == 7
    assert check.accuracy > 0.95
    assert check.notes == ()
    assert check == tx.check_data(features, given, class_names=("a", "b", "c", "d"))


def test_classes_that_overlap_are_named_with_how_often():
    labels = np.arange(300) % 3
    features = np.eye(3)[np.where(labels == 2, 1, labels)] + np.random.default_rng(0).normal(0, 0.05, (300, 3))
    [overlap] = tx.check_data(features, labels, class_names=("a", "b", "c")).overlaps
    assert overlap.classes == ("b", "c")
    assert 60 < overlap.confused < 140
    assert overlap.examples == 200


def test_identical_pictures_come_first_where_labels_and_then_where_splits_differ(tmp_path):
    features, labels = clouds(40)
    generator = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(generator.integers(0, 255, (40, 40, 3)).astype(np.uint8)).save(tmp_path / f"{number}.png")
    for copy, first in ((36, 0), (33, 1), (30, 3)):
        (tmp_path / f"{copy}.png").write_bytes((tmp_path / f"{first}.png").read_bytes())
        features[copy] = features[first]
    splits = ["test" if number == 33 else "train" for number in range(40)]
    pictures = tx.data.Pictures([tmp_path / f"{number}.png" for number in range(40)])
    check = tx.check_data(features, labels, pictures, splits=splits)
    copies = [(each.index, each.other_index, each.reason) for each in check.findings[:3]]
    assert copies == [(30, 3, "across classes"), (33, 1, "across splits"), (36, 0, "")]
    assert check.of_kind("near") == []
    assert check.findings[0].path == str(tmp_path / "30.png")


def test_what_cannot_be_checked_is_noted_and_the_rest_is_checked():
    features, labels = clouds()
    features[20] = features[24]
    cases = [(None, 5, "there are none"), (labels, 0, "`folds=0`"), (labels * 0, 5, "one class only")]
    for given, folds, note in cases:
        check = tx.check_data(features, given, folds=folds)
        assert note in check.notes[0]
        assert check.accuracy is None
        assert len(check.of_kind("near")) == 1
    assert tx.check_data(features[:1]).findings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3, np.int64)}, "there are 200 rows of features, but 3 labels"),
        ({"splits": ["train"]}, "there are 200 rows of features, but 1 splits"),
        ({"labels": np.zeros((200, 2), np.int64)}, r"labels are int64 \(200, 2\), not int64 \[n\]"),
        ({"class_names": ("a", "b")}, r"100 of 200 labels are outside 0\.\.1"),
        ({"folds": 60}, r"4 classes have fewer pictures than `folds=60`: .*; take `folds=50`$"),
        ({"seed": -1}, "`seed=-1` is out of range"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    features, labels = clouds()
    with pytest.raises(DataError, match=message):
        tx.check_data(features, **{"labels": labels, **change})


def test_features_that_are_not_finite_are_refused_by_the_names_of_their_pictures():
    features, labels = clouds()
    features[5, 3] = np.nan
    pictures = tx.data.Pictures([f"folder/{number}.jpg" for number in range(200)])
    with pytest.raises(DataError, match=r"features of 1 of 200 examples are NaN or .*:\n  folder/5\.jpg$"):
        tx.check_data(features, labels, pictures)
