"""data_checks/neighbours.py: the same neighbours as scikit-learn's, in memory that is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from tfxfer.data_checks import unit_rows
from tfxfer.data_checks.neighbours import nearest
from tfxfer.data_checks.unit_rows import UnitRows


@pytest.mark.parametrize("block", [64, 1024])
def test_neighbours_are_those_of_scikit_learn_whatever_the_block(block, monkeypatch):
    monkeypatch.setattr(unit_rows, "BLOCK", block)
    features = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    places, distances = nearest(UnitRows(features, str), 6)
    oracle = NearestNeighbors(n_neighbors=6, metric="cosine").fit(features).kneighbors()
    np.testing.assert_array_equal(places, oracle[1])
    np.testing.assert_allclose(distances, oracle[0], atol=1e-6)


def test_few_rows_have_fewer_neighbours_and_identical_ones_are_at_distance_nought():
    places, distances = nearest(UnitRows(np.array([[1.0, 0], [1, 0], [0, 1]]), str), 6)
    assert places.tolist() == [[1, 2], [0, 2], [0, 1]]
    np.testing.assert_allclose(distances, [[0, 1], [0, 1], [1, 1]], atol=1e-6)


@pytest.mark.slow
def test_ten_thousand_rows_take_as_much_memory_as_a_few_blocks():
    import tracemalloc

    rows = UnitRows(np.random.default_rng(0).normal(size=(10_000, 1280)).astype(np.float32), str)
    tracemalloc.start()
    nearest(rows, 6)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
