"""The page as a whole: what it shows, that it refers to nothing outside, and that no file can spoil it."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made_runs import NASTY, make
from tests.reports.pages import Parsed, shown
from tfxfer import reports
from tfxfer.errors import RunError
from tfxfer.markup import escape


def test_the_page_has_every_part_of_a_finished_run(finished):
    parsed = shown(finished, "tfxfer train --x")
    ids = [value for value in parsed.values("id") if value != "content"]
    assert ids == ["curves", "confusion", "classes", "mistakes", "filters", "plan", "frozen", "settings",
                   "environment", "repeat"]  # fmt: skip
    right, every = 102, 140
    said = [f"{right} of {every} right", "best: epoch 4", "conv1/kernel: 16 filters of 5x5, grey", "70 examples/s",
            "Restored: 4 of 5 variables", "4 variables, bit-identical", "tfxfer train --x"]  # fmt: skip
    for one in said:
        assert one in parsed.text
    assert "banner" not in parsed.values("class")


def test_the_page_refers_to_nothing_outside_itself_and_runs_no_script(finished):
    text = reports.report(finished).html
    parsed = Parsed(text)
    assert not parsed.all("script")
    assert not parsed.all("link")
    assert not parsed.all("iframe")
    assert all(value.startswith("data:image/png;base64,") for value in parsed.values("src"))
    assert {value.lstrip("#") for value in parsed.values("href")} <= set(parsed.values("id"))
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    [policy] = [meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_names_of_classes_are_text_wherever_they_stand(finished):
    parsed = shown(finished)
    for name in NASTY:
        assert str(escape(name)) == name.translate({0: "\ufffd", 0xDCE9: "\ufffd"}) or "<" in name or '"' in name
        # In the matrix (twice), in the table of classes, and wherever it was confused.
        assert sum(text == Parsed(escape(name)).text for text in parsed.texts) >= 3
    assert not parsed.all("script")


def test_every_picture_says_what_it_shows_and_ids_are_there_once(finished):
    parsed = shown(finished)
    assert all(attributes.get("alt") for attributes in parsed.all("img"))
    assert all(
        attributes.get("aria-label") or attributes.get("aria-hidden") == "true" for attributes in parsed.all("svg")
    )
    assert any("taken for" in str(attributes["alt"]) for attributes in parsed.all("img"))
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))


WRONG = st.sampled_from([None, True, -1, 10**400, math.nan, math.inf, "", "<b>x", "\udc00", [], [[]], {}, {"a": [1]}])


@st.composite
def spoilt(draw, value: Any) -> Any:
    """A value in which one part, at any depth, is something else."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        changed = copy.copy(value)
        changed[place] = draw(spoilt(value[place]))
        return changed
    return draw(WRONG)


@pytest.mark.parametrize(
    "name", ["settings.json", "plan.json", "frozen.json", "test.json", "model.ckpt-240.state.json"]
)
def test_no_content_of_a_file_breaks_the_page(name, tmp_path):
    run = make(tmp_path / "run")
    whole = json.loads((run / name).read_text())

    @settings(max_examples=60)
    @given(spoilt(whole))
    def check(value):
        (run / name).write_text(json.dumps(value))
        try:
            text = reports.report(run, command="tfxfer train").html
        except RunError:
            return
        assert text.encode()
        assert "<b>x" not in text

    check()
