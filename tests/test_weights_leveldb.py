"""Tables, snappy blocks, and the wire format of protocol buffers under the checkpoints."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import tables
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.errors import WeightsError
from tfxfer.weights import leveldb, protobuf, slices

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
        (b"short", "t is no index of a checkpoint, or is cut short"),
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
    with pytest.raises(WeightsError, match=r"t is corrupt: b'\\xff' is no UTF-8"):
        protobuf.text(b"\xff", "t")


def ordered(value: int) -> bytes:
    return slices.key(b"", ((value, 0),))


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1))
def test_keys_of_slices_sort_as_their_numbers_do(a, b):
    assert (ordered(a) < ordered(b)) == (a < b)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=4),
    st.data(),
)
def test_slices_tile_an_array_if_and_only_if_each_element_is_covered_once(sizes, cuts, data):
    shape = tuple(sizes)
    parts = [tuple((0, size) for size in shape)]
    for axis, at in cuts:
        pick = data.draw(st.integers(0, len(parts) - 1))
        part, axis = parts[pick], axis % len(shape)
        start, length = part[axis]
        cut = min(at, length)
        halves = [(*part[:axis], piece, *part[axis + 1 :]) for piece in ((start, cut), (start + cut, length - cut))]
        parts[pick : pick + 1] = halves
    for extra in (False, True):
        if extra:
            pick = data.draw(st.integers(0, len(parts) - 1))
            parts[pick] = parts[data.draw(st.integers(0, len(parts) - 1))]
        count = np.zeros(shape, int)
        for part in parts:
            count[slices.index(part)] += 1
        assert slices.tile(parts, shape) == bool((count == 1).all())


def test_slices_of_scalars_and_of_empty_arrays_tile():
    assert slices.tile([()], ())
    assert not slices.tile([(), ()], ())
    assert slices.tile([((0, 0),)], (0,))
    assert slices.tile([], (0, 5))
