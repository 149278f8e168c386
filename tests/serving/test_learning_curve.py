"""Learning curves of real runs, and what is refused; scikit-learn is the oracle."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

import tfxfer as tx
from tests.tools.test_predict import run
from tfxfer.data.splits import few
from tfxfer.errors import DataError, GraphError
from tfxfer.serving.learning_curve import measure
from tfxfer.statistics.learning_curve import LearningCurve
from tfxfer.tools import train

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = [f"--weights={ROOT / 'checkpoints/digits_autoencoder'}", "--hidden=none", "--epochs=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `run`, a head on frozen convolutions, and its `store`."""
    top = tmp_path_factory.mktemp("trained")
    assert run(train, *DIGITS, "--train_examples=200", f"--store={top / 'store'}", f"--logdir={top / 'run'}") == 0
    return top


def test_the_accuracies_are_scikit_learns_on_the_stored_features(trained):
    tables = sorted((trained / "store").iterdir())
    curve = measure(trained / "run", store=trained / "store", seeds=2)
    assert sorted((trained / "store").iterdir()) == tables
    assert [(point.examples, len(point.accuracies)) for point in curve.points] == [
        (20, 2), (40, 2), (80, 2), (140, 2), (200, 1),
    ]  # fmt: skip
    data = tx.open_run(trained / "run").precompute(trained / "store")
    [codes], [others] = (
        [normalize(rows[:].reshape(len(rows), -1)) for rows in split.features.values()]
        for split in (data.train, data.validation)
    )
    for seed in range(2):
        chosen = few(data.train.labels, 40, seed)
        assert len(np.unique(data.train.labels[chosen])) == 10
        with threadpool_limits(1):
            wanted = LogisticRegression(C=10, max_iter=1000).fit(codes[chosen], data.train.labels[chosen])
        assert curve.points[1].accuracies[seed] == pytest.approx(wanted.score(others, data.validation.labels))
    assert curve.head == tx.open_run(trained / "run").best["accuracy"]
    assert (trained / "run/learning_curve.json").exists()
    assert isinstance(curve, LearningCurve)


def test_what_was_stored_in_another_precision_and_dtype_is_read(tmp_path):
    store, how = tmp_path / "store", ["--precision=folded", "--store_dtype=float16"]
    assert run(train, *DIGITS, *how, "--train_examples=60", f"--store={store}", f"--logdir={tmp_path / 'run'}") == 0
    kept = sorted(store.rglob("*"))
    [rows] = tx.open_run(tmp_path / "run").precompute(store).train.features.values()
    assert (rows.about["precision"], rows.about["dtype"]) == ("folded", "float16")
    assert sorted(store.rglob("*")) == kept


def test_features_that_are_not_numbers_are_refused_with_their_example(trained, monkeypatch):
    data = tx.open_run(trained / "run").precompute(trained / "store")
    [(name, rows)] = data.train.features.items()
    broken = rows[:]
    broken[3] = np.nan
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, features={name: broken}))
    monkeypatch.setattr(tx.Run, "precompute", lambda *_: data)
    with pytest.raises(DataError, match=r"features of 1 of 200 examples are NaN or infinite; .*\n  example 3$"):
        measure(trained / "run", store=trained / "store")


@pytest.mark.slow
def test_what_is_not_stored_is_computed_and_gives_the_same(trained, tmp_path):
    kept = measure(trained / "run", store=trained / "store", seeds=1)
    assert measure(trained / "run", store=tmp_path / "other", seeds=1) == kept


@pytest.mark.slow
def test_too_few_examples_and_nothing_frozen_are_refused(trained, tmp_path):
    with pytest.raises(DataError, match=r"`seeds=0` must be 1 or more"):
        measure(trained / "run", store=trained / "store", seeds=0)
    assert run(train, *DIGITS, "--train_examples=40", f"--logdir={tmp_path / 'few'}") == 0
    with pytest.raises(DataError, match=r"40 training examples of 10 classes are too few .*; it needs 50"):
        measure(tmp_path / "few", store=trained / "store")
    all_trained = [*DIGITS, "--train_examples=60", "--train=.*", f"--logdir={tmp_path / 'all'}"]
    assert run(train, *all_trained) == 0
    with pytest.raises(GraphError, match="nothing is frozen between the images and what is trained"):
        measure(tmp_path / "all", store=trained / "store")


@pytest.mark.slow
def test_the_number_that_the_refusal_names_is_enough(tmp_path, trained):
    assert run(train, *DIGITS, "--train_examples=50", f"--logdir={tmp_path / 'run'}") == 0
    assert len(measure(tmp_path / "run", store=trained / "store", seeds=1).points) == 3
    shutil.rmtree(tmp_path / "run")
