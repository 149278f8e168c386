"""Protocol buffers and tables that are written are those that the readers read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.formats import leveldb, protobuf
from tfxfer.weights.writers import wire


@given(st.integers(0, (1 << 64) - 1))
def test_a_number_is_read_as_it_was_written(value):
    encoded = wire.varint(value)
    assert protobuf.varint(memoryview(encoded), 0, "x") == (value, len(encoded))


def test_the_fields_of_a_message_are_read_as_they_were_written():
    tags = protobuf.tag(1), protobuf.tag(2, protobuf.BYTES), protobuf.tag(3, protobuf.FIXED32)
    message = b"".join(wire.field(tag, value) for tag, value in zip(tags, (300, b"text", 7), strict=True))
    fields = protobuf.fields(memoryview(message), "x")
    assert protobuf.number(fields, 1) == 300
    assert [bytes(text) for text in protobuf.strings(fields, 2)] == [b"text"]
    assert (tags[2], 7) in fields


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=200), max_size=60))
def test_a_table_gives_its_entries_back(entries):
    ordered = sorted(entries.items())
    table = leveldb.Table(np.frombuffer(wire.table(ordered), np.uint8), "x")
    assert [(key, bytes(value)) for key, value in table.items()] == ordered


@pytest.mark.parametrize("count", [0, 1, 16, 17, 5000])
def test_a_table_of_any_size_finds_each_key(count):
    entries = [(f"layer{number:06}/kernel".encode(), b"v" * (number % 50)) for number in range(count)]
    table = leveldb.Table(np.frombuffer(wire.table(entries), np.uint8), "x")
    assert all(bytes(table.get(key) or b"") == value for key, value in entries[:: max(1, count // 50)])
    assert table.get(b"nowhere") is None
