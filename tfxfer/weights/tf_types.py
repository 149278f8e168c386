"""TensorFlow's data types and shapes, as numpy has them."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tfxfer.formats.protobuf import Bytes, fields, number, strings
from tfxfer.formats.tensors import MAX_DIMENSIONS

STRING = 7
QUANTIZED = frozenset({11, 12, 13, 15, 16})
# tensorflow/core/framework/types.proto. Quantized types are integers with a scale that checkpoints do not hold.
DTYPES = {
    enum: np.dtype(kind)
    for enum, kind in {
        1: np.float32,
        2: np.float64,
        3: np.int32,
        4: np.uint8,
        5: np.int16,
        6: np.int8,
        STRING: np.object_,
        8: np.complex64,
        9: np.int64,
        10: np.bool_,
        11: np.int8,  # DT_QINT8
        12: np.uint8,  # DT_QUINT8
        13: np.int32,  # DT_QINT32
        14: ml_dtypes.bfloat16,
        15: np.int16,  # DT_QINT16
        16: np.uint16,  # DT_QUINT16
        17: np.uint16,
        18: np.complex128,
        19: np.float16,
        22: np.uint32,
        23: np.uint64,
        24: ml_dtypes.float8_e5m2,
        25: ml_dtypes.float8_e4m3fn,
        26: ml_dtypes.float8_e4m3fnuz,
        27: ml_dtypes.float8_e4m3b11fnuz,
        28: ml_dtypes.float8_e5m2fnuz,
        29: ml_dtypes.int4,
        30: ml_dtypes.uint4,
    }.items()
}


STATES = {20: "a handle of a resource", 21: "the state of an object (as of an iterator over data)"}


def unread(enum: int) -> str:
    """Say in words why a value is not read whose dtype is not in `DTYPES`."""
    if enum in STATES:
        return f"it is {STATES[enum]}, which is not a weight"
    return f"its dtype has number {enum} in TensorFlow, which tfxfer does not read"


def parse_shape(message: Bytes, where: str) -> tuple[int, ...]:
    """Read a TensorShapeProto. One of unknown rank gives (-1,), which `shape_fault` refuses.

    Raises:
      WeightsError: the bytes are not a message.
    """
    shape = fields(message, where)
    if number(shape, 3):
        return (-1,)
    # Dimensions beyond those that numpy can hold are not needed to refuse the shape.
    return tuple(number(fields(size, where), 1) for size in strings(shape, 2)[: MAX_DIMENSIONS + 1])
