"""data_checks/findings.py: what is left out, and the table and JSON of it."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tfxfer.data_checks.findings import DataCheck, Finding, Overlap
from tfxfer.errors import DataError

FINDINGS = (
    Finding("exact", "b", 1, "cat", "test", "a", 0, "dog", "train", reason="across classes and across splits"),
    Finding("exact", "c", 2, "dog", "train", "a", 0, "dog", "train"),
    Finding("near", "f", 5, "cat", "test", "e", 4, "cat", "train", score=0.01),
    Finding("label", 'g,"h"', 6, "cat", suggested="dog", score=0.02),
)


def check() -> DataCheck:
    return DataCheck(9, FINDINGS, (Overlap(("cat", "dog"), 3, 9),), 0.75, ("a note",))


def test_of_copies_under_one_label_the_first_stays_and_of_others_none():
    assert check().left_out({"exact", "near", "unreadable"}).tolist() == [0, 1, 2, 5]
    assert check().left_out({"near"}).tolist() == [5]
    assert check().left_out({"label", "outlier"}).tolist() == [6]
    assert check().left_out(()).tolist() == []


def test_a_kind_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(
        DataError, match=r"copies is not a kind of finding; the kinds are unreadable, exact, near, label"
    ):
        check().left_out({"copies", "exact"})


def test_files_without_features_come_first():
    more = check().with_unreadable({"bad.jpg": "is empty"})
    assert [each.path for each in more.findings] == ["bad.jpg", "b", "c", "f", 'g,"h"']
    assert more.counts() == {
        "unreadable": 1, "exact": 2, "near": 1, "label": 1, "outlier": 0, "tiny": 0, "one-coloured": 0}  # fmt: skip
    assert more.left_out({"unreadable"}).tolist() == []


def test_csv_and_json_hold_everything():
    rows = list(csv.DictReader(io.StringIO(check().csv())))
    assert [row["path"] for row in rows] == ["b", "c", "f", 'g,"h"']
    assert (rows[0]["other_label"], rows[3]["suggested"], rows[3]["score"]) == ("dog", "dog", "0.02")
    value = json.loads(json.dumps(check().to_json()))
    assert value["findings"][2]["other_split"] == "train"
    assert value["overlaps"] == [{"classes": ["cat", "dog"], "confused": 3, "examples": 9}]
    assert (value["examples"], value["accuracy"], value["notes"]) == (9, 0.75, ["a note"])


def test_copies_know_whether_they_cross_classes_or_splits():
    assert [(each.across_classes, each.across_splits) for each in FINDINGS] == [
        (True, True), (False, False), (False, True), (False, False)]  # fmt: skip
