"""tfxfer/tuning/rows.py, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from tfxfer.data.normalization import normalized
from tfxfer.errors import DataError
from tfxfer.tuning.rows import check_finite, statistics


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(3, [1, 2, 4], (700, 3)).astype(np.float32)


def test_standard_is_scikit_learns_by_the_statistics_of_the_rows_that_are_trained_on(rows):
    train = np.arange(0, 700, 2)
    by = statistics(rows, train)
    wanted = StandardScaler().fit(rows[train].astype(np.float64)).transform(rows)
    np.testing.assert_allclose(normalized(rows, "standard", *by), wanted, rtol=1e-3, atol=1e-4)


def test_what_is_not_a_number_is_refused_by_the_names_of_its_pictures(rows):
    rows[300, 1], rows[600, 0] = np.nan, np.inf
    with pytest.raises(DataError, match=r"pool5: features of 2 of 700 examples are NaN .*:\n  p300\n  p600$"):
        check_finite(rows, "pool5", [f"p{number}" for number in range(700)])
    with pytest.raises(DataError, match=r"\n  example 300\n  example 600$"):
        check_finite(rows, "pool5")
