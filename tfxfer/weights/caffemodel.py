"""Caffe's `.caffemodel` files, which hold the blobs of each layer, and `.binaryproto` files, which hold one blob.

Source: github.com/BVLC/caffe, src/caffe/proto/caffe.proto for the fields (before 2014 a layer was a V0LayerParameter
within another, then a V1LayerParameter), src/caffe/blob.cpp, Blob::FromProto, for shape and values. The fields of raw
data are those of github.com/NVIDIA/caffe.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import messages, protobuf, reading
from tfxfer.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, tag
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable

MAX_BLOBS = 20_000
BLOB = "blob"  # what the one array of a .binaryproto file is called, which has no name

_LAYER, _V1_LAYER = tag(100, BYTES), tag(2, BYTES)
# name, layers, input, input_dim, force_backward, state, debug_info, input_shape, layer; from 9 on, what the Caffe of
# NVIDIA and of Intel adds, such as default_forward_type and engine.
_NET_FIELDS = {tag(number, BYTES) for number in (1, 2, 3, 6, 8, 100)} | {tag(number) for number in (4, 5, 7)}
_MORE_NET_FIELDS = range(9, 100)
_BLOB_FIELDS = {tag(number) for number in (1, 2, 3, 4, 10, 11)} | {
    tag(number, BYTES) for number in (5, 6, 7, 8, 9, 12, 13)
}
_VALUES = {tag(number, BYTES) for number in (5, 8, 12)}
_RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2", 3: "<i4", 4: "<u4"}


def begins(data: protobuf.Bytes) -> bool:
    """Say whether a file, cut short or not, is a NetParameter in its binary form."""
    net = messages.outline(data)
    known = all(key in _NET_FIELDS or key >> 3 in _MORE_NET_FIELDS for key in net)
    if not net or not known or not _is_text(net.get(tag(1, BYTES), b"")):
        return False
    layer, old = (messages.outline(net.get(key, b"")) for key in (_LAYER, _V1_LAYER))
    # A NetDef of Caffe2 and a MetaGraphDef have messages in the same fields, but not these in them.
    inner = messages.outline(old.get(tag(1, BYTES), b"")) if tag(5) not in old else old
    named = layer.get(tag(2, BYTES)) or (
        inner.get(tag(4, BYTES)) if inner is old else tag(4, BYTES) not in old and inner.get(tag(2, BYTES))
    )
    return bool(named) and _is_text(named)


def begins_blob(data: protobuf.Bytes) -> bool:
    """Say whether a file, cut short or not, is a bare BlobProto: the mean of the pictures of a data set."""
    blob = messages.outline(data)
    legacy = [tag(number) in blob for number in (1, 2, 3, 4)]
    # A tensor of ONNX has messages in the same fields, but dimensions in the first, and numbers for the shape.
    shape = messages.outline(blob.get(tag(7, BYTES), b"")).keys() <= {tag(1), tag(1, BYTES)}
    shaped = all(legacy) or (not any(legacy) and tag(7, BYTES) in blob and shape)
    return blob.keys() <= _BLOB_FIELDS and shaped and not blob.keys().isdisjoint(_VALUES)


def read(path: Path) -> dict[str, Tensor]:
    """List the blobs of a network.

    Returns:
      Tensors by the name of the layer and the number of the blob: `conv1/0` is the kernel, `conv1/1` the bias. A second
      layer of one name is called `conv1#2`, one without a name by its place: `layer3`. Shapes are those in the file:
      the older form has four dimensions always, so that a bias is (1, 1, 1, out). Gradients (`diff`) are left out.

    Raises:
      WeightsError: the file is cut short or corrupt, or values are not as many as their shape takes; every blob
        concerned is named.
    """
    data, walk = reading.map_file(path), messages.Walk(str(path))
    tensors: dict[str, Tensor] = {}
    faults: list[str] = []
    for name, blob in _blobs(data, walk):
        if len(tensors) == MAX_BLOBS:
            raise WeightsError(f"{path} is refused: it holds more than {MAX_BLOBS:,} blobs")
        tensors[name] = _tensor(data, walk.listed(blob), walk, name, faults)
    if faults:
        raise WeightsError(f"{path} is corrupt:\n  {shown(faults)}\ncopy it again")
    return tensors


def read_blob(path: Path) -> dict[str, Tensor]:
    """List the one blob of a `.binaryproto` file, under the name `blob`.

    Raises:
      WeightsError: the file is cut short or corrupt.
    """
    data, walk = reading.map_file(path), messages.Walk(str(path))
    faults: list[str] = []
    tensor = _tensor(data, walk.listed(data.data), walk, BLOB, faults)
    if faults:
        raise WeightsError(f"{path} is corrupt:\n  {faults[0]}\ncopy it again")
    return {BLOB: tensor}


def _is_text(value: Any) -> bool:
    text = bytes(value[:128])
    return all(byte >= 32 for byte in text)


def _blobs(data: np.ndarray, walk: messages.Walk) -> Iterator[tuple[str, memoryview]]:
    """Yield the blobs of all layers, each with its name."""
    count: dict[str, int] = {}
    place = 0
    for key, layer in walk.fields(data.data):
        if key not in (_LAYER, _V1_LAYER):
            continue
        name, blobs = (_layer if key == _LAYER else _old_layer)(walk.listed(layer), walk)
        name = name or f"layer{place}"
        place += 1
        if blobs:
            count[name] = count.get(name, 0) + 1
            unique = f"{name}#{count[name]}" if count[name] > 1 else name
            yield from ((f"{unique}/{index}", blob) for index, blob in enumerate(blobs))


def _layer(layer: list[Field], walk: messages.Walk) -> tuple[str, list[Any]]:
    return _text(layer, 1, walk), protobuf.strings(layer, 7)


def _old_layer(layer: list[Field], walk: messages.Walk) -> tuple[str, list[Any]]:
    """Return name and blobs of a V1LayerParameter, or of the V0LayerParameter in it."""
    inner = protobuf.strings(layer, 1)
    if not inner:
        return _text(layer, 4, walk), protobuf.strings(layer, 6)
    oldest = walk.listed(inner[-1])
    return _text(oldest, 1, walk), protobuf.strings(oldest, 50)


def _text(message: list[Field], field: int, walk: messages.Walk) -> str:
    texts = protobuf.strings(message, field)
    return protobuf.text(texts[-1], walk.where) if texts else ""


def _tensor(data: np.ndarray, blob: list[Field], walk: messages.Walk, name: str, faults: list[str]) -> Tensor:
    """Describe a blob; what is wrong with it is added to the faults."""
    where = f"{walk.where}: {name}"
    shape = _shape(blob, walk, where)
    dtype, width, numbers = _values(blob)
    fault = shape_fault(shape)
    if dtype is None:
        return unreadable(f"{where} is of the unknown type {protobuf.number(blob, 10)} of raw data", shape)
    if not fault and not numbers and 0 not in shape:
        return unreadable(f"{where} holds no values", shape)
    if fault := fault or messages.take(messages.size(numbers, width), shape, dtype):
        faults.append(f"{name}: {fault}")
        return unreadable(f"{where}: {fault}")
    return messages.plain(data, numbers, dtype, shape, where, width=width)


def _shape(blob: list[Field], walk: messages.Walk, where: str) -> tuple[int, ...]:
    if any(key in [tag(number) for number in (1, 2, 3, 4)] for key, _ in blob):  # the older form, which Caffe prefers
        return tuple(protobuf.number(blob, number) for number in (1, 2, 3, 4))
    shapes = protobuf.strings(blob, 7)
    dims = [value for shape in shapes for value in messages.numbers(walk.fields(shape), 1, VARINT)]
    return messages.integers(dims, where)


def _values(blob: list[Field]) -> tuple[np.dtype | None, int, messages.Numbers]:
    """Return the dtype of the values, the bytes of each, and the values."""
    raw = protobuf.strings(blob, 12)[-1:]
    if raw and len(raw[0]):
        kind = _RAW_TYPES.get(protobuf.number(blob, 10))
        return (np.dtype(kind), np.dtype(kind).itemsize, raw) if kind else (None, 1, raw)
    doubles = messages.numbers(blob, 8, FIXED64)
    if doubles:
        return np.dtype("<f8"), 8, doubles
    return np.dtype("<f4"), 4, messages.numbers(blob, 5, FIXED32)
