"""TensorFlow's data types and shapes, against TensorFlow itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.errors import WeightsError
from tfxfer.formats.tensors import MAX_DIMENSIONS, shape_fault
from tfxfer.weights import tf_types


def test_dtypes_are_those_of_tensorflow():
    for number, dtype in tf_types.DTYPES.items():
        theirs = tf.as_dtype(number)
        if number not in tf_types.QUANTIZED:
            assert np.dtype(theirs.as_numpy_dtype) == dtype
        assert theirs.is_quantized == (number in tf_types.QUANTIZED)
    assert tf_types.DTYPES[tf_types.STRING].hasobject


def test_what_is_not_read_is_told_in_words():
    assert tf_types.unread(tf.resource.as_datatype_enum) == "it is a handle of a resource, which is not a weight"
    assert "it is the state of an object" in tf_types.unread(tf.variant.as_datatype_enum)
    assert tf_types.unread(99) == "its dtype has number 99 in TensorFlow, which tfxfer does not read"


@pytest.mark.parametrize("shape", [(), (0,), (3, 1 << 40), (1,) * MAX_DIMENSIONS])
def test_shapes_are_those_of_tensorflow(shape):
    assert tf_types.parse_shape(tf.TensorShape(shape).as_proto().SerializeToString(), "x") == shape


def test_shapes_that_no_array_has_are_not_believed():
    unknown = tf_types.parse_shape(tf.TensorShape(None).as_proto().SerializeToString(), "x")
    many = tf_types.parse_shape(tf.TensorShape([1] * 200).as_proto().SerializeToString(), "x")
    assert shape_fault(unknown)
    assert len(many) == MAX_DIMENSIONS + 1
    with pytest.raises(WeightsError, match=r"^x"):
        tf_types.parse_shape(b"\x12\xff", "x")
