"""How the training went: which curves there are, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import made_runs
from tests.made_runs import make
from tests.reports.pages import own, shown
from tfxfer import reports
from tfxfer.reports import training_curves


def run_of(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> reports.Run:
    return reports.read(make(tmp_path / "run", rows=rows, **settings))


def test_training_and_validation_part_at_the_lowest_validation_loss(tmp_path):
    assert training_curves.parting(run_of(tmp_path, made_runs.history())) == 4
    assert "From epoch 4 on (shaded) the two part" in shown(tmp_path / "run").text
    assert "apart" in shown(tmp_path / "run").values("class")


def test_a_training_that_does_not_part_is_not_shaded(tmp_path):
    assert training_curves.parting(run_of(tmp_path, made_runs.history(part=False))) is None
    assert "The two do not part." in shown(tmp_path / "run").text
    assert "apart" not in shown(tmp_path / "run").values("class")


def test_a_validation_within_an_epoch_lies_within_it(tmp_path):
    rows = made_runs.history()
    half = {"step": 20, "epoch": 1, "split": "validation", "loss": 2.0, "accuracy": 0.1}
    [_, validation] = training_curves.lines(run_of(tmp_path, [half, *rows]), "loss")
    assert [x for x, _ in validation.points] == [0.5, 1, 2, 3, 4, 5, 6]


def test_each_factor_of_the_learning_rate_has_a_line(tmp_path):
    stages = [{"epoch": 0, "train": ["fc1/kernel", "fc1/bias"]},
              {"epoch": 2, "train": ["fc1/kernel", "fc1/bias", "conv2/kernel"]}]  # fmt: skip
    more = {"stages": stages, "lr_multipliers": {"fc1/bias": 0.5}, "unfreeze": [[2, "conv2/.*", 0.01]]}
    run_of(tmp_path, made_runs.history(), **more)
    text = shown(tmp_path / "run").text
    for key in ("learning rate", "learning rate, times 0.5", "learning rate, times 0.01, from epoch 3"):
        assert key in text
    assert "trained from epoch 3" in text


def test_a_learning_rate_that_stays_is_said_and_not_drawn(tmp_path):
    rows = [{**row, "learning_rate": 0.01} if row["split"] == "train" else row for row in made_runs.history()]
    run_of(tmp_path, rows)
    parsed = shown(tmp_path / "run")
    assert "The learning rate was 0.01 throughout." in parsed.text
    assert len([one for one in parsed.all("svg") if one.get("class") == "chart"]) == 2


def test_a_rate_that_is_noted_once_an_epoch_is_not_known_in_between(tmp_path):
    rows = [{**row, "learning_rate": 0.01} if row["split"] == "train" else row for row in made_runs.history()]
    run = own(tmp_path / "run")
    made_runs.write(run, "model.ckpt-240.state.json", made_runs.state(rows))
    assert "The learning rate was 0.01 at the end of each epoch." in shown(run).text


def test_rows_of_another_split_have_no_curve(tmp_path):
    rows = [*made_runs.history(), {"step": 240, "epoch": 6, "split": "test", "loss": 1.0, "f1": 0.5}]
    assert training_curves.metrics(run_of(tmp_path, rows)) == ["loss", "accuracy"]
    assert shown(tmp_path / "run").values("class")
