"""TensorProtos, against `tf.make_ndarray`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto as Message

from tests import tables
from tfxfer.errors import WeightsError
from tfxfer.weights import tensor_proto
from tfxfer.weights.tensor_proto import TensorProto
from tfxfer.weights.tf_types import DTYPES

LISTS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
    tf.qint8: "int_val",
    tf.quint8: "int_val",
    tf.qint32: "int_val",
    tf.as_dtype("int4"): "int_val",
}


def vector(message: bytes, count: int) -> np.ndarray:
    proto = TensorProto.parse(message, "t")
    pieces = [np.frombuffer(piece, np.uint8) for piece in proto.encoded()]
    return tensor_proto.decoded(pieces, DTYPES[proto.dtype], count, "t", plain=proto.plain)


@pytest.mark.parametrize("dtype", LISTS, ids=lambda dtype: dtype.name)
def test_lists_of_numbers_are_read_as_tensorflow_reads_them(dtype):
    values = np.array([0, 1, 3, 2, 1, 7])
    message = Message(dtype=dtype.as_datatype_enum)
    message.tensor_shape.dim.add().size = 6 if not dtype.is_complex else 3
    if dtype in (tf.int8, tf.int16, tf.int32, tf.int64, tf.qint8, tf.qint32, tf.as_dtype("int4")):
        values = -values
    getattr(message, LISTS[dtype]).extend(bool(value) if dtype == tf.bool else value for value in values.tolist())
    expected = tf.make_ndarray(message)
    found = vector(message.SerializeToString(), expected.size)
    assert found.tobytes() == expected.tobytes()
    assert found.dtype.itemsize == expected.dtype.itemsize


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.int64, tf.quint8, tf.complex64], ids=lambda d: d.name)
def test_bytes_of_values_are_read_as_tensorflow_reads_them(dtype):
    message = Message(dtype=dtype.as_datatype_enum, tensor_content=bytes(range(dtype.size * 3)))
    message.tensor_shape.dim.add().size = 3
    proto = TensorProto.parse(message.SerializeToString(), "t")
    assert (proto.shape, proto.whole, proto.plain) == ((3,), True, True)
    assert vector(message.SerializeToString(), 3).tobytes() == tf.make_ndarray(message).tobytes()


def test_numbers_may_come_one_by_one_or_in_several_lists():
    head = tables.field(1, 1)
    one = lambda value: bytes([5 << 3 | 5]) + np.float32(value).tobytes()  # noqa: E731
    packed = tables.field(5, np.array([3, 4], "f4").tobytes())
    assert vector(head + one(1) + one(2) + packed + one(5), 5).tolist() == [1, 2, 3, 4, 5]
    numbers = tables.field(1, 3) + tables.field(7, 300) + tables.field(7, b"\x01\x02") + tables.field(7, 7)
    assert vector(numbers, 4).tolist() == [300, 1, 2, 7]
    assert Message.FromString(numbers).int_val == [300, 1, 2, 7]


def test_no_more_numbers_are_returned_than_tell_that_there_are_too_many():
    message = Message(dtype=tf.int32.as_datatype_enum, int_val=range(1000)).SerializeToString()
    assert vector(message, 5).tolist() == [0, 1, 2, 3, 4, 5]
    message = Message(dtype=tf.float32.as_datatype_enum, float_val=range(1000)).SerializeToString()
    assert vector(message, 5).tolist() == [0, 1, 2, 3, 4, 5]


def test_long_lists_of_numbers_of_different_lengths_are_read():
    values = np.random.default_rng(0).integers(-(1 << 31), 1 << 31, 200_000) >> np.arange(200_000) % 32
    message = Message(dtype=tf.int32.as_datatype_enum, int_val=values.tolist()).SerializeToString()
    assert np.array_equal(vector(message, len(values)), values)


@pytest.mark.parametrize(
    ("packed", "fault"), [(b"\x01\x02\x83", "ends too early"), (b"\x01" + b"\xff" * 11 + b"\0", "is too long")]
)
def test_a_number_that_does_not_end_is_damage(packed, fault):
    with pytest.raises(WeightsError, match=f"t is corrupt: a number in it {fault}"):
        vector(tables.field(1, 3) + tables.field(7, packed), 5)


def test_a_message_that_cannot_be_is_refused():
    with pytest.raises(WeightsError, match="t is corrupt: a field of 9 bytes goes beyond the end of its message"):
        TensorProto.parse(b"\x22\x09abc", "t")
    assert math.prod(TensorProto.parse(b"", "t").shape) == 1
