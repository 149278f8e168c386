"""Numbers about the values of arrays, with numpy as the oracle."""

from __future__ import annotations

import math
import warnings

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.formats import buffers
from tfxfer.weight_tools.values import BOOL, COMPLEX, FLOAT, INTEGER, TEXT, Statistics, as_float64, kind, statistics
from tfxfer.weights.streams import held

FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Make pieces so small that most arrays have several."""
    monkeypatch.setattr(buffers, "PIECE", 5)


@pytest.mark.parametrize(("dtype", "expected"), [
    (np.float16, FLOAT), (np.float64, FLOAT), (ml_dtypes.bfloat16, FLOAT), (ml_dtypes.float8_e4m3fn, FLOAT),
    (np.int8, INTEGER), (np.uint64, INTEGER), (ml_dtypes.int4, INTEGER), (ml_dtypes.uint4, INTEGER),
    (np.bool_, BOOL), (np.complex64, COMPLEX), (np.object_, TEXT), ("S3", TEXT), ("U3", TEXT),
])  # fmt: skip
def test_every_dtype_has_a_kind(dtype, expected):
    assert kind(np.dtype(dtype)) == expected


@given(st.sampled_from(FLOATS), arrays.arrays(np.float64, SHAPES))
def test_statistics_of_floats_are_those_of_numpy_over_what_is_finite(dtype, array):
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
    found = statistics(held(array))
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    assert (found.zeros, found.nan) == (np.count_nonzero(wide == 0), np.count_nonzero(np.isnan(wide)))
    assert found.inf == np.count_nonzero(np.isinf(wide))
    if not finite.size:
        assert (found.mean, found.std, found.min, found.max) == (None,) * 4
        return
    assert (found.min, found.max) == (finite.min(), finite.max())
    if np.abs(finite).max() < 1e100:
        scale = np.abs(finite).max() or 1
        assert found.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-12 * scale)
        assert found.std == pytest.approx(finite.std(), rel=1e-6, abs=1e-8 * scale)


@given(st.sampled_from([np.int8, np.uint8, np.int32, np.int64, np.uint64, np.bool_]).flatmap(
    lambda dtype: arrays.arrays(dtype, SHAPES)
))  # fmt: skip
def test_the_ends_of_integers_are_exact(array):
    found = statistics(held(array))
    assert found.zeros == np.count_nonzero(array == 0)
    if array.size:
        assert (found.min, found.max) == (array.min(), array.max())
        assert found.mean == pytest.approx(array.astype(np.float64).mean(), rel=1e-9, abs=1e-3)


def test_a_small_spread_far_from_zero_is_not_lost():
    array = 1e6 + np.arange(50, dtype=np.float64) * 1e-6
    assert statistics(held(array)).std == pytest.approx(array.std(), rel=1e-6)


def test_huge_values_warn_of_nothing_and_have_no_mean():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = statistics(held(np.array([1.7e308] * 7 + [-1.7e308])))
    assert found.std is None
    assert found.max == 1.7e308


def test_an_array_in_another_order_of_memory_has_the_same_statistics():
    array = np.random.default_rng(0).normal(size=(7, 5))
    assert statistics(held(np.asfortranarray(array))) == statistics(held(array))


def test_complex_numbers_have_counts_only_and_text_has_nothing():
    array = np.array([0, 1j, complex(math.nan, 0), complex(0, math.inf)], np.complex64)
    assert statistics(held(array)) == Statistics(None, None, None, None, 1, 1, 1)
    assert statistics(held(np.array([b"a"], object))) is None


def test_small_integers_of_ml_dtypes_are_exact():
    found = statistics(held(np.array([-8, 0, 7], ml_dtypes.int4)))
    assert (found.min, found.max, found.zeros) == (-8, 7, 1)
    np.testing.assert_array_equal(as_float64(np.array([-8, 7], ml_dtypes.int4)), [-8, 7])
