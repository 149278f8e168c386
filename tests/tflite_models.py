"""Models of TensorFlow Lite, right and wrong, made field by field with the FlatBuffers library."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np

# Of schema.fbs: TensorType, and the built-in op DEQUANTIZE.
FLOAT32, FLOAT16, INT32, UINT8, INT64, STRING, BOOL, INT16, INT8, INT4, BFLOAT16 = 0, 1, 2, 3, 4, 5, 6, 7, 9, 17, 18
DEQUANTIZE = 6


@dataclasses.dataclass
class Tensor:
    """A tensor; `data` are the bytes of its buffer, or the number of a buffer, 0 for none."""

    name: str | None
    type: int
    shape: Sequence[int]
    data: bytes | int = 0
    scale: Sequence[float] = ()
    zero_point: Sequence[int] = ()
    dimension: int = 0
    sparse: bool = False


@dataclasses.dataclass
class Outside:
    """A buffer whose bytes lie behind the FlatBuffer."""

    offset: int
    size: int


def model(
    *subgraphs: Sequence[Tensor],
    buffers: Sequence[bytes | Outside] = (),
    names: Sequence[str] = ("main", "body"),
    dequantize: bool = False,
) -> bytes:
    """Write a model.

    Args:
      *subgraphs: the tensors of each.
      buffers: the buffers from the second on; those of tensors with bytes of their own follow.
      names: of the subgraphs.
      dequantize: let the first subgraph have one op, which dequantizes its first tensor to its second.
    """
    builder, every = flatbuffers.Builder(1024), [b"", *buffers]
    graphs = []
    for number, tensors in enumerate(subgraphs):
        once = {id(tensor): _tensor(builder, tensor, every) for tensor in {id(t): t for t in tensors}.values()}
        places = [once[id(tensor)] for tensor in tensors]
        operators = [_operator(builder)] if dequantize and not number else []
        graphs.append(_subgraph(builder, places, operators, names[number]))
    codes = _offsets(
        builder, [_table(builder, 4, [(0, "Int8", DEQUANTIZE), (3, "Int32", DEQUANTIZE), (2, "Int32", 2)])]
    )
    outside = [_buffer(builder, data) for data in every]
    fields = [(0, "Uint32", 3), (1, "UOffsetTRelative", codes), (2, "UOffsetTRelative", _offsets(builder, graphs))]
    root = _table(builder, 5, [*fields, (4, "UOffsetTRelative", _offsets(builder, outside))])
    builder.Finish(root, file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(builder: Any, tensor: Tensor, buffers: list[bytes | Outside]) -> int:
    number = tensor.data
    if isinstance(number, bytes):
        buffers.append(number)
        number = len(buffers) - 1
    fields = [(0, "UOffsetTRelative", builder.CreateNumpyVector(np.array(tensor.shape, "<i4"))),
              (1, "Int8", tensor.type), (2, "Uint32", number)]  # fmt: skip
    if tensor.name is not None:
        fields.append((3, "UOffsetTRelative", builder.CreateString(tensor.name)))
    if len(tensor.scale):
        scale = builder.CreateNumpyVector(np.array(tensor.scale, "<f4"))
        zero = builder.CreateNumpyVector(np.array(tensor.zero_point, "<i8"))
        quantization = [(2, "UOffsetTRelative", scale), (3, "UOffsetTRelative", zero), (6, "Int32", tensor.dimension)]
        fields.append((4, "UOffsetTRelative", _table(builder, 7, quantization)))
    if tensor.sparse:
        fields.append((6, "UOffsetTRelative", _table(builder, 3, [])))
    return _table(builder, 10, fields)


def _operator(builder: Any) -> int:
    ends = [builder.CreateNumpyVector(np.array([number], "<i4")) for number in (0, 1)]
    return _table(builder, 3, [(1, "UOffsetTRelative", ends[0]), (2, "UOffsetTRelative", ends[1])])


def _subgraph(builder: Any, tensors: list[int], operators: list[int], name: str) -> int:
    outputs = builder.CreateNumpyVector(np.array([1] if operators else [], "<i4"))
    fields = [(0, "UOffsetTRelative", _offsets(builder, tensors)), (4, "UOffsetTRelative", builder.CreateString(name)),
              (1, "UOffsetTRelative", builder.CreateNumpyVector(np.array([], "<i4"))),
              (2, "UOffsetTRelative", outputs), (3, "UOffsetTRelative", _offsets(builder, operators))]  # fmt: skip
    return _table(builder, 5, fields)


def _buffer(builder: Any, data: bytes | Outside) -> int:
    if isinstance(data, Outside):
        return _table(builder, 3, [(1, "Uint64", data.offset), (2, "Uint64", data.size)])
    if not data:
        return _table(builder, 3, [])
    builder.StartVector(1, len(data), 16)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return _table(builder, 3, [(0, "UOffsetTRelative", builder.EndVector())])


def _table(builder: Any, size: int, fields: Sequence[tuple[int, str, int]]) -> int:
    builder.StartObject(size)
    for number, kind, value in fields:
        add: Callable[..., None] = getattr(builder, f"Prepend{kind}Slot")
        add(number, value, 0)
    return builder.EndObject()


def _offsets(builder: Any, places: list[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()
