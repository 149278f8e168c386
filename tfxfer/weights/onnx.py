"""ONNX models: the initializers of a graph, and the tensors of its `Constant` nodes. The graph is not run.

Source: github.com/onnx/onnx, onnx/onnx.proto for the fields and the dtypes, onnx/numpy_helper.py for how small ones are
packed, docs/ExternalData.md and onnx/external_data_helper.py for values in files of their own.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, messages, protobuf, reading
from tfxfer.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, tag
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable

MAX_TENSORS = 30_000
MAX_DEPTH = 16  # of graphs within graphs; each `If` and `Loop` adds one

_GRAPH_FIELDS = {1, 2, 5, 10, 11, 12, 13, 14, 15, 16}


class _Type(NamedTuple):
    """A TensorProto.DataType: its dtype in memory, the bits it takes in raw data, and the field of its numbers."""

    name: str
    dtype: Any
    field: int
    bits: int = 0


_FLOATS, _INT32S, _INT64S, _RAW, _DOUBLES, _UINT64S = 4, 5, 7, 9, 10, 11
_TYPES = {
    1: _Type("FLOAT", "<f4", _FLOATS),
    2: _Type("UINT8", np.uint8, _INT32S),
    3: _Type("INT8", np.int8, _INT32S),
    4: _Type("UINT16", "<u2", _INT32S),
    5: _Type("INT16", "<i2", _INT32S),
    6: _Type("INT32", "<i4", _INT32S),
    7: _Type("INT64", "<i8", _INT64S),
    9: _Type("BOOL", np.bool_, _INT32S),
    10: _Type("FLOAT16", "<f2", _INT32S),
    11: _Type("DOUBLE", "<f8", _DOUBLES),
    12: _Type("UINT32", "<u4", _UINT64S),
    13: _Type("UINT64", "<u8", _UINT64S),
    14: _Type("COMPLEX64", "<c8", _FLOATS),
    15: _Type("COMPLEX128", "<c16", _DOUBLES),
    16: _Type("BFLOAT16", ml_dtypes.bfloat16, _INT32S),
    17: _Type("FLOAT8E4M3FN", ml_dtypes.float8_e4m3fn, _INT32S),
    18: _Type("FLOAT8E4M3FNUZ", ml_dtypes.float8_e4m3fnuz, _INT32S),
    19: _Type("FLOAT8E5M2", ml_dtypes.float8_e5m2, _INT32S),
    20: _Type("FLOAT8E5M2FNUZ", ml_dtypes.float8_e5m2fnuz, _INT32S),
    21: _Type("UINT4", ml_dtypes.uint4, _INT32S, 4),
    22: _Type("INT4", ml_dtypes.int4, _INT32S, 4),
    23: _Type("FLOAT4E2M1", ml_dtypes.float4_e2m1fn, _INT32S, 4),
    24: _Type("FLOAT8E8M0", ml_dtypes.float8_e8m0fnu, _INT32S),
    25: _Type("UINT2", ml_dtypes.uint2, _INT32S, 2),
    26: _Type("INT2", ml_dtypes.int2, _INT32S, 2),
}
_WIDTHS = {_FLOATS: (FIXED32, 4), _DOUBLES: (FIXED64, 8)}  # of what is not a varint
_STRING = 8


def begins(data: protobuf.Bytes) -> bool:
    """Say whether a file, cut short or not, is a ModelProto: it has a version of the format and a graph.

    A SavedModel and a Core ML model begin with a version too, and have other fields behind it.
    """
    model = messages.outline(data)
    graph = model.get(tag(7, BYTES))
    if graph is None or tag(1, VARINT) not in model or not model.keys().isdisjoint({tag(1, BYTES), tag(2, VARINT)}):
        return False
    return all(key >> 3 in _GRAPH_FIELDS and key & 7 == BYTES for key in messages.outline(graph))


def read(path: Path) -> dict[str, Tensor]:
    """List the tensors of a model, those of the main graph first.

    Returns:
      Tensors by the names in the file: of an initializer its own, of a `Constant` that of its output. Within the body
      of an `If` or a `Loop`, the name of the node and of the attribute stand before, within a function its domain and
      name. Constants that are scalars or
      vectors of int64 are left out: these are arguments of nodes, such as shapes and axes. Text, sparse tensors and
      unknown dtypes are listed with the reason and refuse to be read. The checksum of an external file, which is that
      of the whole file, is not compared.

    Raises:
      WeightsError: the file is cut short, corrupt or hostile, external data are missing or lie outside the folder of
        the model, or values are not as many as their shape takes; every tensor concerned is named.
    """
    reader = _Reader(path)
    for key, value in reader.walk.fields(reader.data.data):
        if key == tag(7, BYTES):
            reader.graph(value, "", 0)
        elif key == tag(25, BYTES):
            reader.function(value)
    if reader.faults:
        raise WeightsError(f"{path} is corrupt, or not all of it is there:\n  {shown(reader.faults)}")
    return reader.tensors


class _Reader:
    """The tensors of one file, and what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self.data = reading.map_file(path)
        self.walk = messages.Walk(self.where)
        self.external = _External(path, self.walk)
        self.tensors: dict[str, Tensor] = {}
        self.faults: list[str] = []

    def graph(self, graph: memoryview, prefix: str, depth: int) -> None:
        """List the tensors of a graph and of those within it."""
        if depth > MAX_DEPTH:
            raise WeightsError(f"{self.where} is hostile: its graphs lie in each other more than {MAX_DEPTH} deep")
        for key, value in self.walk.fields(graph):
            if key == tag(1, BYTES):
                self.node(value, prefix, depth)
            elif key == tag(5, BYTES):
                self.initializer(value, prefix)
            elif key == tag(15, BYTES):
                self.sparse(value, prefix)

    def function(self, function: memoryview) -> None:
        """List the tensors of a function, which has nodes and no initializers."""
        fields = self.walk.listed(function)
        scope = "/".join(filter(None, (self.text(fields, number) for number in (10, 1, 13))))
        for node in protobuf.strings(fields, 7):
            self.node(memoryview(node), f"{scope}/", 1)

    def node(self, node: memoryview, prefix: str, depth: int) -> None:
        """List the tensor of a `Constant`, and those of the graphs that are attributes of other nodes."""
        fields = self.walk.listed(node)
        op, output = self.text(fields, 4), self.text(fields, 2)
        for attribute in protobuf.strings(fields, 5):
            inner = self.walk.listed(attribute)
            name = self.text(inner, 1)
            if op == "Constant" and name == "value":
                for tensor in protobuf.strings(inner, 5)[-1:]:
                    self.constant(self.walk.listed(tensor), prefix + output)
            for graph in (*protobuf.strings(inner, 6), *protobuf.strings(inner, 11)):
                scope = self.text(fields, 3) or output or op
                self.graph(memoryview(graph), f"{prefix}{scope}/{name}/", depth + 1)

    def constant(self, tensor: list[Field], name: str) -> None:
        """List the value of a `Constant`, where it may be a weight."""
        dims = messages.integers(messages.numbers(tensor, 1, VARINT), self.where)
        if len(dims) > (_TYPES.get(protobuf.number(tensor, 2)) == _TYPES[7]):
            self.add(name, tensor)

    def initializer(self, tensor: memoryview, prefix: str) -> None:
        """List an initializer under its name."""
        fields = self.walk.listed(tensor)
        self.add(prefix + (self.text(fields, 8) or f"unnamed_{len(self.tensors)}"), fields)

    def sparse(self, tensor: memoryview, prefix: str) -> None:
        """List a sparse initializer, which has the name of its values."""
        fields = self.walk.listed(tensor)
        values = [self.walk.listed(inner) for inner in protobuf.strings(fields, 1)[-1:]]
        name = prefix + (self.text(values[0] if values else [], 8) or f"unnamed_{len(self.tensors)}")
        dims = messages.integers(messages.numbers(fields, 3, VARINT), self.where)
        why = f"{self.where}: {name} is a sparse tensor, of which only some values are stored"
        self.put(name, unreadable(why, dims))

    def add(self, name: str, tensor: list[Field]) -> None:
        """List a TensorProto under a name, or what is wrong with it."""
        where = f"{self.where}: {name}"
        shape = messages.integers(messages.numbers(tensor, 1, VARINT), where)
        if fault := shape_fault(shape):
            self.faults.append(f"{name}: {fault}")
            return
        kind = _TYPES.get(protobuf.number(tensor, 2))
        if kind is None or any(key == tag(3, BYTES) for key, _ in tensor):
            self.put(name, unreadable(f"{where} {_oddity(tensor)}", shape))
            return
        try:
            self.put(name, self.tensor(tensor, kind, shape, where))
        except _FaultError as fault:
            self.faults.append(f"{name}: {fault}")

    def put(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor under a name that none has yet."""
        if name in self.tensors:
            raise WeightsError(f"{self.where} is corrupt: two tensors are called {name}")
        if len(self.tensors) == MAX_TENSORS:
            raise WeightsError(f"{self.where} is refused: it holds more than {MAX_TENSORS:,} tensors")
        self.tensors[name] = tensor

    def tensor(self, tensor: list[Field], kind: _Type, shape: tuple[int, ...], where: str) -> Tensor:
        """Describe a TensorProto of a known dtype; _FaultError says what is wrong with it."""
        if protobuf.number(tensor, 14) == 1:
            return self.external.tensor(tensor, kind, shape, where)
        raw = protobuf.strings(tensor, _RAW)[-1:]
        if raw and len(raw[0]):
            start = messages.place(self.data, memoryview(raw[0]))
            _check(len(raw[0]), kind, shape)
            return _raw(lambda: self.data, start, kind, shape, where)
        wire, width = _WIDTHS.get(kind.field, (VARINT, 0))
        numbers = messages.numbers(tensor, kind.field, wire)
        if not numbers and 0 not in shape:
            return unreadable(f"{where} holds no values", shape)
        if width:
            _check(messages.size(numbers, width), kind, shape)
            return messages.plain(self.data, numbers, np.dtype(kind.dtype), shape, where, width=width)
        return _varints(self.data, numbers, kind, shape, where)

    def text(self, message: list[Field], field: int) -> str:
        """Return the first value of a field of text; the empty string where there is none."""
        return next((protobuf.text(value, self.where) for value in protobuf.strings(message, field)), "")


class _FaultError(Exception):
    """What is wrong with one tensor."""


def _oddity(tensor: list[Field]) -> str:
    number = protobuf.number(tensor, 2)
    if number == _STRING:
        return "holds text and not numbers"
    if number in _TYPES:
        return "is one segment of a tensor, which onnx does not read either"
    return f"is of the unknown dtype {number} of ONNX"


def _size(kind: _Type, shape: tuple[int, ...]) -> int:
    """Return how many bytes raw data take."""
    return -(-math.prod(shape) * (kind.bits or 8 * np.dtype(kind.dtype).itemsize) // 8)


def _check(size: int, kind: _Type, shape: tuple[int, ...]) -> None:
    if size != _size(kind, shape):
        raise _FaultError(f"{kind.name} {shape} takes {_size(kind, shape):,} bytes, the file holds {size:,}")


def _raw(data: Callable[[], np.ndarray], start: int, kind: _Type, shape: tuple[int, ...], where: str) -> Tensor:
    """Describe raw bytes of a file that `data` maps when it is called."""
    dtype = np.dtype(kind.dtype)
    if kind.bits:
        return Tensor(shape, dtype, lambda: _small(data()[start : start + _size(kind, shape)], kind, shape))
    size = math.prod(shape)
    return Tensor(
        shape,
        dtype.newbyteorder("="),
        lambda: reading.array(data(), start, dtype, shape, where),
        (lambda: _stream(data, start, dtype, shape, where)) if size else None,
    )


def _stream(
    data: Callable[[], np.ndarray], start: int, dtype: np.dtype, shape: tuple[int, ...], where: str
) -> Iterator[np.ndarray]:
    stream = reading.tensor(data(), start, dtype, shape, where).stream
    yield from stream() if stream else ()


def _small(raw: np.ndarray, kind: _Type, shape: tuple[int, ...]) -> np.ndarray:
    """Unpack values of 2 or 4 bits, the first in the lowest bits, into the low bits of a byte, as onnx does."""
    count = 8 // kind.bits
    values = buffers.aligned((len(raw) * count,), np.dtype(np.uint8)).reshape(-1, count)
    position = 0
    for piece in buffers.seen(raw, np.dtype(np.uint8)):
        for k in range(count):
            values[position : position + len(piece), k] = piece >> (k * kind.bits) & ((1 << kind.bits) - 1)
        position += len(piece)
    array = values.reshape(-1)[: math.prod(shape)].view(kind.dtype).reshape(shape)
    array.flags.writeable = False
    return array


def _varints(data: np.ndarray, numbers: messages.Numbers, kind: _Type, shape: tuple[int, ...], where: str) -> Tensor:
    size, packed = math.prod(shape), any(not isinstance(piece, int) for piece in numbers)
    stored = _size(kind, shape) if kind.bits else size
    least, most = messages.size(numbers, 1), messages.size(numbers, 10)
    if not (stored <= most and least <= 10 * stored) or (not packed and len(numbers) != stored):
        raise _FaultError(f"{kind.name} {shape} takes {stored:,} numbers, which is not what the file holds")
    if not kind.bits:
        return messages.varints(data, numbers, np.dtype(kind.dtype).newbyteorder("="), shape, where)
    bytes_ = messages.varints(data, numbers, np.dtype(np.uint8), (stored,), where)
    return Tensor(shape, np.dtype(kind.dtype), lambda: _small(bytes_.read(), kind, shape))


class _External:
    """The files beside a model that hold values of it. Each is opened when a value is read, since there may be many."""

    def __init__(self, path: Path, walk: messages.Walk) -> None:
        self._walk = walk
        self._folder = path.parent
        # A model in a cache of downloads is a link, as its data are, to the folder where all lie.
        self._allowed = {os.path.realpath(path.parent), os.path.dirname(os.path.realpath(path))}
        self._faults: dict[str, str] = {}
        self._stamps: dict[str, tuple[int, int]] = {}

    def tensor(self, tensor: list[Field], kind: _Type, shape: tuple[int, ...], where: str) -> Tensor:
        """Describe values in a file beside the model; _FaultError says what is wrong with them."""
        entries = {self._text(entry, 1): self._text(entry, 2) for entry in protobuf.strings(tensor, 13)}
        location, size = entries.get("location", ""), _size(kind, shape)
        if fault := self._fault(location):
            raise _FaultError(fault)
        offset, length = _count(entries, "offset", 0), _count(entries, "length", size)
        if length != size:
            _check(length, kind, shape)
        if offset + size > self._stamps[location][0]:
            raise _FaultError(
                f"its {size:,} bytes at {offset:,} go beyond the end of {location!r} ({self._stamps[location][0]:,} "
                "bytes); copy that file again"
            )
        return _raw(functools.partial(self._mapped, location), offset, kind, shape, where)

    def _text(self, entry: protobuf.Bytes, field: int) -> str:
        texts = protobuf.strings(self._walk.fields(entry), field)
        return protobuf.text(texts[-1], self._walk.where) if texts else ""

    def _fault(self, location: str) -> str:
        if location not in self._stamps and location not in self._faults:
            try:
                self._stamps[location] = self._stamp(location)
            except _FaultError as fault:
                self._faults[location] = str(fault)
        return self._faults.get(location, "")

    def _stamp(self, location: str) -> tuple[int, int]:
        shown_as = repr(location[:100])
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location or os.path.isabs(location) or not parts[0] or ".." in parts:
            raise _FaultError(f"its values are said to lie in {shown_as}, which is not a file below that of the model")
        path = self._folder / location
        real = os.path.realpath(path)
        if os.path.exists(path) and not any(real.startswith(f"{folder.rstrip('/')}/") for folder in self._allowed):
            raise _FaultError(
                f"its values lie in {shown_as}, a link that leads out of the folder of the model; where you trust it, "
                "put a copy of that file in the place of the link"
            )
        if not reading.exists(path):
            raise _FaultError(f"its values lie in {shown_as}, which is not a file in {self._folder}; fetch it too")
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns

    def _mapped(self, location: str) -> np.ndarray:
        path = self._folder / location
        data = reading.map_file(path)
        try:
            same = self._stamp(location) == self._stamps[location]
        except (_FaultError, OSError):
            same = False
        if not same:
            raise WeightsError(f"{path} has changed since the model was opened; open it again")
        return data


def _count(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _FaultError(f"the {key} of its values is {text[:40]!r}, which is not a number of bytes")
    return int(text)
