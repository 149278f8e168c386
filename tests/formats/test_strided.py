"""Arrays by their strides, against numpy's own views."""

from __future__ import annotations

import os
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.errors import WeightsError
from tfxfer.formats import reading, strided

ROW = np.arange(4000, dtype="i4")


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0, 1, 2, 3, 7, 30, 150])), max_size=4),
    st.integers(0, 50),
    st.booleans(),
)
def test_any_sizes_and_strides_give_what_numpy_sees(axes, offset, swapped):
    shape, strides = tuple(size for size, _ in axes), tuple(stride for _, stride in axes)
    expected = np.lib.stride_tricks.as_strided(ROW[offset:], shape, [4 * stride for stride in strides])
    data = (ROW.byteswap() if swapped else ROW).view(np.uint8)
    tensor = strided.tensor(data, 4 * offset, ROW.dtype, shape, strides, "a", swapped)
    assert (tensor.shape, tensor.dtype) == (shape, ROW.dtype)
    assert np.array_equal(tensor.read(), expected)
    assert not strided.fault(ROW.dtype, shape, strides)
    if tensor.stream:
        assert np.array_equal(np.concatenate([piece.copy() for piece in tensor.stream()]), expected.ravel())


@pytest.mark.parametrize(
    "rows", [(slice(None), slice(0, 3)), (slice(None, None, 9), 5), (slice(2, 4), slice(None, None, 7))]
)
@pytest.mark.parametrize("swapped", [False, True])
def test_values_that_are_scattered_are_read_in_little_memory(tmp_path, monkeypatch, rows, swapped):
    # As if less memory were allowed, so that a small file will do.
    monkeypatch.setattr(strided, "ROOM", 1 << 12)
    monkeypatch.setattr(strided.buffers, "PIECE", 1 << 11)
    table = np.arange(400 * 600, dtype="f4").reshape(400, 600)
    (tmp_path / "a").write_bytes((table.byteswap() if swapped else table).tobytes())
    expected = table[rows]
    start = expected.__array_interface__["data"][0] - table.__array_interface__["data"][0]
    steps = tuple(stride // 4 for stride in expected.strides)
    data = reading.map_file(tmp_path / "a")
    read = []
    monkeypatch.setattr(os, "preadv", lambda *args, real=os.preadv: read.append(real(*args)) or read[-1])
    array = strided.array(data, start, table.dtype, expected.shape, steps, swapped)
    assert np.array_equal(array, expected)
    assert not array.flags.writeable
    assert max(read) <= 1 << 11
    assert array.base is None or array.base.nbytes < expected.nbytes + 128


def test_a_transposed_array_takes_no_memory_but_its_own(tmp_path):
    table = np.arange(1 << 20, dtype="f8").reshape(1024, 1024)
    (tmp_path / "a").write_bytes(table.tobytes())
    data = reading.map_file(tmp_path / "a")
    tracemalloc.start()
    array = strided.tensor(data, 0, table.dtype, (1024, 1024), (1, 1024), "a").read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(array, table.T)
    assert peak < table.nbytes + (1 << 18)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "bool"])
def test_every_dtype_is_read_by_its_strides(name):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    bits = np.arange(24 * dtype.itemsize, dtype=np.uint8) % 2
    expected = bits.view(dtype).reshape(4, 6)[1:, ::2].T
    array = strided.array(bits, 6 * dtype.itemsize, dtype, (3, 3), (2, 6))
    assert (array.dtype, array.shape) == (dtype, (3, 3))
    assert array.tobytes() == expected.tobytes()
    assert not array.flags.writeable


def test_bits_of_bfloat16_are_swapped():
    values = np.array([1, -2.5, 3e5], ml_dtypes.bfloat16)
    data = values.view("u2").byteswap().view(np.uint8)
    array = strided.tensor(data, 0, values.dtype, (3,), (1,), "a", swapped=True).read()
    assert array.tobytes() == values.tobytes()


def test_what_cannot_be_read_in_little_time_or_memory_has_a_fault():
    assert strided.span((2, 3), (3, 1)) == 6
    assert strided.span((2, 0), (3, 1)) == 0
    assert strided.span((), ()) == 1
    kind = np.dtype("f4")
    assert not strided.fault(kind, (1 << 30, 1 << 30), (0, 0))
    assert not strided.fault(kind, (1 << 10, 4), (1 << 20, 1))
    assert "overlap" in strided.fault(kind, (1024, 1024), (1 << 20, 1 << 20))
    assert "scattered over" in strided.fault(kind, (1 << 10, 4), (1 << 30, 1))


def test_a_file_that_was_cut_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(ROW.tobytes())
    tensor = strided.tensor(reading.map_file(tmp_path / "a"), 0, ROW.dtype, (40, 50), (1, 40), "a")
    os.truncate(tmp_path / "a", 100)
    with pytest.raises(WeightsError, match="has changed since it was opened"):
        tensor.read()
