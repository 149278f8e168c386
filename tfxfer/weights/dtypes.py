"""TensorFlow's data types by number, as numpy has them."""

from __future__ import annotations

import ml_dtypes
import numpy as np

# tensorflow/core/framework/types.proto. Quantized types are integers with a scale that checkpoints do not hold.
_NUMBERS = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    7: np.object_,  # DT_STRING
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
}
STRING = 7
DTYPES = {number: np.dtype(kind) for number, kind in _NUMBERS.items()}
