"""data_checks/unit_rows.py: length one, in blocks, projected where long, refused where not finite."""

from __future__ import annotations

import numpy as np
import pytest

from tfxfer.data_checks import unit_rows
from tfxfer.data_checks.unit_rows import UnitRows
from tfxfer.errors import DataError


def all_of(rows: UnitRows) -> np.ndarray:
    return np.concatenate([block for _, block in rows.blocks()])


class OnDisk:
    """Rows that are read when they are asked for, and how many were asked for at once."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape, self.dtype, self.most = rows, rows.shape, rows.dtype, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(indices))
        return self.rows[indices]


def test_rows_have_length_one_in_their_order_and_zeros_stay_zeros():
    features = np.random.default_rng(0).normal(0, 1e30, (2500, 2, 3)).astype(np.float32)
    features[7] = 0
    flat = features.reshape(2500, 6).astype(np.float64)
    expected = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-300)
    np.testing.assert_allclose(all_of(UnitRows(features, str)), expected, atol=1e-6)


def test_rows_larger_than_memory_are_read_a_block_at_a_time_each_time(monkeypatch):
    features = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    monkeypatch.setattr(unit_rows, "MOST_BYTES", 1000)
    stored = OnDisk(features)
    rows = UnitRows(stored, str)
    assert all_of(rows).tobytes() == all_of(rows).tobytes() == all_of(UnitRows(stored, str)).tobytes()
    assert stored.most == unit_rows.BLOCK


def test_long_rows_are_projected_and_keep_their_cosines():
    features = np.random.default_rng(0).normal(1, 1, (20, 5000)).astype(np.float32)
    rows = UnitRows(features, str)
    assert rows.width == unit_rows.MOST_NUMBERS
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(all_of(rows) @ all_of(rows).T, unit @ unit.T, atol=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_with_all_their_names(value):
    features = np.ones((2000, 3), np.float32)
    features[[3, 1500], 1] = value
    with pytest.raises(
        DataError, match=r"features of 2 of 2,000 examples are NaN or .*:\n  picture 3\n  picture 1500$"
    ):
        UnitRows(features, "picture {}".format)


@pytest.mark.parametrize("features", [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), np.full((2, 2), "a")])
def test_what_is_not_rows_of_numbers_is_refused(features):
    with pytest.raises(DataError, match=r"rows of numbers \[n, \.\.\.\] are needed"):
        UnitRows(features, str)
