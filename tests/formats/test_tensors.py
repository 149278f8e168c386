"""What is known of an array before it is read."""

from __future__ import annotations

import numpy as np
import pytest

from tfxfer.errors import WeightsError
from tfxfer.formats.tensors import MAX_DIMENSIONS, Tensor, shape_fault, shown, unreadable


def test_sizes_of_scalars_and_of_empty_arrays():
    def read() -> np.ndarray:
        raise NotImplementedError

    assert Tensor((), np.dtype("f8"), read).size == 1
    assert Tensor((0, 5), np.dtype("f8"), read).nbytes == 0


def test_shapes_that_numpy_cannot_hold_are_told():
    assert shape_fault(()) == shape_fault((3, 0)) == ""
    assert "more than 64 dimensions" in shape_fault((1,) * (MAX_DIMENSIONS + 1))
    assert "is negative" in shape_fault((2, -1))
    assert "too large for any array" in shape_fault((1 << 40, 0, 1 << 40))


def test_an_entry_that_cannot_be_read_says_why_whenever_it_is_asked():
    tensor = unreadable("x.npz: log is a table", (2,))
    assert (tensor.shape, tensor.dtype, tensor.fault) == ((2,), np.dtype(object), "x.npz: log is a table")
    with pytest.raises(WeightsError, match=r"^x\.npz: log is a table$"):
        tensor.read()


def test_many_faults_are_counted():
    assert shown(["a", "b"]) == "a\n  b"
    assert shown([str(number) for number in range(12)], limit=2) == "0\n  1\n  and 10 more"
