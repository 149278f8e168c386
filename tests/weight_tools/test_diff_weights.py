"""What differs between two sets of weights, with numpy as the oracle; and the tool."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.weight_tools.diff_weights import Change, Difference, compare, diff, report, summary
from tfxfer.weights import Weights
from tfxfer.weights.streams import held

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "checkpoints/digits_autoencoder"
RNG = np.random.default_rng(0)
FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Make pieces so small that most arrays have several."""
    monkeypatch.setattr(buffers, "PIECE", 5)


def change(a, b, **tolerance) -> Change | None:
    return compare(held(np.asarray(a)), held(np.asarray(b)), **tolerance)


def weights(**named: np.ndarray) -> Weights:
    return Weights("a.npz", "NumPy .npz archive", {name: held(np.asarray(value)) for name, value in named.items()})


# --- one pair of arrays ---


@st.composite
def pairs(draw) -> tuple[np.ndarray, np.ndarray]:
    """Two float arrays of one shape and dtype, in part the same."""
    shape, dtype = draw(SHAPES), draw(st.sampled_from(FLOATS))
    values = st.sampled_from([0.0, -0.0, 1.0, -1.5, 1.5625, 100.0, math.nan, math.inf, -math.inf])
    return tuple(draw(arrays.arrays(np.float64, shape, elements=values)).astype(dtype) for _ in range(2))


@given(pairs(), st.sampled_from([0.0, 0.05]), st.sampled_from([0.0, 0.6]))
def test_floats_differ_where_numpys_isclose_says_so(pair, rtol, atol):
    a, b = (array.astype(np.float64) for array in pair)
    with np.errstate(invalid="ignore"):
        apart = ~np.isclose(a, b, rtol, atol, equal_nan=True)
    found = change(*pair, rtol=rtol, atol=atol)
    assert (found.differ if found else 0) == np.count_nonzero(apart)
    if found:
        assert found.size == a.size
        good = np.isfinite(a) & np.isfinite(b)
        assert found.max_abs == (np.abs(a[good] - b[good]).max() if good.any() else None)
        unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
        assert found.not_finite == np.count_nonzero(unequal & ~good)


@given(pairs())
def test_norm_and_cosine_are_those_of_numpy_over_what_is_finite_in_both(pair):
    found = change(*pair)
    a, b = (array.astype(np.float64).reshape(-1) for array in pair)
    good = np.isfinite(a) & np.isfinite(b)
    a, b = a[good], b[good]
    if not found or not good.any():
        return
    norms = np.linalg.norm(a), np.linalg.norm(b)
    assert found.relative == pytest.approx(np.linalg.norm(a - b) / max(norms) if max(norms) else 0)
    assert found.cosine == (pytest.approx(a @ b / (norms[0] * norms[1])) if min(norms) else None)


def test_nan_equals_nan_and_minus_zero_equals_zero():
    assert change([math.nan, 0.0, math.inf], [math.nan, -0.0, math.inf]) is None
    found = change([math.nan, 1.0, math.inf], [2.0, 1.0, -math.inf])
    assert (found.differ, found.max_abs, found.not_finite) == (2, 0, 2)


def test_infinities_are_never_close():
    assert change([math.inf], [-math.inf], rtol=math.inf).differ == 1
    assert change([math.inf], [1.0], atol=1e9).differ == 1


@given(st.sampled_from([np.int8, np.uint8, np.int64, np.uint64]).flatmap(
    lambda dtype: st.tuples(*[arrays.arrays(dtype, (3, 2))] * 2)
))  # fmt: skip
def test_integers_are_compared_exactly_whatever_the_tolerance(pair):
    found = change(*pair, rtol=1, atol=10**9)
    gaps = [abs(int(x) - int(y)) for x, y in zip(*(array.reshape(-1) for array in pair), strict=True)]
    assert (found.differ if found else 0) == sum(gap > 0 for gap in gaps)
    if found:
        assert found.max_abs == max(gaps)
        assert isinstance(found.max_abs, int)


def test_one_at_the_end_of_a_large_step_is_seen():
    assert change(np.int64(2**53), np.int64(2**53 + 1)).max_abs == 1


def test_what_has_no_size_only_counts():
    texts = [np.array(values, object) for values in ([b"a", b"b", b""], [b"a", b"c", b"d"])]
    assert change(*texts) == Change(2, 3)
    assert change([True, False], [True, True]) == Change(1, 2)
    assert change(np.array(["a"]), np.array(["b"])) == Change(1, 1)
    assert change(texts[0], texts[0].copy()) is None


def test_complex_numbers_are_vectors_too():
    found = change(np.array([3j, 1], np.complex64), np.array([0, 1], np.complex64))
    assert (found.differ, found.max_abs) == (1, 3)
    assert found.relative == pytest.approx(3 / math.sqrt(10))


def test_small_types_of_ml_dtypes():
    assert change(*(np.array(values, ml_dtypes.int4) for values in ([7, 1], [-8, 1]))).max_abs == 15
    assert change(*(np.array(values, ml_dtypes.float8_e4m3fn) for values in ([1, 2], [1, 3]))).max_abs == 1


def test_huge_values_do_not_overflow_into_a_warning():
    found = change([1.5e308, 1.0], [-1.5e308, 1.0])
    assert (found.differ, found.max_abs, found.relative, found.cosine) == (1, None, None, None)


def test_arrays_that_lie_in_another_order_in_memory_are_equal():
    array = RNG.normal(size=(7, 5))
    assert change(array, np.asfortranarray(array)) is None
    other = array.copy()
    other[6, 4] += 1
    assert change(np.asfortranarray(array), other).differ == 1


# --- two sets ---


def test_every_kind_of_difference_is_listed():
    same, other = np.ones(3), np.array([1.0, 1, 2])
    a = weights(same=same, form=np.ones(2), dtype=np.ones(2), value=same, gone=same)
    b = weights(same=same, new=same, form=np.ones((2, 1)), dtype=np.ones(2, np.float32), value=other)
    found = diff(a, b, ["same", "form", "dtype", "value", "gone", "new"])
    assert (found.only_a, found.only_b, found.other_form) == (["gone"], ["new"], ["form", "dtype"])
    assert (list(found.changes), found.equal, found.same) == (["value"], ["same"], False)
    assert summary(found) == (
        "different: 1 only in A, 1 only in B, 2 of other shape or dtype, 1 of other values; equal: 1"
    )
    text = "\n".join(report(found))
    for line in (
        "only in A (1):",
        "other shape or dtype (2):",
        r"  dtype  \(2,\) +float64 +\(2,\) +float32",
        r"  value  \(3,\) +float64 +1 +3 +1 +0\.408 +0\.942809",
    ):
        assert re.search(f"^{line}" if line.startswith(" ") else f"^{re.escape(line)}$", text, re.MULTILINE), text


def test_only_what_is_chosen_is_read():
    found = diff(weights(a=1.0, b=2.0), weights(a=1.0, b=3.0), ["a"])
    assert (found.same, summary(found)) == (True, "equal: all 1")


def test_json_can_be_read_by_everybody():
    found = diff(weights(x=[math.nan, 1.0]), weights(x=[math.inf, 1.0]), ["x"])
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["other_values"]["x"]["not_finite"] == 1
    assert "NaN or Inf" in "\n".join(report(found))


def test_names_that_a_terminal_would_obey_are_shown():
    found = diff(weights(**{"\x1b[2J": 1.0}), weights(b=1.0), ["\x1b[2J", "b"])
    assert isinstance(found, Difference)
    assert r"\x1b[2J" in "\n".join(report(found))


def test_an_array_that_cannot_be_read_is_an_error(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object), w=np.ones(2))
    from tfxfer.weights import open_weights

    file = open_weights(tmp_path / "a.npz")
    with pytest.raises(WeightsError, match="holds pickled objects"):
        diff(file, file, ["a"])
