"""Bytes of mapped files: read and not touched, whole or refused."""

from __future__ import annotations

import numpy as np
import pytest

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, reading
from tfxfer.weights import open_weights


def test_an_array_of_more_than_one_piece_is_checked_and_copied_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(buffers, "LARGE", 1 << 12)
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=np.zeros(1, np.uint8), values=values)  # not aligned, and so copied
    weights = open_weights(tmp_path / "a.npz")
    assert weights["values"].tobytes() == values.tobytes()
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.index(values[-3:].tobytes())] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(WeightsError, match="values"):
        open_weights(tmp_path / "a.npz")["values"]


@pytest.fixture
def mapped(tmp_path):
    """The bytes of a file: 0, 1, 2, ..."""
    (tmp_path / "a").write_bytes(bytes(range(250)) * 40)
    return reading.map_file(tmp_path / "a")


@pytest.mark.parametrize("shape", [(), (3,), (7, 9)])
def test_arrays_begin_at_a_multiple_of_64(shape):
    array = buffers.aligned(shape, np.dtype(np.float32))
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, np.float32, True)
    assert array.__array_interface__["data"][0] % buffers.ALIGNMENT == 0


@pytest.mark.parametrize("large", [False, True])
def test_bytes_are_copied_and_each_piece_is_seen_in_order(mapped, monkeypatch, large):
    monkeypatch.setattr(buffers, "LARGE", 900 if large else 1 << 20)
    monkeypatch.setattr(buffers, "PIECE", 700)
    seen: list[bytes] = []
    out = buffers.copied(mapped[3:], np.empty(len(mapped) - 3, np.uint8), lambda piece: seen.append(piece.tobytes()))
    assert len(seen) > 5
    assert b"".join(seen) == out.tobytes() == mapped[3:].tobytes()


def test_bytes_in_memory_are_returned_as_they_are_and_those_of_a_file_as_a_copy(mapped):
    array = np.arange(9, dtype=np.uint8)
    assert buffers.fetched(array) is buffers.owned(array) is buffers.checked(array) is array
    for copy in (buffers.fetched(mapped[5:99]), buffers.owned(mapped[5:99])):
        assert not np.shares_memory(copy, mapped)
        assert copy.tobytes() == mapped[5:99].tobytes()
    turned = mapped[:6].reshape(2, 3).T
    assert buffers.owned(turned).tolist() == turned.tolist()


def test_a_file_that_was_cut_is_refused_and_the_mapping_is_not_touched(mapped, tmp_path):
    (tmp_path / "a").write_bytes(b"short")
    for read in (buffers.fetched, buffers.checked, lambda raw: list(buffers.seen(raw, raw.dtype))):
        with pytest.raises(WeightsError, match="has changed since it was opened: it was cut, or written anew in place"):
            read(mapped)


def test_values_are_seen_piece_by_piece(mapped, monkeypatch):
    monkeypatch.setattr(buffers, "CACHED", 100)
    pieces = [piece.copy() for piece in buffers.seen(mapped[:1000], np.dtype("<u8"))]
    assert len(pieces) == 11
    assert np.concatenate(pieces).tobytes() == mapped[:1000].tobytes()


def test_arrays_of_any_order_in_memory_go_side_by_side(monkeypatch):
    monkeypatch.setattr(buffers, "PIECE", 5)
    a, b = np.arange(12).reshape(3, 4), np.arange(12).reshape(4, 3).T
    for pair in ((a, a), (a, b)):
        vectors = [tuple(vector.copy() for vector in vectors) for vectors in buffers.pieces(*pair)]
        assert all(len(left) == len(right) <= 5 for left, right in vectors)
        for number, array in enumerate(pair):
            assert np.concatenate([pieces[number] for pieces in vectors]).tolist() == array.ravel().tolist()
    assert list(buffers.pieces(np.empty((0, 2)))) == []
