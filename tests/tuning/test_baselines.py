"""tfxfer/tuning/baselines.py, against scikit-learn on rows that scikit-learn brings to length 1."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

from tfxfer.data.splits import make_folds
from tfxfer.tuning import baselines


def test_they_are_scikit_learns_on_the_same_folds():
    labels = np.arange(60) % 3
    rows = np.random.default_rng(0).normal(labels[:, None, None], 1, (60, 2, 4)).astype(np.float32)
    folds = make_folds(labels, 4, 0, "abc")
    scores = baselines.accuracies(rows, labels, folds)
    for name, model in {
        "logistic regression": LogisticRegression(C=10, max_iter=300), "nearest centroid": NearestCentroid()
    }.items():  # fmt: skip
        wanted = cross_val_score(model, normalize(rows.reshape(60, 8)), labels, cv=folds)
        assert scores[name] == pytest.approx(list(wanted), abs=1e-9)
