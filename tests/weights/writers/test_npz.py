"""`.npz` archives that are written, against numpy."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from tfxfer.errors import WeightsError
from tfxfer.weights import streams, writers

RNG = np.random.default_rng(0)
DTYPES = ["float16", "float32", "float64", "int8", "uint64", "complex64", "bool", "S5", "U3"]


def test_numpy_loads_what_is_written_without_a_pickle(tmp_path):
    named = {f"é/{dtype}": (RNG.normal(size=(3, 5)) * 9).astype(dtype) for dtype in DTYPES}
    named |= {"scalar": np.array(3.5), "empty": np.zeros((0, 4), "f4"), "turned": RNG.normal(size=(4, 6)).T}
    writers.write(tmp_path / "a.npz", {name: streams.held(array) for name, array in named.items()})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found.files == list(named)
        for name, array in named.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype


def test_the_archive_is_one_that_python_finds_whole_and_stored(tmp_path):
    named = {f"{'n' * i}": np.ones(i, np.float32) for i in range(1, 80)}
    writers.write(tmp_path / "a.npz", {name: streams.held(array) for name, array in named.items()})
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.namelist() == [f"{name}.npy" for name in named]


def test_two_names_that_numpy_would_take_for_one_are_refused_and_alone_each_is_found(tmp_path):
    named = {name: np.full(2, i, np.float32) for i, name in enumerate(["a", "a.npy", "b.npy"])}
    held = {name: streams.held(array) for name, array in named.items()}
    with pytest.raises(WeightsError, match=r"1 of 3 tensors:\n  a\.npy: NumPy would take a for it.*rename one of the"):
        writers.write(tmp_path / "a.npz", held)
    for left_out in ("a", "a.npy"):
        writers.write(tmp_path / "a.npz", {n: t for n, t in held.items() if n != left_out}, overwrite=True)
        with np.load(tmp_path / "a.npz") as found:
            assert all(np.array_equal(found[name], named[name]) for name in named if name != left_out)
