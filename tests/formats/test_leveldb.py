"""Tables and snappy blocks."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tables
from tfxfer.errors import WeightsError
from tfxfer.formats import leveldb

KEYS = st.lists(st.binary(max_size=6), min_size=1, max_size=20, unique=True).map(sorted)


def table(raw: bytes) -> leveldb.Table:
    return leveldb.Table(np.frombuffer(raw, np.uint8), "t")


def prefixed(keys: list[bytes]) -> bytes:
    """Encode a block whose keys share what they have in common with the one before."""
    body, before = b"", b""
    for key in keys:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        rest = key[shared:]
        body += tables.varint(shared) + tables.varint(len(rest)) + tables.varint(1) + rest + b"v"
        before = key
    return body + bytes(4) + (1).to_bytes(4, "little")


@given(KEYS)
def test_tables_return_what_was_written(keys):
    for content in (tables.block([(key, b"v") for key in keys]), prefixed(keys)):
        found = table(tables.table(content, last_keys=(keys[-1],)))
        assert [(key, bytes(value)) for key, value in found.items()] == [(key, b"v") for key in keys]
        assert all(bytes(found.get(key)) == b"v" for key in keys)
        assert found.get(keys[-1] + b"x") is None


def test_tables_of_several_blocks_are_searched_by_key():
    keys = [b"%03d" % i for i in range(100)]
    blocks = [tables.block([(key, key * 2) for key in keys[i : i + 10]]) for i in range(0, 100, 10)]
    found = table(tables.table(*blocks, last_keys=tuple(keys[9::10])))
    assert [key for key, _ in found.items()] == keys
    assert bytes(found.get(b"037")) == b"037037"
    assert found.get(b"0375") is None


def literal(data: bytes) -> bytes:
    """Encode a literal of snappy."""
    size = len(data) - 1
    if size < 60:
        return bytes([size << 2]) + data
    width = (size.bit_length() + 7) // 8
    return bytes([59 + width << 2]) + size.to_bytes(width, "little") + data


@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=400),
            st.tuples(st.sampled_from([1, 2, 3]), st.integers(1, 2000), st.integers(1, 64)),
        ),
        max_size=20,
    )
)
def test_snappy_blocks_are_decompressed(parts):
    raw, expected = b"", bytearray()
    for part in parts:
        if isinstance(part, bytes):
            raw, expected = raw + literal(part), expected + part
            continue
        kind, offset, count = part
        if not expected:
            continue
        offset = 1 + offset % len(expected)
        if kind == 1:
            count = 4 + count % 8
            raw += bytes([1 | (count - 4) << 2 | offset >> 8 << 5, offset & 255])
        else:
            raw += bytes([kind | (count - 1) << 2]) + offset.to_bytes(2 if kind == 2 else 4, "little")
        for _ in range(count):
            expected.append(expected[-offset])
    whole = tables.varint(len(expected)) + raw
    if len(expected) <= 22 * len(whole):
        assert leveldb.unsnap(whole, "t") == bytes(expected)


def test_compressed_tables_are_read():
    content = tables.block([(b"a", b"x" * 300)])
    packed = tables.varint(len(content)) + literal(content)
    assert bytes(table(tables.table(packed, compression=1)).get(b"a")) == b"x" * 300
    with pytest.raises(WeightsError, match=r"t is compressed in a way \(4\) that tfxfer does not know"):
        table(tables.table(content, compression=4)).get(b"a")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (tables.varint(10_000) + b"\0a", "4 compressed bytes announce 10,000"),
        (tables.varint(2) + b"\0a", "does not give the 2 bytes that it announces"),
        (tables.varint(1) + literal(b"ab"), "does not give the 1 bytes that it announces"),
        (tables.varint(4) + literal(b"ab")[:-1], "does not give the 4 bytes"),
        (tables.varint(9) + literal(b"a") + b"\x1e\x05\x00", "refers to bytes before its start"),
        (tables.varint(9) + literal(b"a") + b"\x1e\x00\x00", "refers to bytes before its start"),
        (b"\xff\xff", "a number ends too early or is too long"),
    ],
)
def test_snappy_blocks_that_cannot_be_are_refused(raw, message):
    with pytest.raises(WeightsError, match=f"t is corrupt: .*{message}"):
        leveldb.unsnap(raw, "t")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"short", "t is not an index of a checkpoint, or is cut short"),
        (bytes(100), "its last 8 bytes are not LevelDB's"),
        (bytes([0, 0, 0, 200, 1]).ljust(40, b"\0") + tables.MAGIC, "a block goes beyond the end of the file"),
        (tables.table(tables.block([(b"b", b""), (b"a", b"")])), "its keys are not in order"),
        (
            tables.table(tables.block([(b"a", b"")]), tables.block([(b"a", b"")]), last_keys=(b"a", b"b")),
            "not in order",
        ),
        (tables.table(bytes([9, 0, 0]) + bytes(4) + b"\1\0\0\0"), "an entry goes beyond the end of its block"),
        (tables.table(bytes([0, 1, 9]) + b"a" + bytes(4) + b"\1\0\0\0"), "an entry goes beyond the end of its block"),
        (tables.table(b"\xff\xff\xff\xff"), "a block is shorter than its restart table"),
        (tables.table(b""), "a block is shorter than its restart table"),
    ],
)
def test_tables_that_cannot_be_are_refused(raw, message):
    with pytest.raises(WeightsError, match=message):
        list(table(raw).items())


def test_keys_that_repeat_each_other_without_end_are_refused():
    # Each entry takes 5 bytes and announces the 100,000 bytes of the key before it, and one more.
    body = tables.varint(0) + tables.varint(100_000) + b"\0" + bytes(100_000)
    body += (tables.varint(100_000) + b"\1\0\1") * 100_000
    raw = tables.table(body + bytes(4) + b"\1\0\0\0")
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"it holds more keys than any checkpoint|its keys are not in order"):
        list(table(raw).items())
    with pytest.raises(WeightsError, match="it holds more keys than any checkpoint"):
        table(raw).get(b"\xff")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert time.process_time() - start < 2
