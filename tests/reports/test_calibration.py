"""The section of the page that says whether probabilities mean what they say."""

from __future__ import annotations

import dataclasses

from tests.made_runs import make
from tests.reports.pages import shown
from tests.statistics.test_calibration import made
from tfxfer.statistics import calibration


def test_a_calibrated_run_has_both_diagrams_and_says_what_is_divided(tmp_path):
    run = make(tmp_path / "run")
    (run / calibration.FILE).write_bytes(calibration.to_bytes(made()))
    parsed = shown(run)
    before, after = made().test
    assert "calibration" in parsed.values("id")
    assert (
        f"calibration error of {after.ece:.4f} on the test examples, and without it of {before.ece:.4f}" in parsed.text
    )
    assert "Predictions and exports of this run divide by it." in parsed.text
    labels = [str(one["aria-label"]) for one in parsed.all("svg") if "confidence" in str(one.get("aria-label"))]
    first = next(part for part in before.bins if part.examples)
    assert f"{first.confidence:.2f}: {first.accuracy:.2f}" in labels[0]
    bars = [one for one in parsed.all("rect") if one.get("class") == "many"]
    assert len(bars) == sum(bool(part.examples) for part in (*before.bins, *after.bins))
    assert f"{first.examples} {first.confidence:.3f} {first.accuracy:.3f}" in parsed.text


def test_a_run_without_one_has_no_section_and_a_damaged_one_is_named(tmp_path):
    run = make(tmp_path / "run")
    assert "calibration" not in shown(run).values("id")
    (run / calibration.FILE).write_text("{}")
    parsed = shown(run)
    assert "calibration" not in parsed.values("id")
    assert "calibration.json cannot be used: 'temperature'" in parsed.text


def test_a_temperature_at_its_bound_and_one_of_validation_alone_say_so(tmp_path):
    run = make(tmp_path / "run")
    kept = dataclasses.replace(made(), temperature=0.1, at_bound=True, used=False, test=None)
    (run / calibration.FILE).write_bytes(calibration.to_bytes(kept))
    text = shown(run).text
    assert "The temperature is a bound: nearly all of these are right" in text
    assert "on the validation examples" in text
    assert "exports of this run do not divide by it" in text
