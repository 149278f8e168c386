"""What large messages hold, against protobuf's own library."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import protos
from tfxfer.errors import WeightsError
from tfxfer.formats import messages, reading
from tfxfer.formats.protobuf import BYTES, FIXED32, VARINT, tag

TEXT = "M: name 1 string, kind 2 int32, floats 4 float**, ints 5 int32**, longs 7 int64**, big 11 uint64**, inner 20 M*"
packed = protos.classes("messages_packed", TEXT)["M"]
loose = protos.classes("messages_loose", TEXT.replace("**", "*"))["M"]


def read(tmp_path, data: bytes, field: int, dtype, shape=None, *, wire: int = VARINT) -> np.ndarray:
    (tmp_path / "m").write_bytes(data)
    mapped = reading.map_file(tmp_path / "m")
    walk = messages.Walk("m")
    numbers = messages.numbers(walk.fields(mapped.data), field, wire)
    dtype = np.dtype(dtype)
    if wire == FIXED32:
        shape = (messages.size(numbers, 4) // dtype.itemsize,) if shape is None else shape
        return messages.plain(mapped, numbers, dtype, shape, "m: w", width=4).read()
    return messages.varints(mapped, numbers, dtype, shape, "m: w").read()


def test_an_outline_has_the_first_value_of_each_field_and_that_which_is_cut():
    data = packed(name="net", kind=3, inner=[packed(name="a"), packed(name="b")]).SerializeToString()
    assert messages.outline(data) == {tag(1, BYTES): b"net", tag(2): 3, tag(20, BYTES): b"\x0a\x01a"}
    assert messages.outline(data[:-1]) == messages.outline(data)
    assert messages.outline(data[:3]) == {tag(1, BYTES): b"n"}
    assert messages.outline(data, 1) == {tag(1, BYTES): b"net"}
    assert messages.outline(b"") == messages.outline(b"\x0b") == messages.outline(b"\xff" * 20) == {}


def test_a_walk_ends_where_there_are_too_many_fields(monkeypatch):
    data = packed(inner=[packed(kind=1)] * 10).SerializeToString()
    monkeypatch.setattr(messages, "MAX_FIELDS", 15)
    monkeypatch.setattr(messages, "MAX_LISTED", 10)
    walk = messages.Walk("m")
    assert len(walk.listed(data)) == 10
    with pytest.raises(WeightsError, match="m is refused: its messages hold more than 15 fields"):
        list(walk.fields(data))
    monkeypatch.setattr(messages, "MAX_LISTED", 9)
    with pytest.raises(WeightsError, match="a message of it holds more than 9 fields"):
        messages.Walk("m").listed(data)


@pytest.mark.parametrize("kind", [packed, loose])
def test_floats_packed_and_not_are_the_same(tmp_path, kind):
    values = np.random.default_rng(0).normal(size=12).astype("f4")
    data = kind(floats=values.tolist(), name="x").SerializeToString()
    assert read(tmp_path, data, 4, "<f4", wire=FIXED32).tobytes() == values.tobytes()
    assert read(tmp_path, data, 4, "<c8", (2, 3), wire=FIXED32).tobytes() == values.tobytes()


def test_packed_and_single_numbers_may_be_mixed(tmp_path):
    data = b"".join(
        kind(floats=[value, value + 1], ints=[value, -value]).SerializeToString()
        for value, kind in enumerate((packed, loose, packed, packed, loose, loose))
    )
    expected = packed.FromString(data)
    assert read(tmp_path, data, 4, "<f4", wire=FIXED32).tolist() == list(expected.floats)
    assert read(tmp_path, data, 5, "i4", (12,)).tolist() == list(expected.ints)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=30), st.sampled_from([packed, loose]))
def test_any_varints_are_read(tmp_path_factory, values, kind):
    tmp_path = tmp_path_factory.mktemp("given")
    unsigned = [value % (1 << 64) for value in values]
    data = kind(longs=values, big=unsigned).SerializeToString()
    assert read(tmp_path, data, 7, "i8", (len(values),)).tolist() == values
    assert read(tmp_path, data, 11, "u8", (len(values),)).tolist() == unsigned


def test_varints_are_read_piece_by_piece(tmp_path):
    values = np.random.default_rng(0).integers(-(1 << 62), 1 << 62, 200_000) >> np.arange(200_000) % 60
    array = read(tmp_path, packed(longs=values.tolist()).SerializeToString(), 7, "i8", (400, 500))
    assert np.array_equal(array.reshape(-1), values)
    assert not array.flags.writeable


def test_small_dtypes_lie_in_the_low_bits_of_varints(tmp_path):
    data = packed(ints=[1, 0, 2]).SerializeToString()
    assert read(tmp_path, data, 5, bool, (3,)).tolist() == [True, False, True]
    bits = np.array([1.5, -2]).astype(ml_dtypes.bfloat16)
    data = packed(ints=bits.view("u2").tolist()).SerializeToString()
    assert read(tmp_path, data, 5, ml_dtypes.bfloat16, (2,)).tobytes() == bits.tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x2a\x03\x01\x02\x83", "a number in it ends too early"),
        (b"\x2a\x0d\x01" + b"\xff" * 11 + b"\0", "a number in it is too long"),
        (b"\x2a\x02\x01\x02", r"does not hold the 3 numbers of int8 \(3,\)"),
        (b"\x2a\x04\x01\x02\x03\x04", r"does not hold the 3 numbers of int8 \(3,\)"),
        (b"\x2a\x04\x01\x02\x80\x01", "2|128 does not fit into int8"),
    ],
)
def test_varints_that_are_not_what_the_array_takes_are_refused(tmp_path, data, message):
    with pytest.raises(WeightsError, match=f"m: w is corrupt: .*({message})"):
        read(tmp_path, data, 5, "i1", (3,))


def test_a_few_integers_are_signed_and_bounded():
    assert messages.integers([memoryview(b"\x03\x04"), 5, (1 << 64) - 1], "m") == (3, 4, 5, -1)
    for numbers in ([memoryview(bytes(65))], [0] * 65, [memoryview(bytes(1 << 20))]):
        with pytest.raises(WeightsError, match="m: a shape of more than 64 dimensions"):
            messages.integers(numbers, "m")


def test_what_an_array_takes_is_told():
    assert messages.take(12, (3,), np.dtype("f4")) == ""
    assert messages.take(11, (3,), np.dtype("f4")) == "float32 (3,) takes 12 bytes, the file holds 11"
