"""The head of the page: how good the run is, and what is missing."""

from __future__ import annotations

import json

from tests import made_runs
from tests.made_runs import make
from tests.reports.pages import own, shown
from tfxfer import reports
from tfxfer.runs.frozen import FrozenRecord


def test_a_run_without_any_epoch_has_a_page_that_says_so(tmp_path):
    made_runs.write(tmp_path, "settings.json", made_runs.SETTINGS)
    parsed = shown(tmp_path)
    assert "No epoch has ended yet" in parsed.text
    assert "It was not tested" in parsed.text
    assert [value for value in parsed.values("id") if value != "content"] == ["settings", "repeat"]


def test_a_run_that_is_going_on_shows_how_far_it_is(tmp_path):
    make(tmp_path / "run", rows=made_runs.history(3), epochs=20)
    (tmp_path / "run/test.json").unlink()
    made_runs.write(tmp_path / "run", "frozen.json", FrozenRecord("SHA-256", {"a": "0"}).to_json())
    parsed = shown(tmp_path / "run")
    assert "Training has come to epoch 3 of 20" in parsed.text
    assert "Not to move: 1 variable. They have not been compared" in parsed.text
    assert "curves" in parsed.values("id")
    assert "confusion" not in parsed.values("id")
    assert str(reports.report(tmp_path / "run")) == "validation accuracy 0.7792"


def test_a_run_without_labels_shows_its_loss(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "accuracy"} for row in made_runs.history()]
    made_runs.write(tmp_path / "run", "settings.json", made_runs.SETTINGS)
    state = {**made_runs.state(made_runs.history()), "history": rows, "best": [{"step": 120, "loss": 0.5}]}
    made_runs.write(tmp_path / "run", "model.ckpt-240.state.json", state)
    parsed = shown(tmp_path / "run")
    assert "Best validation loss 0.5000 at epoch 3 of 6" in parsed.text
    assert "Accuracy" not in parsed.text
    assert str(reports.report(tmp_path / "run")) == "validation loss 0.5000"


def test_a_comparison_before_the_last_step_is_no_proof_of_what_came_later(tmp_path):
    run = make(tmp_path / "run")
    kept = json.loads((run / "frozen.json").read_text())
    kept["checks"][-1]["step"] = 80
    made_runs.write(run, "frozen.json", kept)
    assert "bit-identical to the start at step 80; not compared since" in shown(run).text


def test_a_loss_of_somebodys_own_is_not_called_cross_entropy(tmp_path):
    assert "mean cross-entropy" not in shown(own(tmp_path / "own")).text
    assert "mean cross-entropy of an example, in nats" in shown(make(tmp_path / "run", loss="softmax")).text


def test_the_test_says_of_which_checkpoint_it_is(tmp_path):
    assert "of best/model.ckpt-120" in shown(make(tmp_path / "run")).text


def test_the_cure_of_a_missing_test_is_one_that_works_for_such_a_run(tmp_path):
    run = own(tmp_path / "run")
    (run / "test.json").unlink()
    assert "It was not tested: `tfxfer.evaluation.test_results.record` of a test's result adds" in shown(run).text
