"""tfxfer/tuning/tune.py: ranking, halving, resuming, streaming, and what is refused."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest

import tfxfer as tx
from tfxfer.errors import DataError, RunError
from tfxfer.tuning import baselines, cross_validation
from tfxfer.tuning.trials import Trial
from tfxfer.tuning.tune import Result, Tuning, _rungs

LABELS = np.arange(90) % 3
ROWS = np.random.default_rng(0).normal(LABELS[:, None, None], 1.5, (90, 4, 4)).astype(np.float32)
SPACE = tx.SearchSpace(
    normalize=("standard", "none"), hidden=(0, 6), dropout=(0.0,), learning_rate=(1e-3, 0.03), l2=(0.0,)
)
SHORT = tx.HeadTraining(epochs=4)


def tune(rows=ROWS, labels=LABELS, **options) -> Tuning:
    options = {"space": SPACE, "training": SHORT, "folds": 3, **options}
    return tx.tune({"pool": rows}, labels, **options)


@pytest.fixture(scope="module")
def whole() -> Tuning:
    return tune()


def test_results_are_ranked_by_accuracy_and_then_by_loss(whole):
    assert len(whole.results) == 8
    ranks = [(-result.accuracy, result.loss) for result in whole.results]
    assert ranks == sorted(ranks)
    assert whole.best.accuracy > 0.5
    assert {row.name for row in whole.baselines} == {"logistic regression", "nearest centroid"}


def test_spread_and_standard_error_are_those_of_the_folds():
    best = Result("a", "pool", Trial(endpoint="pool"), (0.8, 0.9, 0.7), (1.0, 1.0, 1.0), 4)
    assert (best.spread, best.standard_error) == (pytest.approx(0.1), pytest.approx(0.1 / math.sqrt(3)))
    close, far = (Result("b", "pool", best.trial, (value,) * 3, (1.0,) * 3, 4) for value in (0.75, 0.74))
    early = Result("c", "pool", best.trial, (0.8,) * 3, (1.0,) * 3, 2)
    tuning = Tuning((best, close, far, early), ())
    assert [tuning.is_close(result) for result in tuning.results] == [True, True, False, False]


def test_a_search_that_stops_in_the_middle_goes_on_to_the_same_results(whole, tmp_path, monkeypatch):
    run, calls = cross_validation.CrossValidation.run, []

    def two_folds(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(self, *args)

    monkeypatch.setattr(cross_validation.CrossValidation, "run", two_folds)
    with pytest.raises(KeyboardInterrupt):
        tune(logdir=tmp_path / "runs")
    assert tune(logdir=tmp_path / "runs") == whole
    assert len(calls) == 4
    assert tune(logdir=tmp_path / "runs") == whole
    assert len(calls) == 4
    assert sorted(os.listdir(tmp_path / "runs")) == [*(f"trial-0{n}" for n in range(8)), "tune.json"]


def test_a_directory_of_another_search_is_refused_by_name_and_the_cure_cures(whole, tmp_path):
    tune(logdir=tmp_path)
    with pytest.raises(RunError) as refused:
        tune(logdir=tmp_path, training=tx.HeadTraining(epochs=3), rows=ROWS + 1)
    assert "epochs: was 4, now 3" in str(refused.value)
    assert "features: was" in str(refused.value)
    again = tune(logdir=tmp_path, training=tx.HeadTraining(epochs=3), overwrite=True)
    assert again.best.epochs == 3
    assert json.loads((tmp_path / "tune.json.old-1").read_bytes())["settings"]["epochs"] == 4


def test_a_directory_with_other_files_and_a_damaged_one_are_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(RunError, match=r"has no tune.json, but thesis.txt; give another `logdir`"):
        tune(logdir=tmp_path)
    for text in ("{", "5", '{"settings": [1], "version": 1, "scores": {}, "baselines": {}}'):
        (tmp_path / "tune.json").write_text(text)
        with pytest.raises(RunError, match=r"is damaged; `overwrite=True` moves"):
            tune(logdir=tmp_path)


def test_halving_trains_the_best_for_longer_and_ends_with_the_numbers_of_the_whole_search(whole):
    halved = tune(halving=2)
    assert [result.epochs for result in halved.results] == [4] * 2 + [2] * 2 + [1] * 4
    by_name = {result.name: result for result in whole.results}
    assert [result for result in halved.results if result.epochs == 4] == [
        by_name[result.name] for result in halved.results[:2]
    ]
    assert (_rungs(40, 20, 3), _rungs(40, 20, None), _rungs(2, 20, 3)) == ([2, 6, 20], [20], [20])


class OnDisk:
    """Rows that are read a batch at a time, and how many were read at once."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape, self.dtype, self.most = rows, rows.shape, rows.dtype, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(indices))
        return self.rows[indices]


def test_features_of_several_endpoints_that_do_not_fit_in_memory_are_streamed_to_the_same_numbers(monkeypatch):
    space = tx.SearchSpace(normalize=("standard",), hidden=(0, 6), dropout=(0.0,), learning_rate=(0.01,), l2=(0.0,))
    options = {"space": space, "training": tx.HeadTraining(epochs=2), "folds": 2}
    features = {"pool4": ROWS, "pool5": ROWS[:, 1]}
    in_memory = tx.tune(features, LABELS, **options)
    monkeypatch.setattr(baselines, "MEMORY", 100)
    monkeypatch.setattr("tfxfer.tuning.rows.READ", 16)
    monkeypatch.setattr(cross_validation, "MEASURED", 16)
    stored = {name: OnDisk(rows) for name, rows in features.items()}
    streamed = tx.tune(stored, LABELS, **options)
    assert [rows.most for rows in stored.values()] == [32, 32]
    assert {row.endpoint for row in in_memory.baselines} == {*features}
    assert streamed.baselines == ()
    assert len(streamed.results) == 4
    for result, wanted in zip(streamed.results, in_memory.results, strict=True):
        assert (result.name, result.accuracies) == (wanted.name, wanted.accuracies)
        assert result.losses == pytest.approx(wanted.losses, rel=1e-5)


def test_trials_that_diverge_come_last_and_if_all_do_it_is_said(whole):
    space = tx.SearchSpace(normalize=("none",), hidden=(6,), dropout=(0.0,), learning_rate=(1e30, 1e-2), l2=(0.0,))
    tuning = tune(space=space)
    assert [result.diverged for result in tuning.results] == [False, True]
    with pytest.raises(RunError, match="the loss of all trials is not finite; lower `learning_rate`"):
        tune(space=tx.SearchSpace(**{**vars(space), "learning_rate": (1e30,)}))


def test_bad_input_is_refused_before_anything_is_trained():
    broken = ROWS.copy()
    broken[7] = np.nan
    with pytest.raises(DataError, match=r"pool: features of 1 of 90 examples are NaN or infinite; .*\n  p7$"):
        tune(rows=broken, examples=[f"p{number}" for number in range(90)])
    with pytest.raises(DataError, match="pool has 90 rows, and there are 60 labels; `halving=1`: give a factor of 2"):
        tune(labels=LABELS[:60], halving=1)
    with pytest.raises(DataError, match="`features` is empty"):
        tx.tune({}, LABELS)
    with pytest.raises(DataError, match=r"are outside 0\.\.2"):
        tune(labels=LABELS + 1, class_names="abc")
    with pytest.raises(DataError, match="`hidden` is empty"):
        tune(space=tx.SearchSpace(hidden=()))
