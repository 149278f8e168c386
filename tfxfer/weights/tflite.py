"""Models of TensorFlow Lite: the constants of their graphs.

A model is a FlatBuffer with tables for its subgraphs, tensors and buffers. A tensor is a constant if its buffer holds
bytes, as it is for the interpreter. Constants of the first subgraph have the names of the file; those of the others,
which are the bodies of loops or further signatures, have the name of their subgraph before them: `while_body/kernel`.
Where a name is empty or comes twice, the number of the tensor follows it: `kernel#17`.

Values are given as they are stored: the kernels of a quantized model are int8 or uint8, its biases int32. Beside such a
constant lie, as the file has them, `NAME_scale` (float32 [n]) and `NAME_zero_point` (int64 [n]), where n is 1, or the
number of channels; then `NAME_quantized_dimension` (int32) is the dimension of the channels. The values that they stand
for, `scale * (value - zero_point)`, come from `open_weights(path, dequantize=True)`. Constants of float16 are float16.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, versions 3 to 3c; what is a constant, and how many bytes and
scales it must have: tensorflow/lite/core/interpreter_builder.cc.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import flatbuffers, reading
from tfxfer.formats.flatbuffers import Table, Vector
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable
from tfxfer.weights import quantization, streams

MAGIC = b"TFL3"  # from the 5th byte on
MAX_TENSORS = 50_000
MAX_CONSTANTS = 10_000  # of these
MAX_NAMES = 4 << 20  # bytes of all their names

_NOWHERE = Vector(0, 0)

# TensorType of the schema; none where no array can be made of it.
_TYPES: tuple[tuple[str, type | None], ...] = (
    ("float32", np.float32),
    ("float16", np.float16),
    ("int32", np.int32),
    ("uint8", np.uint8),
    ("int64", np.int64),
    ("string", None),
    ("bool", np.bool_),
    ("int16", np.int16),
    ("complex64", np.complex64),
    ("int8", np.int8),
    ("float64", np.float64),
    ("complex128", np.complex128),
    ("uint64", np.uint64),
    ("resource", None),
    ("variant", None),
    ("uint32", np.uint32),
    ("uint16", np.uint16),
    ("int4, two values in a byte", None),
    ("bfloat16", ml_dtypes.bfloat16),
    ("int2, four values in a byte", None),
    ("uint4, two values in a byte", None),
)


class _Constant(NamedTuple):
    """A constant of a subgraph.

    Attributes:
      number: which of the tensors of its subgraph.
      name: what the file calls it.
      shape: its shape.
      kind: its dtype in words.
      dtype: its dtype for numpy; None where there is none.
      values: where its bytes lie.
      sparse: whether the bytes are those of a sparse tensor.
      scales: where its scales lie, float32.
      zero_points: where its zero points lie, int64.
      dimension: which dimension the scales are for.
    """

    number: int
    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: np.dtype | None
    values: Vector
    sparse: bool
    scales: Vector
    zero_points: Vector
    dimension: int


def begins(head: bytes) -> bool:
    """Say whether the first bytes of a file are those of a model."""
    return head[4:8] == MAGIC


def read(path: Path) -> dict[str, Tensor]:
    """List the constants of a model; see the module's docstring for their names.

    Returns:
      Tensors in the order of the file. Strings, what numpy has no dtype for, and sparse tensors are listed with the
      reason and refuse to be read.

    Raises:
      WeightsError: the file is cut short or corrupt, or the size of a constant is not that of its bytes; all such are
        named.
    """
    data, where = reading.map_file(path), str(path)
    constants = list(_constants(flatbuffers.root(data.data, where), len(data), where))
    faults = [f"{constant.name}: {fault}" for constant in constants if (fault := _fault(constant))]
    if faults:
        raise WeightsError(f"{where} is corrupt or cut short:\n  {shown(faults)}\ncopy it again")
    tensors: dict[str, Tensor] = {}
    for constant in constants:
        for name, tensor in _tensors(constant, data, where):
            if name in tensors:
                raise WeightsError(f"{where}: two constants would both be called {name}")
            tensors[name] = tensor
    return tensors


# --- which there are ---


def _constants(model: Table, size: int, where: str) -> Iterator[_Constant]:
    subgraphs, buffers = model.tables(2), model.tables(4)
    left, room = MAX_CONSTANTS, MAX_NAMES
    if sum(subgraph.vector(0, 4).count for subgraph in subgraphs) > MAX_TENSORS:
        raise WeightsError(f"{where} is refused: it has more than {MAX_TENSORS:,} tensors")
    for number, subgraph in enumerate(subgraphs):
        scope = f"{subgraph.text(4) or f'subgraph_{number}'}/" if number else ""
        constants = []
        for constant in _of_subgraph(subgraph, buffers, size):
            constants.append(constant)
            left, room = left - 1, room - len(scope) - len(constant.name)
            if left < 0 or room < 0:
                limits = f"{MAX_CONSTANTS:,} constants, or more than {MAX_NAMES:,} bytes of names"
                raise WeightsError(f"{where} is refused: it has more than {limits}")
        yield from _named(scope, constants)


def _named(scope: str, constants: list[_Constant]) -> Iterator[_Constant]:
    count = Counter(constant.name for constant in constants)
    for constant in constants:
        alone = constant.name and count[constant.name] == 1
        yield constant._replace(name=scope + (constant.name if alone else f"{constant.name}#{constant.number}"))


def _of_subgraph(subgraph: Table, buffers: Sequence[Table], size: int) -> Iterator[_Constant]:
    for number, table in enumerate(subgraph.tables(0)):
        buffer = table.number(2, "I")
        if buffer >= max(1, len(buffers)):
            raise WeightsError(f"{table.where} is corrupt: tensor {number} lies in buffer {buffer} of {len(buffers)}")
        values = _values(buffers[buffer], size) if buffer else _NOWHERE
        if values.count:
            yield _constant(number, table, values)


def _values(buffer: Table, size: int) -> Vector:
    """Return where the bytes of a buffer lie: in it, or in a file beyond 2 GB behind the FlatBuffer."""
    start, count = buffer.number(1, "Q"), buffer.number(2, "Q")
    if start <= 1:  # 1 is what a writer puts there before it knows the place
        return buffer.vector(0, 1)
    if start + count > size:
        raise WeightsError(
            f"{buffer.where} is cut short: a buffer of {count:,} bytes at {start:,} goes beyond the end of the file "
            f"({size:,} bytes)"
        )
    return Vector(start, count)


def _constant(number: int, table: Table, values: Vector) -> _Constant:
    code, scaled = table.number(1, "b"), table.table(4)
    kind, dtype = _TYPES[code] if 0 <= code < len(_TYPES) else (f"of the unknown type {code}", None)
    return _Constant(
        number,
        table.text(3),
        tuple(table.numbers(0, "<i4")),
        kind,
        None if dtype is None else np.dtype(dtype),
        values,
        sparse=6 in table,
        scales=scaled.vector(2, 4) if scaled else _NOWHERE,
        zero_points=scaled.vector(3, 8) if scaled else _NOWHERE,
        dimension=scaled.number(6, "i") if scaled else 0,
    )


# --- what they are ---


def _fault(constant: _Constant) -> str:
    """Say what contradicts itself in a constant; the empty string where nothing does."""
    shape, dtype, count = constant.shape, constant.dtype, constant.values.count
    if fault := shape_fault(shape):
        return fault
    if dtype is not None and not constant.sparse and math.prod(shape) * dtype.itemsize != count:
        needed = math.prod(shape) * dtype.itemsize
        return f"{constant.kind} {shape} takes {needed:,} bytes, its buffer holds {count:,}"
    return _quantization_fault(constant)


def _quantization_fault(constant: _Constant) -> str:
    shape, scales, dimension = constant.shape, constant.scales.count, constant.dimension
    if scales and constant.zero_points.count != scales:
        return f"it has {scales:,} scales and {constant.zero_points.count:,} zero points"
    if scales > 1 and (not 0 <= dimension < len(shape) or shape[dimension] != scales):
        return f"it has {scales:,} scales for dimension {dimension} of {shape}"
    return ""


def _tensors(constant: _Constant, data: np.ndarray, where: str) -> Iterator[tuple[str, Tensor]]:
    """Yield a constant, and what its quantization is, by their names."""
    name, shape, dtype, scales = constant.name, constant.shape, constant.dtype, constant.scales
    if dtype is None or constant.sparse:
        kind = constant.kind if dtype is None else "sparse"
        yield name, unreadable(f"{where}: {name}: it is {kind}, which is not read", shape)
        return
    yield name, reading.tensor(data, constant.values.start, dtype, shape, f"{where}: {name}")
    if not scales.count:
        return
    for suffix, vector, form in (
        (quantization.SCALE, scales, np.dtype(np.float32)),
        (quantization.ZERO_POINT, constant.zero_points, np.dtype(np.int64)),
    ):
        yield name + suffix, reading.tensor(data, vector.start, form, (scales.count,), f"{where}: {name}{suffix}")
    if scales.count > 1:
        yield name + quantization.DIMENSION, streams.held(np.array(constant.dimension, np.int32))
