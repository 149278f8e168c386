"""Links and attributes of objects that have many: heaps of any size, and what is too large or damaged in one."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tests.formats.hdf5.test_hdf5 import check, root
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights


@pytest.mark.parametrize("count", [9, 60])
def test_many_links_and_attributes_are_read_as_h5py_reads_them(tmp_path, count):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        for number in range(count):
            file.attrs[f"a{number}"] = "text" * (number % 9)
        for number in range(20 * count):
            file[f"group/of_a_name_that_takes_room_{number}"] = np.int8(number % 100)
    check(tmp_path / "a.h5")


def test_an_attribute_that_is_too_large_for_its_heap_is_told_with_a_cure(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.attrs["huge"] = ["name"] * 30_000
        for number in range(40):
            file.attrs[f"a{number}"] = np.bytes_("b" * 3000)
        file.attrs["large"] = np.bytes_("c" * 60_000)
    with pytest.raises(WeightsError, match=r"an attribute larger than its heap takes is not read; .*libver='earliest'"):
        root(tmp_path / "a.h5").texts("nowhere")


@pytest.mark.parametrize("signature", [b"FRHP", b"FHDB", b"BTHD", b"BTLF"])
def test_a_structure_that_is_damaged_is_named(tmp_path, signature):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        for number in range(30):
            file[f"group/x{number}"] = np.int8(number)
    raw = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(raw.replace(signature, b"none"))
    with pytest.raises(WeightsError, match=f"is corrupt: a structure {signature.decode()} is missing at byte"):
        open_weights(tmp_path / "a.h5")
