"""tools/learning_curve.py: what it prints, draws and refuses."""

from __future__ import annotations

import json

import pytest
from matplotlib.image import imread

from tests.serving.test_learning_curve import trained as trained  # a fixture
from tests.tools.test_predict import run
from tfxfer.statistics.learning_curve import LearningCurve
from tfxfer.tools import learning_curve, report


def test_it_prints_draws_and_keeps_the_curve_and_the_page_shows_it(trained, tmp_path, capsys):
    flags = [trained / "run", f"--store={trained / 'store'}", "--seeds=1"]
    assert run(learning_curve, *flags, "--json", f"--picture={tmp_path / 'curve.png'}") == 0
    curve = LearningCurve.from_json(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert json.loads((trained / "run/learning_curve.json").read_text()) == curve.to_json()
    assert imread(tmp_path / "curve.png").shape[:2] == (460, 700)
    assert run(learning_curve, *flags) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == str(curve)
    assert said[-3].split() == ["200", *[f"{curve.points[-1].accuracies[0]:.4f}"] * 3]
    assert run(report, trained / "run") == 0
    assert "Would more pictures help?" in (trained / "run/report.html").read_text()


@pytest.mark.slow
def test_without_a_store_it_says_how_to_get_one_and_the_cure_cures(trained, tmp_path, capsys):
    assert run(learning_curve, trained / "run") == 2
    assert (
        "--store is needed: give the directory of features that `tfxfer train --store=DIR`" in capsys.readouterr().err
    )
    store = tmp_path / "store"
    assert run(learning_curve, trained / "run", f"--store={store}") == 2
    assert f"--store={store} is not there: " in capsys.readouterr().err
    store.mkdir()
    assert run(learning_curve, trained / "run", f"--store={store}", "--seeds=1") == 0
