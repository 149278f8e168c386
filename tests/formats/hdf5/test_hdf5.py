"""The reader of HDF5 files, against h5py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests import fuzz
from tfxfer.formats import hdf5, reading
from tfxfer.formats.tensors import Tensor

RNG = np.random.default_rng(0)
VERSIONS = ("earliest", "v108", "latest")


def same(array: np.ndarray, expected: np.ndarray) -> bool:
    expected = expected.astype(expected.dtype.newbyteorder("="))
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()


def root(path: Path) -> hdf5.Object:
    return hdf5.root(reading.map_file(path), str(path))


def tensors(path: Path) -> dict[str, Tensor]:
    return {dataset.path: dataset.tensor for dataset in root(path).datasets()}


def datasets(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of numbers in a file, by h5py."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def check(path: Path) -> None:
    """Compare all arrays and attributes of text with what h5py reads."""
    ours, theirs = tensors(path), datasets(path)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.shape == theirs[name].shape
        assert same(tensor.read(), np.asarray(theirs[name])), name

    def compare(name: str, item: h5py.Group | h5py.Dataset) -> None:
        for key, value in item.attrs.items():
            values = [value] if isinstance(value, str | bytes | np.bytes_) else list(np.atleast_1d(value))
            texts = [text.decode() if isinstance(text, bytes) else text for text in values]
            if all(isinstance(text, str) for text in texts):
                assert root(path)[name].texts(key) == texts
            else:
                assert root(path)[name].texts(key) is None
            assert root(path)[name].has(key)

    with h5py.File(path) as file:
        file.visititems(compare)
        compare("", file)


def small(path: Path, version: str) -> bytes:
    """Return a file that has all structures and few bytes."""
    with h5py.File(path, "w", libver=version) as file:
        file.attrs["layer_names"] = ["conv1", "bn"]
        file["conv1/conv1/kernel:0"] = np.arange(4.0)
        file["conv1"].attrs["weight_names"] = [b"conv1/kernel:0"]
        file.create_dataset("bn/bn/gamma:0", data=np.arange(6), chunks=(4,), compression="gzip", shuffle=True)
        file["bn"].attrs["weight_names"] = [b"bn/gamma:0"]
        for i in range(10):
            file[f"many/x{i}"] = np.float32(i)
    return path.read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_broken_hdf5_files_give_only_weights_errors(tmp_path, version, fuzz_cases):
    good = small(tmp_path / "good.h5", version)
    assert fuzz.check_all(tmp_path / "a.h5", fuzz.broken(good, fuzz_cases, begin=len(good)))["refused"] > 50


def test_broken_structures_of_groups_give_only_weights_errors(tmp_path, fuzz_cases):
    # Without the attributes of Keras every group is walked.
    for version in VERSIONS:
        small(tmp_path / "good.h5", version)
        with h5py.File(tmp_path / "good.h5", "a") as file:
            del file.attrs["layer_names"]
        good = (tmp_path / "good.h5").read_bytes()
        assert fuzz.check_all(tmp_path / "a.h5", fuzz.broken(good, fuzz_cases, begin=len(good)))["refused"] > 50
