"""tools/diff_runs.py on runs that tools/train.py made, and the cures that its messages name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tools.test_predict import run
from tfxfer.tools import diff_runs, evaluate, train

DIGITS = ["--restore=none", "--hidden=none", "--train_examples=60", "--epochs=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with the runs `a`, `b` of another learning rate, and `c` of another seed."""
    top = tmp_path_factory.mktemp("runs")
    for name, flags in {"a": [], "b": ["--learning_rate=0.01"], "c": ["--seed=1"]}.items():
        assert run(train, *DIGITS, *flags, f"--logdir={top / name}") == 0
    return top


def test_two_runs_on_the_same_examples_are_compared(runs, capsys):
    assert run(diff_runs, runs / "a", runs / "b", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    tests = [json.loads((runs / name / "test.json").read_text()) for name in "ab"]
    assert said["accuracies"] == pytest.approx([test["accuracy"] for test in tests])
    assert said["intervals"] == [test["accuracy_interval"] for test in tests]
    assert said["settings"]["learning_rate"] == [0.001, 0.01]
    gain = round(360 * (said["accuracies"][1] - said["accuracies"][0]))
    assert len(said["only_b_right"]) - len(said["only_a_right"]) == gain != 0
    assert run(diff_runs, runs / "a", runs / "b", "--most=1") == 0
    text = capsys.readouterr().out
    assert f"McNemar's exact test: p = {said['p_value']:.4g}" in text
    assert f"B is right and A is wrong, the first 1 of {len(said['only_b_right'])}" in text
    assert f"\n {said['only_b_right'][0]['name']} " in text
    assert "\nsettings that differ\n" in text


def test_a_run_and_itself_differ_in_nothing(runs, capsys):
    assert run(diff_runs, runs / "a", runs / "a") == 0
    text = capsys.readouterr().out
    assert "B minus A: +0.0000; only A is right on 0 pictures, only B on 0" in text
    assert text.endswith("McNemar's exact test: p = 1; this may well be chance\n\nno setting differs\n")


def test_other_test_examples_are_refused_and_the_cure_cures(runs, tmp_path, capsys):
    assert run(diff_runs, runs / "a", runs / "c") == 1
    said = capsys.readouterr().err
    assert "`seed` is 0 in the first and 1 in the second: train one of them anew with what the other has" in said
    assert run(train, *DIGITS, "--learning_rate=0.003", "--seed=0", f"--logdir={tmp_path / 'anew'}") == 0
    assert run(diff_runs, runs / "a", tmp_path / "anew") == 0


def test_a_run_whose_test_is_gone_is_cured_by_evaluate(runs, capsys):
    kept = (runs / "b/test_examples.csv").read_bytes()
    (runs / "b/test_examples.csv").unlink()
    assert run(diff_runs, runs / "a", runs / "b") == 1
    assert f"`tfxfer evaluate {runs / 'b'}` tests the run" in capsys.readouterr().err
    assert run(evaluate, runs / "b") == 0
    assert (runs / "b/test_examples.csv").read_bytes() == kept
