"""tfxfer/tuning/normalization.py, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler, normalize

from tfxfer.errors import DataError
from tfxfer.tuning import normalization


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(3, [1, 10, 100], (700, 3)).astype(np.float32)


def test_standard_is_scikit_learns_by_the_statistics_of_the_rows_that_are_trained_on(rows):
    train = np.arange(0, 700, 2)
    by = normalization.statistics(rows, train)
    wanted = StandardScaler().fit(rows[train].astype(np.float64)).transform(rows)
    np.testing.assert_allclose(normalization.normalized(rows, "standard", by), wanted, rtol=1e-4, atol=1e-5)


def test_l2_is_scikit_learns_and_leaves_rows_of_zeros(rows):
    rows[5] = 0
    np.testing.assert_allclose(normalization.normalized(rows, "l2", None), normalize(rows), rtol=1e-6)


def test_a_feature_that_never_varies_becomes_0():
    rows = np.full((4, 2), 7, np.float32)
    by = normalization.statistics(rows, np.arange(4))
    assert not normalization.normalized(rows, "standard", by).any()


def test_what_is_not_a_number_is_refused_by_the_names_of_its_pictures(rows):
    rows[300, 1], rows[600, 0] = np.nan, np.inf
    with pytest.raises(DataError, match=r"pool5: the features of 2 of 700 .*, the first of p300, p600; leave these"):
        normalization.check_finite(rows, "pool5", [f"p{number}" for number in range(700)])
    with pytest.raises(DataError, match="the first of row 300, row 600"):
        normalization.check_finite(rows, "pool5")
