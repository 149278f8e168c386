"""data_checks/out_of_fold.py: scikit-learn's discriminant analysis gives the same; too many folds are refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold

from tfxfer.data_checks import out_of_fold
from tfxfer.data_checks.unit_rows import UnitRows
from tfxfer.errors import DataError


def clouds(count: int = 120, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % classes
    return np.eye(classes, 8)[labels] + np.random.default_rng(0).normal(0, 0.3, (count, 8)), labels


def test_probabilities_are_those_of_scikit_learn_trained_on_the_other_folds(monkeypatch):
    monkeypatch.setattr(out_of_fold, "TEMPERATURES", np.ones(1))
    monkeypatch.setattr(out_of_fold, "DOUBTED", 0.0)  # then both rounds are the same
    features, labels = clouds()
    rows = UnitRows(features, str)
    result = out_of_fold.probabilities(rows, labels, 4, seed=3)
    [(_, unit)] = rows.blocks()
    for others, held_out in StratifiedKFold(4, shuffle=True, random_state=3).split(unit, labels):
        oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=out_of_fold.SHRINKAGE)
        # scikit-learn standardises before it shrinks, and then scales back; equal columns make no difference.
        oracle.covariance_estimator = _Shrunk()
        oracle.shrinkage = None
        oracle.fit(unit[others].astype(np.float64), labels[others])
        np.testing.assert_allclose(result[held_out], oracle.predict_proba(unit[held_out]), atol=1e-4)


class _Shrunk:
    """A covariance that is shrunk half way to a multiple of the identity, as scikit-learn's estimators are called."""

    def fit(self, rows: np.ndarray) -> _Shrunk:
        covariance = np.cov(rows.T, bias=True)
        self.covariance_ = covariance / 2 + np.eye(len(covariance)) * np.trace(covariance) / len(covariance) / 2
        return self


def test_a_wrong_label_is_the_least_probable_and_a_class_without_examples_has_none():
    features, labels = clouds()
    labels = labels * 2  # 1 and 3 are absent
    labels[7] = 0
    result = out_of_fold.probabilities(UnitRows(features, str), labels, 5, seed=0)
    assert result.shape == (120, 5)
    assert not result[:, [1, 3]].any()
    np.testing.assert_allclose(result.sum(axis=1), 1)
    assert result[np.arange(120), labels].argmin() == 7


def test_a_class_whose_labels_are_all_doubted_still_counts():
    features, labels = clouds()
    labels[:6] = 3  # of no cloud of their own
    result = out_of_fold.probabilities(UnitRows(features, str), labels, 2, seed=0)
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (10, r"1 classes have fewer pictures than `folds=10`: rare \(4\); take `folds=4`"),
        (1, r"`folds=1`: take 2 or more, or `folds=0`"),
    ],
)
def test_too_many_folds_are_refused_with_the_number_that_works(folds, message):
    labels = np.repeat([0, 1], [20, 4])
    with pytest.raises(DataError, match=message) as refused:
        out_of_fold.check_folds(labels, ("often", "rare"), folds)
    if cure := re.search(r"take `folds=(\d+)`$", str(refused.value)):
        out_of_fold.check_folds(labels, ("often", "rare"), int(cure[1]))


def test_a_class_of_one_picture_cannot_be_divided_at_all():
    with pytest.raises(DataError, match=r"rare \(1\); add pictures, or take `folds=0`"):
        out_of_fold.check_folds(np.array([0, 0, 0, 1]), ("often", "rare"), 2)
