"""report/suspects.py: what a check found as a section and as a page, from a file that is not trusted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.made_runs import make
from tests.reports.pages import Parsed, shown
from tfxfer.data_checks.findings import KINDS, DataCheck, Finding, Overlap
from tfxfer.data_checks.record import FILE, with_pictures
from tfxfer.reports import run_reader, suspects

STRANGE = '<script>alert("x")</script>'


def value() -> dict:
    findings = (
        Finding("unreadable", "x/bad.jpg", -1, reason="is empty"),
        Finding("near", "x/a.jpg", 0, "cat", other=f"x/{STRANGE}", other_index=1, other_label="dog"),
        Finding("label", "x/c.jpg", 2, "cat", suggested=STRANGE, score=0.1, reason="10.0% probable"),
    )
    check = DataCheck(3, findings, (Overlap(("cat", "dog"), 1, 4),), 0.5, ("labels of one kind",))
    return json.loads(json.dumps(with_pictures(check, np.zeros((3, 8, 8, 3), np.uint8))))


def test_the_page_has_a_section_for_each_kind_and_no_script():
    page = Parsed(suspects.document(suspects.Suspects.from_json(value()), STRANGE))
    assert [each for each in page.values("id") if each != "content"] == ["unreadable", "near", "label", "overlaps"]
    for text in ("is empty", "cat and dog", "10.0% probable", "25.0%", "50.0% of the labels", "labels of one kind"):
        assert text in page.text
    assert STRANGE in page.text
    assert not page.all("script")
    assert len(page.all("img")) == 3
    assert all(each["alt"] and each["src"].startswith("data:image/png;base64,") for each in page.all("img"))


def test_the_kinds_are_those_of_the_check():
    assert list(suspects.KINDS) == list(KINDS)


def test_the_report_of_a_run_shows_what_lies_in_it(tmp_path):
    run = make(tmp_path / "run")
    assert "suspects" not in shown(run).values("id")
    (run / FILE).write_text(json.dumps(value()))
    parsed = shown(run)
    assert "suspects" in parsed.values("id")
    assert "Doubtful labels" in parsed.text
    assert run_reader.SUSPECTS == FILE


@pytest.mark.parametrize(
    "broken",
    ["{", "[]", "{}", '{"examples": 3}', json.dumps({**value(), "examples": -1}),
     json.dumps({**value(), "findings": [3]}), json.dumps({**value(), "overlaps": [{"classes": ["a"]}]})],
)  # fmt: skip
def test_a_damaged_file_is_noted_and_the_rest_shown(broken, tmp_path):
    run = make(tmp_path / "run")
    (run / FILE).write_text(broken)
    parsed = shown(run)
    assert "suspects" not in parsed.values("id")
    assert "suspects.json cannot be used" in parsed.text


def test_what_is_not_a_png_is_not_drawn():
    changed = value()
    changed["pictures"] = {"0": "aGVsbG8=", "1": "???"}
    page = Parsed(suspects.document(suspects.Suspects.from_json(changed), "x"))
    assert page.all("img") == []
    assert "no picture" in page.text
