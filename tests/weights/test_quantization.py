"""Integers and the real numbers that they stand for, in files of any kind."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tests import fuzz
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights


def save(path, **more):
    arrays = {"w": np.array([[0, 128, 255], [1, 2, 3]], np.uint8), "w_scale": np.array([0.5], "f4"),
              "w_zero_point": np.array([128]), "v": np.arange(3), **more}  # fmt: skip
    np.savez(path, **arrays)
    return path


def test_numbers_with_a_scale_become_real_ones_and_others_stay(tmp_path):
    path = save(tmp_path / "a.npz", v_scale=np.ones(1, "f4"))
    weights = open_weights(path, dequantize=True)
    assert list(weights) == ["w", "v", "v_scale"]
    assert weights.dtype("w") == np.float32
    assert weights["w"].tolist() == [[-64, 0, 63.5], [-63.5, -63, -62.5]]
    assert weights.dtype("v") == np.int64
    assert open_weights(path)["w"].dtype == np.uint8


def test_each_channel_has_its_scale(tmp_path):
    scales = {"w_scale": np.array([1, 2, 4], "f4"), "w_zero_point": np.array([0, 128, 0])}
    path = save(tmp_path / "a.npz", **scales, w_quantized_dimension=np.array(1))
    assert open_weights(path, dequantize=True)["w"].tolist() == [[0, 0, 1020], [1, -252, 12]]


def test_renaming_and_layouts_come_after(tmp_path):
    path = save(tmp_path / "a.npz")
    weights = open_weights(path, dequantize=True, rename=[("^w$", "fc/kernel")], layout=[("fc/kernel", "transpose")])
    assert weights["fc/kernel"].tolist() == [[-64, -63.5], [0, -63], [63.5, -62.5]]


def test_a_file_without_scales_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.arange(3))
    with pytest.raises(WeightsError, match=r"a\.npz holds nothing to dequantize: .*; leave `dequantize` out"):
        open_weights(tmp_path / "a.npz", dequantize=True)
    assert list(open_weights(tmp_path / "a.npz")) == ["w"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"w_scale": np.ones(3, "f4")}, r"w: its 3 scales do not fit to \(2, 3\) in dimension -1"),
        (
            {"w_scale": np.ones(3, "f4"), "w_quantized_dimension": np.array(0)},
            r"w: its 3 scales do not fit to \(2, 3\) in dimension 0",
        ),
        (
            {"w_scale": np.ones(3, "f4"), "w_quantized_dimension": np.array(7)},
            r"w: its 3 scales do not fit to \(2, 3\) in dimension 7",
        ),
        ({"w_scale": np.array([np.nan], "f4")}, "w: one of its scales is not a finite number"),
    ],
)
def test_scales_that_do_not_fit_are_refused_when_the_array_is_read(tmp_path, more, message):
    weights = open_weights(save(tmp_path / "a.npz", **more), dequantize=True)
    with pytest.raises(WeightsError, match=message):
        weights["w"]


def test_a_large_array_is_dequantized_piece_by_piece(tmp_path):
    large = np.arange(10 << 20, dtype=np.uint8).reshape(-1, 64)
    path = save(tmp_path / "a.npz", w=large, w_scale=np.full(64, 0.1, "f4"), w_zero_point=np.full(64, 9),
                w_quantized_dimension=np.array(1))  # fmt: skip
    weights = open_weights(path, dequantize=True)
    expected = (np.float64(np.float32(0.1)) * (large.astype("i4") - 9)).astype("f4")
    assert np.array_equal(weights["w"], expected)
    tracemalloc.start()
    array = weights["w"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes + fuzz.ROOM + large.nbytes
