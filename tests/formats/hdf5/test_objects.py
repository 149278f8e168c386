"""Arrays and groups: what is read of them, what is listed with a reason, and walks that would not end."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest

from tests import fuzz
from tests.formats.hdf5.test_hdf5 import RNG, VERSIONS, same
from tfxfer.errors import WeightsError
from tfxfer.formats import hdf5, reading
from tfxfer.formats.hdf5 import file as structures
from tfxfer.formats.hdf5 import objects
from tfxfer.weights import open_weights


def test_an_array_is_read_once_and_read_only(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.ones((512, 1024)), np.ones((512, 1024))
    tracemalloc.start()
    array = open_weights(path)["b"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not array.flags.writeable
    assert peak < (512 * 1024 * 8) + (1 << 20)


@pytest.mark.parametrize("chunks", [None, (1 << 16,)])
def test_what_was_never_written_takes_as_little_memory_as_it_takes_of_the_file(tmp_path, chunks):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (40 << 20,), "f4", fillvalue=2, chunks=chunks)
    tensor = open_weights(path).tensor("a")
    total, peak = fuzz.streamed(tensor)
    assert total == 80 << 20
    assert peak < 10 << 20


def test_what_is_no_array_of_numbers_is_listed_and_cannot_be_read(tmp_path):
    path = tmp_path / "a.h5"
    noise = RNG.normal(size=(40, 40))
    with h5py.File(path, "w") as file:
        file["w"] = np.arange(3)
        file["text"] = ["a", "b"]
        file["fixed"] = np.array([b"a", b"b"])
        file["pairs"] = np.zeros(3, [("a", "i4"), ("b", "f4")])
        file["pointer"] = file["w"].ref
        file["rows"] = np.zeros(2, "(3,)f4")
        file.create_dataset("lzf", data=noise, compression="lzf")
        file.create_dataset("checked", data=noise, fletcher32=True)
        file.create_dataset("elsewhere", (4,), "f4", external=[(str(tmp_path / "other"), 0, 16)])
        layout = h5py.VirtualLayout((3,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3,))
        file.create_virtual_dataset("virtual", layout)
    weights = open_weights(path)
    assert same(weights["w"], np.arange(3))
    for name, message in (
        ("text", "text holds text or lists of variable length, which tfxfer does not read"),
        ("fixed", "fixed holds text, which tfxfer does not read"),
        ("pairs", "pairs holds compounds, which"),
        ("pointer", "pointer holds references, which"),
        ("lzf", r"lzf went through HDF5 filters \[32000\]; only gzip \(1\) and shuffle \(2\) are read"),
        ("checked", r"checked went through HDF5 filters \[3\]; only gzip"),
        ("elsewhere", "elsewhere is refused: its values lie in another file"),
        ("virtual", r"virtual is stored in a way \(version \d, class 3\) that tfxfer does not read; write it anew"),
    ):
        assert name not in weights
        assert name in weights.skipped
        with pytest.raises(WeightsError, match=message):
            weights[name]


def test_groups_that_hold_themselves_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b/w"] = np.ones(3)
        file["a/b/c"] = file["a"]
    with pytest.raises(WeightsError, match="groups hold one another, or are nested more than 32 deep, at a/b/c"):
        open_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("names", ["ab", pytest.param("abcd", marks=pytest.mark.slow)])
def test_groups_with_paths_without_end_are_refused_in_little_time_and_memory(tmp_path, monkeypatch, names):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["0/w"] = np.ones(3)
        for level in range(30):
            for name in names:
                file[f"{level + 1}/{name}"] = file[f"{level}"]
    assert fuzz.little_time(tmp_path / "a.h5") == "refused"
    # Memory is looked at over some of the steps, since that slows them down twenty times.
    monkeypatch.setattr(structures, "MAX_STEPS", structures.MAX_STEPS // 20)
    assert fuzz.little_memory(tmp_path / "a.h5", fuzz.ROOM // 20) == "refused"


def test_arrays_that_announce_too_much_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", (1 << 33,), "f4", chunks=(1 << 10,))
        file.create_dataset("v", (1 << 33,), "f4")
    with pytest.raises(
        WeightsError, match=r"announces 68,719,476,736 bytes of tensors, more than max_bytes=17,179,869,184"
    ):
        open_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_that_holds_itself_is_refused(tmp_path, version):
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file["a/x"] = np.arange(3)
        file["a/b/c"] = file["a"]
    with pytest.raises(WeightsError, match="groups hold one another"):
        open_weights(tmp_path / "a.h5")


def test_references_are_the_addresses_of_objects(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        file["w"] = np.arange(3)
        file["group/inner"] = np.ones(2)
        references = [file["group"].ref, file["w"].ref]
        file["pointers"] = np.array(references, h5py.ref_dtype)
        file["regions"] = np.array([file["w"].regionref[:1]], h5py.regionref_dtype)
        file["soft"] = h5py.SoftLink("/w")
    root = hdf5.root(reading.map_file(tmp_path / "a.h5"), "a.h5")
    assert root["pointers"].references == [root.links["group"], root.links["w"]]
    assert [root[name].references for name in ("w", "group", "regions", "soft")] == [None] * 4
    monkeypatch.setattr(objects, "MAX_REFERENCES", 1)
    with pytest.raises(WeightsError, match="pointers is hostile: it holds more than 1 references"):
        _ = root.child("pointers").references
