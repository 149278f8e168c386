"""The wire format of protocol buffers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tables
from tfxfer.errors import WeightsError
from tfxfer.formats import protobuf


@given(st.integers(0, (1 << 64) - 1))
def test_varints_are_read(value):
    assert protobuf.varint(tables.varint(value), 0, "t") == (value, len(tables.varint(value)))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed_numbers_are_read(value):
    assert protobuf.number(protobuf.fields(tables.field(3, value), "t"), 3) == value


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.one_of(st.integers(0, 1 << 63), st.binary(max_size=200))), max_size=10)
)
def test_messages_are_read(parts):
    raw = b"".join(tables.field(number, value) for number, value in parts)
    expected = [(number << 3 | (0 if isinstance(value, int) else 2), value) for number, value in parts]
    assert protobuf.fields(raw, "t") == expected
    assert [
        (tag, value if isinstance(value, int) else bytes(value)) for tag, value in protobuf.fields(memoryview(raw), "t")
    ] == expected


def test_fixed_numbers_are_read_and_fields_of_other_types_are_unknown():
    raw = bytes([1 << 3 | 5, 1, 2, 3, 4, 2 << 3 | 1]) + bytes(range(8)) + tables.field(3, b"text")
    found = protobuf.fields(raw, "t")
    assert found[:2] == [(1 << 3 | 5, 0x04030201), (2 << 3 | 1, 0x0706050403020100)]
    assert protobuf.number(found, 3, default=-7) == -7
    assert protobuf.strings(found, 1) == []


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x0a\x05ab", "a field of 5 bytes goes beyond the end of its message"),
        (b"\x0d\0\0", "a field of 4 bytes goes beyond the end"),
        (b"\x0b", "it holds a field of unknown wire type 3"),
        (b"\x08", "a number ends too early or is too long"),
        (b"\x08" + b"\xff" * 11, "a number ends too early or is too long"),
        (b"\x80", "a number ends too early or is too long"),
        (b"\x0a" + b"\xff" * 9 + b"\1", "goes beyond the end of its message"),
    ],
)
def test_messages_that_cannot_be_are_refused(raw, message):
    with pytest.raises(WeightsError, match=f"t is corrupt: .*{message}"):
        protobuf.fields(raw, "t")
    with pytest.raises(WeightsError, match=r"t is corrupt: b'\\xff' is not UTF-8"):
        protobuf.text(b"\xff", "t")


def test_messages_of_too_many_fields_are_refused():
    raw = tables.field(1, 0) * (protobuf.MAX_FIELDS + 1)
    with pytest.raises(WeightsError, match="t is corrupt: it holds a message of more than 20,000 fields"):
        protobuf.fields(raw, "t")
    assert sum(1 for _ in protobuf.scan(raw, "t")) == protobuf.MAX_FIELDS + 1
