"""The reader of FlatBuffers, against the format's own library and against hostile files."""

from __future__ import annotations

import struct

import flatbuffers as library
import numpy as np
import pytest

from tfxfer.errors import WeightsError
from tfxfer.formats import flatbuffers


def table(*, big: int = 0) -> bytes:
    """Write a table: an int64 (0), a text (1), a vector of int16 (2), a table (3), two tables (4), an int8 (5)."""
    builder = library.Builder(64)
    text, numbers = builder.CreateString("grün"), builder.CreateNumpyVector(np.array([1, -2, 3], "<i2"))
    inner = []
    for value in (7, 8):
        builder.StartObject(1)
        builder.PrependInt32Slot(0, value, 0)
        inner.append(builder.EndObject())
    builder.StartVector(4, 2, 4)
    for place in reversed(inner):
        builder.PrependUOffsetTRelative(place)
    tables = builder.EndVector()
    builder.StartObject(7)
    builder.PrependInt64Slot(0, -(1 << 40), 0)
    for field, place in ((1, text), (2, numbers), (3, inner[0]), (4, tables)):
        builder.PrependUOffsetTRelativeSlot(field, place, 0)
    builder.PrependInt8Slot(5, big, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def root(data: bytes) -> flatbuffers.Table:
    return flatbuffers.root(memoryview(data), "a.tflite")


def test_fields_are_those_that_the_library_wrote():
    data = table(big=-5)
    read = root(data)
    assert read.number(0, "q") == -(1 << 40)
    assert read.text(1) == "grün"
    assert read.numbers(2, "<i2") == [1, -2, 3]
    vector = read.vector(2, 2)
    assert np.frombuffer(data, "<i2", vector.count, vector.start).tolist() == [1, -2, 3]
    assert read.table(3).number(0, "i") == 7
    assert [inner.number(0, "i") for inner in read.tables(4)] == [7, 8]
    assert len(read.tables(4)) == 2
    assert read.number(5, "b") == -5
    assert 5 in read


def test_fields_that_are_not_stated_have_their_defaults():
    for field in (6, 1000):
        read = root(table())
        assert field not in read
        assert (read.number(field, "i", 3), read.text(field), read.table(field)) == (3, "", None)
        assert read.vector(field, 4).count == 0
        assert list(read.tables(field)) == []


def test_offsets_lead_forward_so_that_no_table_holds_itself():
    back = only(b"", distance=(1 << 32) - 16)  # -16, where the table itself begins, to who reads it as signed
    with pytest.raises(WeightsError, match="4 bytes at 4,294,967,296 go beyond the end of the file"):
        back.table(0)
    onto_itself = only(b"", distance=0).table(0)
    assert 0 not in onto_itself
    assert onto_itself.table(0) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "4 bytes at 0 go beyond the end of the file"),
        (struct.pack("<I", 0xFFFFFFFF), "4 bytes at 4,294,967,295 go beyond the end"),
        (struct.pack("<Ii", 4, 5), "bytes at -1 go beyond the end of the file"),
        (struct.pack("<Ii", 4, -(1 << 31)), "go beyond the end of the file"),
        (struct.pack("<IiHH", 4, -4, 400, 8), "400 bytes at 8 go beyond the end of the file"),
        (struct.pack("<IiHH", 4, -4, 4, 900), "900 bytes at 4 go beyond the end of the file"),
    ],
)
def test_tables_beyond_the_file_are_refused(data, message):
    with pytest.raises(WeightsError, match=message):
        root(data)


def only(content: bytes, place: int = 4, size: int = 8, distance: int = 4) -> flatbuffers.Table:
    """Return a table whose one field holds the distance to `content`."""
    return root(struct.pack("<IHHHHiI", 12, 6, size, place, 0, 8, distance) + content)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: only(b"", place=8).number(0, "i"), "a field lies outside of its table"),
        (lambda: only(b"", place=6).number(0, "i"), "a field lies outside of its table"),
        (lambda: only(b"", place=6, size=9).number(0, "i"), "9 bytes at 12 go beyond the end of the file"),
        (lambda: only(b"").text(0), "4 bytes at 20 go beyond the end of the file"),
        (lambda: only(struct.pack("<I", 5) + b"abcd").text(0), "5 bytes at 24 go beyond the end"),
        (lambda: only(struct.pack("<i", -1) + b"abcd").vector(0, 8), "34,359,738,360 bytes at 24 go beyond the end"),
        (lambda: only(struct.pack("<I", 1_000_000_000)).tables(0), "4,000,000,000 bytes at 24 go beyond the end"),
        (lambda: only(struct.pack("<I", 100_001) + bytes(400_004)).tables(0), "it holds a list of 100,001 tables"),
        (lambda: list(only(struct.pack("<II", 1, 99)).tables(0)), "4 bytes at 123 go beyond the end of the file"),
        (lambda: only(struct.pack("<I", 65) + bytes(260)).numbers(0, "<i4"), "65 numbers where at most 64 belong"),
        (lambda: only(struct.pack("<I", 1) + b"\xff").text(0), "is not UTF-8"),
        (lambda: only(struct.pack("<I", 65537) + bytes(70000)).text(0), "longer than 65,536 bytes"),
    ],
)
def test_fields_that_lead_astray_are_refused(read, message):
    with pytest.raises(WeightsError, match=message):
        read()


def test_broken_tables_give_only_weights_errors(fuzz_cases):
    rng, good = np.random.default_rng(0), table(big=3)
    refused = 0
    for _ in range(fuzz_cases):
        data = bytearray(good)
        data[rng.integers(len(data))] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        try:
            read = root(bytes(data))
            read.number(0, "q"), read.text(1), read.numbers(2, "<i2"), read.number(5, "b")
            [inner.number(0, "i") for inner in (read.table(3), *read.tables(4)) if inner]
        except WeightsError:
            refused += 1
    assert refused > fuzz_cases // 10
