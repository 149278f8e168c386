"""How far apart two models are: numpy is the oracle; what is not finite, other shapes, batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfxfer.errors import GraphError
from tfxfer.serving.compare_outputs import Difference, compare

VALUES = hnp.arrays(np.float32, (6, 5), elements=st.floats(-1000, 1000, width=32))


def difference(a: np.ndarray, b: np.ndarray, batch: int = 6) -> Difference:
    [row] = compare(({"x": a[k : k + batch]}, {"x": b[k : k + batch]}) for k in range(0, len(a), batch))
    return row


@given(VALUES, VALUES, st.integers(1, 6))
def test_it_is_what_numpy_says_whatever_the_batches(a, b, batch):
    row = difference(a, b, batch)
    x, y = a.astype(np.float64), b.astype(np.float64)
    assert row.max_abs == np.abs(x - y).max()
    largest = max(np.abs(x).max(), np.abs(y).max())
    assert row.largest == largest
    assert row.relative == (pytest.approx(row.max_abs / largest) if largest > 1e-30 else pytest.approx(0, abs=1))
    if np.linalg.norm(x) > 1e-30 and np.linalg.norm(y) > 1e-30:
        assert row.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-9)


@given(VALUES)
def test_nothing_differs_from_itself(a):
    row = difference(a, a)
    assert (row.max_abs, row.relative) == (0, 0)
    assert row.cosine == pytest.approx(1)


def test_one_that_is_zero_has_no_angle_to_another_and_two_have_none():
    zeros, ones = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    assert difference(zeros, ones).cosine == 0
    assert difference(zeros, zeros).cosine == 1
    assert difference(ones, -ones).cosine == pytest.approx(-1)


def test_nan_equals_nan_and_nothing_else_and_infinity_itself():
    a = np.array([[1, np.nan, np.inf, -np.inf]])
    assert difference(a, a).relative == 0
    for place, other in ((0, np.nan), (1, 1.0), (2, 5.0), (2, -np.inf), (3, np.nan)):
        b = a.copy()
        b[0, place] = other
        row = difference(a, b)
        assert row.max_abs == row.relative == np.inf
        assert not np.isnan(row.cosine)


def test_other_shapes_are_as_far_apart_as_can_be():
    row = difference(np.zeros((1, 3)), np.zeros((1, 4)))
    assert (row.shape, row.other_shape, row.relative) == ((3,), (4,), np.inf)


def test_pixels_do_not_wrap_around():
    assert difference(np.array([[0]], np.uint8), np.array([[255]], np.uint8)).max_abs == 255


def test_what_both_have_is_compared_in_the_order_of_the_first():
    one = np.ones((1, 1))
    rows = compare([({"b": one, "a": one, "c": one}, {"a": one, "b": one, "d": one})])
    assert [row.endpoint for row in rows] == ["b", "a"]
    with pytest.raises(GraphError, match=r"no endpoint of A \(a, b\) is one of B \(c\)"):
        compare([({"a": one, "b": one}, {"c": one})])
    # Two models that are given the same have nothing in common by that.
    with pytest.raises(GraphError, match=r"no endpoint of A \(pixels, prob\) is one of B \(pixels, probabilities\)"):
        compare([({"pixels": one, "prob": one}, {"pixels": one, "probabilities": one})])
