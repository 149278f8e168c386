"""Files as bytes: what is looked at first, numbers one after the other, arrays, and JSON that is not believed."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, reading
from tfxfer.formats.reading import Cursor
from tfxfer.weights import streams


def test_the_ends_of_a_file_are_read_as_far_as_there_are_any(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    assert (reading.head(path, 2), reading.tail(path, 2)) == (b"ab", b"ef")
    assert reading.head(path, 99) == reading.tail(path, 99) == b"abcdef"
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path, tmp_path / "pipe", tmp_path / "nowhere", tmp_path / "nul\0", tmp_path / ("x" * 300)):
        assert reading.head(other, 2) == reading.tail(other, 2) == b""
        assert not reading.exists(other)
    assert reading.exists(path)
    assert reading.is_directory(tmp_path)
    assert not reading.is_directory(path)
    assert reading.siblings(tmp_path) == ["a", "pipe"]
    assert reading.siblings(path) == []


def test_a_file_is_mapped_and_what_is_none_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "empty").touch()
    assert reading.map_file(tmp_path / "a").tobytes() == b"abc"
    assert reading.map_file(tmp_path / "empty").tobytes() == b""
    for name, why in (("nowhere", "No such file"), (".", "is not a regular file"), ("nul\0", "null byte")):
        with pytest.raises(WeightsError, match=f"cannot be read: .*{why}"):
            reading.map_file(f"{tmp_path}/{name}")


def test_a_cursor_reads_one_thing_after_the_other_and_not_beyond_the_end():
    cursor = Cursor(memoryview(b"\1\2\0abc\0xyz"), "a.h5", 0)
    assert (cursor.number(1), cursor.number(2), cursor.until(b"\0"), cursor.left) == (1, 2, b"abc", 3)
    assert cursor.unpack(struct.Struct("<2s")) == (b"xy",)
    with pytest.raises(WeightsError, match=r"a\.h5 is cut short or corrupt: the text at byte 9 does not end"):
        cursor.until(b"\0")
    with pytest.raises(WeightsError, match=r"a\.h5 is cut short or corrupt: 2 bytes are missing at byte 9"):
        cursor.take(2)
    with pytest.raises(WeightsError, match="bytes are missing"):
        Cursor(memoryview(b"abc"), "x", -2).take(1)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "|u1", ">i8"])
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("fortran", [False, True])
def test_arrays_are_read_in_the_order_of_this_machine(tmp_path, dtype, offset, fortran):
    values = np.arange(6).reshape(2, 3).astype(dtype)
    (tmp_path / "a").write_bytes(bytes(offset) + values.tobytes("F" if fortran else "C"))
    data = reading.map_file(tmp_path / "a")
    place = (data, offset, np.dtype(dtype), (2, 3), "a: w", fortran)
    array, tensor = reading.array(*place), reading.tensor(*place)
    assert array.tolist() == tensor.read().tolist() == values.tolist()
    assert array.dtype == tensor.dtype == np.dtype(dtype).newbyteorder("=")
    assert not array.flags.writeable
    if tensor.stream:
        assert np.concatenate([piece.copy() for piece in tensor.stream()]).tolist() == values.ravel().tolist()
    with pytest.raises(WeightsError, match=r"a: w: .* bytes at .* go beyond the end of the file"):
        reading.array(data, offset + 1, *place[2:])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(0, 12), st.integers(1, 5))
def test_what_is_repeated_is_the_same_in_pieces_and_whole(first, more, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffers, "PIECE", piece)
        tensor = reading.repeated(lambda: np.array(first, "i2"), np.dtype("i2"), (1, len(first) + more))
        pieces = [part.copy() for part in streams.pieces(tensor)]
    assert tensor.read().tolist() == [first + more * first[-1:]]
    assert np.concatenate(pieces).tolist() == first + more * first[-1:]
    assert {part.dtype for part in pieces} == {tensor.dtype} == {tensor.read().dtype}
    assert max(map(len, pieces)) <= piece
    assert reading.repeated(lambda: np.zeros(1, "i2"), np.dtype("i2"), (0, 3)).read().shape == (0, 3)


def test_json_that_is_none_or_would_fill_the_memory_is_refused():
    assert reading.parse_json(b'{"a": [1]}', "x") == {"a": [1]}
    assert len(reading.parse_json(json.dumps(["a" * 50] * 9999).encode(), "x")) == 9999
    with pytest.raises(WeightsError, match="x: its description is not JSON"):
        reading.parse_json(b"{", "x")
    with pytest.raises(WeightsError, match="x: its description is not JSON"):
        reading.parse_json(b"[" * 100_000, "x")
    with pytest.raises(WeightsError, match="are not a description of weights"):
        reading.parse_json(b"[" * 1_000_000, "x")
