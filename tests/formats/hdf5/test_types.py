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
