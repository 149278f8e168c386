"""Two runs on the same test pictures: McNemar's test, the pictures on which they differ, and refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

import tfxfer as tx
from tests import made_runs
from tfxfer.errors import RunError
from tfxfer.runs import test_examples
from tfxfer.runs.test_examples import ExampleResult
from tfxfer.statistics.diff_runs import mcnemar

CLASSES = ("ant", "bee")


def made(folder: Path, right: list[int], *, numbers=None, **settings) -> Path:
    """Write a run whose test pictures have these numbers, and are right or wrong."""
    made_runs.write_settings(folder, **{**made_runs.SETTINGS, **settings})
    numbers = list(range(len(right))) if numbers is None else numbers
    examples = [
        ExampleResult(index, bool(one), CLASSES[number % 2], CLASSES[(number + 1 - one) % 2], 0.75, f"{number:064x}",
               f"{folder.name}/{number}.jpg")
        for index, (number, one) in enumerate(zip(numbers, right, strict=True))
    ]  # fmt: skip
    (folder / test_examples.FILE).write_bytes(test_examples.to_csv(examples))
    return folder


def test_the_test_gives_what_statsmodels_and_r_publish_of_it():
    # The example of statsmodels' `mcnemar([[101, 121], [59, 33]], exact=True)`.
    assert mcnemar(121, 59) == pytest.approx(4.43444926375551e-06, rel=1e-9)
    assert mcnemar(59, 121) == mcnemar(121, 59)
    # Agresti's approval ratings, 150 and 86 of 1,600, are far from chance; equal counts and no pair are not.
    assert mcnemar(150, 86) < 1e-4
    assert mcnemar(7, 7) == mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 * 0.5**5)


def test_pictures_on_which_two_runs_differ_are_named_and_counted(tmp_path):
    a = made(tmp_path / "a", [1, 1, 1, 0, 0, 1])
    b = made(tmp_path / "b", [1, 0, 1, 1, 0, 0], epochs=9, dropout=0.5)
    diff = tx.diff_runs(a, b)
    assert [pair[0].name for pair in diff.only_a] == ["a/1.jpg", "a/5.jpg"]
    assert [(pair[0].predicted, pair[1].predicted, pair[1].true) for pair in diff.only_b] == [("ant", "bee", "bee")]
    assert (diff.examples, diff.right, diff.accuracies) == (6, (4, 3), (4 / 6, 0.5))
    assert diff.p_value == binomtest(2, 3).pvalue
    interval = binomtest(4, 6).proportion_ci(method="wilson")
    assert diff.intervals[0] == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert diff.settings == {"dropout": (0.0, 0.5), "epochs": (6, 9)}
    plain = diff.to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["only_b_right"] == [
        {"name": "a/3.jpg", "true": "bee", "predicted_by_a": "ant", "predicted_by_b": "bee"}
    ]


def test_the_order_of_pictures_does_not_matter_and_equal_ones_are_paired_one_by_one(tmp_path):
    a = made(tmp_path / "a", [1, 0, 1, 1], numbers=[3, 4, 5, 5])
    b = made(tmp_path / "b", [0, 1, 1, 0], numbers=[5, 5, 3, 4])
    diff = tx.diff_runs(a, b)
    assert (diff.right, diff.examples) == ((3, 2), 4)
    assert [pair[0].example for pair in diff.only_a] == [2]


def test_random_runs_have_the_counts_that_numpy_finds(tmp_path):
    generator = np.random.default_rng(0)
    first, second = (generator.random(500) < share for share in (0.8, 0.85))
    diff = tx.diff_runs(made(tmp_path / "a", [*map(int, first)]), made(tmp_path / "b", [*map(int, second)]))
    counts = int((first & ~second).sum()), int((second & ~first).sum())
    assert (len(diff.only_a), len(diff.only_b)) == counts
    assert diff.p_value == binomtest(counts[0], sum(counts)).pvalue
    assert diff.settings == {}


def test_other_pictures_are_refused_with_the_setting_that_chose_them(tmp_path):
    a, b = made(tmp_path / "a", [1, 1, 1], seed=0), made(tmp_path / "b", [1, 1], numbers=[1, 7], seed=1)
    with pytest.raises(RunError) as raised:
        tx.diff_runs(a, b)
    assert str(raised.value) == (
        f"the two were tested on different pictures: 2 of the 3 of {a} only there: a/0.jpg, a/2.jpg; 1 of the 2 of {b} "
        "only there: b/7.jpg; `seed` is 0 in the first and 1 in the second: train one of them anew with what the other "
        "has"
    )


def test_other_pictures_by_equal_settings_are_those_of_another_time(tmp_path):
    a, b = made(tmp_path / "a", [1, 1, 1]), made(tmp_path / "b", [1, 1])
    cure = f"`tfxfer evaluate {a}` and `tfxfer evaluate {b}` test both on what is there now"
    with pytest.raises(RunError, match=re.escape(cure)):
        tx.diff_runs(a, b)


def test_pictures_that_were_given_another_class_are_refused(tmp_path):
    a, b = made(tmp_path / "a", [1, 1]), made(tmp_path / "b", [1, 1])
    text = (b / test_examples.FILE).read_text().replace("ant,ant", "wasp,wasp")
    (b / test_examples.FILE).write_text(text)
    with pytest.raises(RunError, match=r"1 test pictures have other classes .*: a/0.jpg: ant and wasp;"):
        tx.diff_runs(a, b)


def test_a_run_without_a_test_and_one_without_examples_are_refused(tmp_path):
    a, b = made(tmp_path / "a", []), made(tmp_path / "b", [])
    with pytest.raises(RunError, match="was tested on no picture"):
        tx.diff_runs(a, b)
    (b / test_examples.FILE).unlink()
    with pytest.raises(RunError, match=r"test_examples.csv cannot be read: .*`tfxfer evaluate"):
        tx.diff_runs(a, b)
    with pytest.raises(RunError, match="is not there; give a run directory"):
        tx.diff_runs(a, tmp_path / "c")
