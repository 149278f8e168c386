"""Shapes, dtypes and attributes of text, against h5py."""

from __future__ import annotations

import h5py
import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.hdf5.test_hdf5 import VERSIONS, check, same
from tfxfer.errors import WeightsError
from tfxfer.formats import hdf5, reading
from tfxfer.weights import open_weights


@pytest.mark.parametrize("version", VERSIONS)
def test_hdf5_reader_agrees_with_h5py_on_attributes(tmp_path, version):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=version) as file:
        file.attrs["fixed"] = np.bytes_("abc")
        file.attrs["list"] = [b"conv1", b"a much longer name"]
        file.attrs["text"] = "variable é"
        file.attrs["texts"] = ["a", "", "c" * 5000]
        file.attrs["number"] = 5
        file.attrs["space"] = np.array(b"pad", h5py.string_dtype("ascii", 10))
        group = file.create_group("many")
        for i in range(40):
            group.attrs[f"a{i}"] = f"text {i}"
        file["x"] = 1.0
        file["x"].attrs["dtype"] = "float64"
    check(path)


@given(
    array=arrays.arrays(
        st.sampled_from(
            [f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (1, 2, 4, 8)]
            + [f"{order}f{size}" for order in "<>" for size in (2, 4, 8)]
            + ["?"]
        ),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    ),
    version=st.sampled_from(VERSIONS),
)
def test_hdf5_reader_returns_any_array_that_h5py_wrote(tmp_path_factory, array, version):
    path = tmp_path_factory.mktemp("given") / "a.h5"
    with h5py.File(path, "w", libver=version) as file:
        file["group/x"] = array
    check(path)


def test_bfloat16_is_read_as_keras_marks_it(tmp_path):
    values = np.array([1, 2.5, -3], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("marked", data=values.view("V2"))
        file["marked"].attrs["dtype"] = "bfloat16"
        file.create_dataset("not", data=values.view("V2"))
    weights = open_weights(tmp_path / "a.h5")
    assert same(weights["marked"], values)
    with pytest.raises(WeightsError, match="not holds opaque bytes, which tfxfer does not read"):
        weights["not"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_numbers_are_read_as_h5py_and_matlab_write_them(tmp_path, version, dtype):
    values = (np.arange(6) - 1j * np.arange(6) ** 2).reshape(2, 3).astype(dtype)
    part = f"f{values.itemsize // 2}"
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["python"] = values
        file["matlab"] = values.view([("real", part), ("imag", part)])
        file["other names"] = values.view([("real", part), ("r", part)])
        file["other place"] = values.view([("imag", part), ("real", part)])
        file["one"] = values.view([("real", part), ("imag", f"i{values.itemsize // 2}")])
    weights = open_weights(tmp_path / "a.h5")
    assert sorted(weights) == ["matlab", "python"]
    assert same(weights["python"], values)
    assert same(weights["matlab"], values)
    assert all("holds compounds" in weights.skipped[name] for name in ("other names", "other place", "one"))


@pytest.mark.parametrize("version", VERSIONS)
def test_whole_numbers_are_read_from_attributes(tmp_path, version):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        for name, value in {"u1": np.uint8(1), "i4": np.int32(-2), "f8": 3.0, "text": "4", "two": np.arange(2)}.items():
            file.attrs[name] = value
    root = hdf5.root(reading.map_file(tmp_path / "a.h5"), "a.h5")
    numbers = {name: root.number(name) for name in ("u1", "i4", "f8", "text", "two", "none")}
    assert numbers == {"u1": 1, "i4": -2, "f8": 0, "text": 0, "two": 0, "none": 0}
