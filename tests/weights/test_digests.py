"""Digests of arrays; what they are of is in test_run_frozen.py too, where they were first."""

from __future__ import annotations

import hashlib

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.formats import buffers
from tfxfer.weights.digests import digest, running


def by_hand(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()).hexdigest()


@given(st.sampled_from(["f4", "f8", "i8", "u1", "?", "c8", "S3", "U2"]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=5))
))  # fmt: skip
def test_a_digest_is_of_dtype_shape_and_bytes(array):
    assert digest(array) == by_hand(array) == digest(np.array(array, order="F"))


SMALL = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "int4", "uint4"]


def test_equal_bytes_of_two_dtypes_have_two_digests():
    raw = np.arange(8, dtype=np.uint8)
    views = [raw, raw.view(np.int8), *(raw.view(getattr(ml_dtypes, name)) for name in SMALL)]
    assert len({digest(view) for view in views}) == len(views)
    # Those that had a text of their own have the digests of before.
    for dtype in (ml_dtypes.float8_e5m2, ml_dtypes.bfloat16, np.float16):
        assert digest(raw.view(dtype)) == by_hand(raw.view(dtype))


def test_pieces_of_any_size_give_the_digest_of_the_whole(monkeypatch):
    array = np.random.default_rng(0).normal(size=(7, 9)).astype(ml_dtypes.bfloat16)
    monkeypatch.setattr(buffers, "PIECE", 4)
    assert digest(array) == digest(array.T.copy().T) == by_hand(array)
    assert running(array.dtype, array.shape, np.split(array.reshape(-1), [3, 5, 40])) == by_hand(array)


def test_strings_count_by_their_values_and_not_by_their_addresses():
    texts = [b"", b"ab", b"c" * 300]
    first, second = (np.array([bytes(bytearray(text)) for text in texts], object) for _ in range(2))
    assert digest(first) == digest(second) == running(first.dtype, (3,), [first[:1], first[1:]])
    assert digest(first) != digest(first[::-1]) != digest(first.reshape(1, 3))


@pytest.mark.parametrize("value", [b"text", b""])
def test_a_single_string_is_an_array_without_dimensions(value):
    assert digest(value) == digest(np.array(value, object))
