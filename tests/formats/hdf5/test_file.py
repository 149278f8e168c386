"""Where an HDF5 file begins and ends, and how much of it is looked at."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tests.formats.hdf5.test_hdf5 import check, same
from tfxfer.errors import WeightsError
from tfxfer.formats import hdf5
from tfxfer.weights import open_weights


def test_hdf5_files_with_a_block_of_a_user_before_them_are_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["x"] = np.arange(7)
    check(path)
    assert same(open_weights(path)["x"], np.arange(7))


def test_a_file_that_is_cut_short_is_named_as_such(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w"] = np.ones(3)
    raw = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(raw[:-5])
    with pytest.raises(WeightsError, match=r"is cut short: it has [\d,]+ of [\d,]+ bytes; copy it again"):
        open_weights(tmp_path / "a.h5")
    with pytest.raises(WeightsError, match="is not an HDF5 file: it does not begin with HDF5's signature"):
        hdf5.root(np.frombuffer(b"nothing of that kind", np.uint8), "x")
    with pytest.raises(WeightsError, match="HDF5 superblocks of version 7 and addresses that do not have 8 bytes"):
        hdf5.root(np.frombuffer(raw[:8] + b"\7" + raw[9:], np.uint8), "x")


def test_files_of_too_many_structures_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxfer.formats.hdf5.file.MAX_STEPS", 300)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(100):
            file[f"{i}"] = np.float32(i)
    with pytest.raises(WeightsError, match="is corrupt: its structures run in a loop, or are far too many"):
        open_weights(tmp_path / "a.h5")
    monkeypatch.setattr("tfxfer.formats.hdf5.file.MAX_TEXT", 60)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w" * 61] = np.float32(1)
    with pytest.raises(WeightsError, match="is corrupt: its texts take more than 60 bytes"):
        open_weights(tmp_path / "a.h5")
