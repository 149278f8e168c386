"""The section of the page that says whether more pictures would help."""

from __future__ import annotations

from tests.made_runs import make
from tests.reports.pages import shown
from tests.statistics.test_learning_curve import made
from tfxfer.statistics import learning_curve


def test_a_run_with_a_curve_shows_it_and_says_what_twice_as_many_bring(tmp_path):
    run = make(tmp_path / "run")
    curve = made()
    (run / learning_curve.FILE).write_bytes(learning_curve.to_bytes(curve))
    parsed = shown(run)
    assert "learning" in parsed.values("id")
    assert f"change the accuracy by {curve.gain[0]:+.3f}" in parsed.text
    assert "The run's own head has 0.8600 by all of them." in parsed.text
    [label] = [str(one["aria-label"]) for one in parsed.all("svg") if "training examples" in str(one.get("aria-label"))]
    assert f"1,000: {sum(curve.points[-1].accuracies) / 5:.3f}" in label
    assert len([one for one in parsed.all("circle") if one.get("class") == "dot validation" and one["r"] == "4.5"]) == 6


def test_a_run_without_one_has_no_section_and_a_damaged_one_is_named(tmp_path):
    run = make(tmp_path / "run")
    assert "learning" not in shown(run).values("id")
    (run / learning_curve.FILE).write_text('{"points": []}')
    parsed = shown(run)
    assert "learning" not in parsed.values("id")
    assert "learning_curve.json cannot be used" in parsed.text
