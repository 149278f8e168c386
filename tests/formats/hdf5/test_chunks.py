"""Arrays in chunks, compressed or not, against h5py."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import h5py
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.hdf5.test_hdf5 import RNG, check, tensors
from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights


@given(
    shape=arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=12),
    data=st.data(),
    compression=st.sampled_from([None, "gzip"]),
    shuffle=st.booleans(),
)
def test_hdf5_reader_returns_any_array_in_chunks(tmp_path_factory, shape, data, compression, shuffle):
    path = tmp_path_factory.mktemp("given") / "a.h5"
    chunks = tuple(data.draw(st.integers(1, side)) for side in shape)
    array = RNG.integers(-9, 9, size=shape).astype(data.draw(st.sampled_from(["<f4", ">i2", "<f8", "|i1"])))
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=array, chunks=chunks, compression=compression, shuffle=shuffle)
    check(path)


def test_elements_that_were_never_written_have_the_fill_value(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("never", shape=(4, 4), dtype=">i4", fillvalue=-3)
        sparse = file.create_dataset("sparse", shape=(100, 100), chunks=(10, 10), dtype="f4", fillvalue=7)
        sparse[33:44, 5] = 1
        file.create_dataset("zero", shape=(3,), dtype="f8")
        file.create_dataset("compact", data=np.arange(4), dcpl=compact())
        file.create_dataset("growing", data=np.arange(5000), chunks=(5,), maxshape=(None,))
    check(path)


def compact() -> object:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    return plist


def chunked(path: Path, chunk: bytes, **options) -> Path:
    """Write an array of 4 KiB in one chunk whose compressed bytes are made up."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("w", (1024,), "f4", chunks=(1024,), compression="gzip", **options)
        dataset.id.write_direct_chunk((0,), chunk)
    return path


def test_a_chunk_is_never_unpacked_beyond_its_size(tmp_path):
    tensor = tensors(chunked(tmp_path / "a.h5", zlib.compress(bytes(50 << 20), 9)))["w"]
    tracemalloc.start()
    with pytest.raises(WeightsError, match="w is corrupt: a chunk has 4,097 bytes, not 4,096"):
        tensor.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (512 * 1024 * 8) + (1 << 20)


def test_an_array_in_chunks_may_be_read_any_number_of_times(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxfer.formats.hdf5.file.MAX_STEPS", 300)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", data=np.arange(60), chunks=(2,))
    weights = open_weights(tmp_path / "a.h5")
    assert all(weights["w"].tolist() == list(range(60)) for _ in range(20))


def test_chunks_that_do_not_unpack_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="w is corrupt: a chunk does not unpack"):
        tensors(chunked(tmp_path / "a.h5", b"no stream"))["w"].read()
    with pytest.raises(WeightsError, match="w is corrupt: a chunk has 5 bytes, not 4,096"):
        tensors(chunked(tmp_path / "a.h5", zlib.compress(b"short")))["w"].read()


def test_chunks_far_larger_than_their_array_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", (3,), "f4", chunks=(1 << 28,), maxshape=(None,))
    with pytest.raises(WeightsError, match=r"its chunks of 1,073,741,824 bytes are far larger than the array"):
        open_weights(tmp_path / "a.h5")
