"""The confusion matrix on the page, of few classes and of many."""

from __future__ import annotations

import json

import numpy as np

from tests import made_runs
from tests.made_runs import make, outcome
from tests.reports.pages import Parsed, shown
from tfxfer import reports
from tfxfer.reports import examples


def test_few_classes_have_a_table_of_numbers(tmp_path):
    run = make(tmp_path / "run", ("cat", "dog"))
    wanted = np.array(json.loads((run / "test.json").read_text())["confusion"])
    text = reports.report(run).html
    titles = [value for value in Parsed(text).values("title") if value and "taken for" in value and ":" in value]
    [cats, _] = wanted
    assert titles[:2] == [f"cat taken for cat: {cats[0]} ({cats[0] / 20:.0%})",
                          f"cat taken for dog: {cats[1]} ({cats[1] / 20:.0%})"]  # fmt: skip


def test_a_thousand_classes_have_a_map_and_the_worst_of_them_in_front(tmp_path):
    run = make(tmp_path / "run", [f"class {number}" for number in range(1000)])
    text = reports.report(run).html
    assert len(text) < 600_000
    parsed = Parsed(text)
    assert "Confusion matrix of 1,000 classes, 10 classes to a row and column in their order." in parsed.values(
        "aria-label"
    )
    figures = examples.per_class(reports.read(run).test.confusion)
    weakest = int(np.argsort(figures["f1-score"], kind="stable")[0])
    assert parsed.texts[parsed.texts.index("Class by class") :].index(f"class {weakest}") < 30


def test_classes_without_examples_and_a_test_without_mistakes_are_shown(tmp_path):
    run = make(tmp_path / "run", ("cat", "dog", "owl"))
    test = outcome(("cat", "dog", "owl"))
    made_runs.write(run, "test.json", {**test, "confusion": np.diag([4, 3, 0]).tolist(), "mistakes": []})
    text = shown(run).text
    assert "7 of 7 right" in text
    assert "No class was taken for another." in text
    assert "The worst mistakes There is none." in text
