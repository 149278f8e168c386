"""Headers of objects: messages that stand in the header of another object."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tests.formats.hdf5.test_hdf5 import VERSIONS, same
from tfxfer.weights import open_weights


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dtype_with_a_name_of_its_own_is_followed(tmp_path, version):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["kind"] = np.dtype(">f4")
        file.create_dataset("x", data=np.arange(3), dtype=file["kind"])
        file.create_dataset("chunked", data=np.arange(9), dtype=file["kind"], chunks=(4,), compression="gzip")
        file["y"] = np.arange(3)
    weights = open_weights(tmp_path / "a.h5")
    assert same(weights["x"], np.arange(3, dtype="f4"))
    assert same(weights["y"], np.arange(3))
    if version != "latest":  # chunks of the newest kind are not read
        assert same(weights["chunked"], np.arange(9, dtype="f4"))
