"""Weights that lie in a graph as constants: a frozen GraphDef (.pb), a MetaGraphDef, a SavedModel without variables.

What a constant is, the ops say that take it, and not its name. A constant is a weight if it is

- an array (of one dimension or more) of floating point, complex, quantized or 8- and 16-bit integers. An op takes
  shapes, axes, paddings and indices as integers of 32 or 64 bits, so that none of them is among these;
- a scalar of such a dtype that an op of quantization takes (Dequantize, QuantizedConv2D, FakeQuantWithMinMaxVars): the
  ends of a range, without which nobody can dequantize;
- a scalar of such a dtype that comes to an op through an Identity, as freezing leaves it behind each variable.

Not weights, and listed with the reason: what only ops take that look at no value (Shape, ZerosLike), or that show and
save it (Assert, summaries); initial values of variables that are one number throughout; arrays of other integers and of
booleans with more elements than any shape, axis or padding has; tables of strings; and the variables themselves. Other
integers, scalars and texts are left out. An op is looked for through those that hand their input on (Identity, Enter,
Cast, Reshape). Calls are not followed: a function counts as an op that takes what it is given, and has the constants
within it under FUNCTION/NODE.

Source: tensorflow/core/framework/{graph,node_def,attr_value,function,op_def}.proto, and core/protobuf/{meta_graph,
saved_model}.proto.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.protobuf import BYTES, Bytes, fields, strings, tag, text
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable
from tfxfer.weights import tensor_proto
from tfxfer.weights.graph_uses import Room, Uses
from tfxfer.weights.tensor_proto import TensorProto
from tfxfer.weights.tf_types import DTYPES, QUANTIZED, STRING, unread

LONGEST_SHAPE = 64  # elements of an integer array that is not worth mentioning

_WIDE = {np.dtype(kind) for kind in (np.int32, np.int64, np.uint32, np.uint64, np.bool_)}

# How the kinds of files begin: the tags of the first fields, with lengths and texts between them.
_LENGTH = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_NODE = rb"\x0a%b\x0a%b[ -~\x80-\xff]+\x12[\x00-\x7f][A-Za-z_][\w.>]+" % (_LENGTH, _LENGTH)
_LIBRARY = rb"\x12%b\x0a%b\x0a%b\x0a[\x00-\x7f][A-Za-z_][\w.\-/]*" % (_LENGTH, _LENGTH, _LENGTH)
_GRAPH = rb"(%b|%b|\x22[\x02-\x20]\x08[\x01-\xff])" % (_NODE, _LIBRARY)
_OPS, _TAG, _VERSION = rb"\x12%b\x0a" % _LENGTH, rb"\x22[\x01-\x7f][\w.\-]+", rb"\x2a[\x01-\x7f]\d+\."
_META = rb"(\x0a%b(\x0a[\x01-\x7f][ -~]+)?(%b|(%b)*%b)|\x12%b%b)" % (_LENGTH, _OPS, _TAG, _VERSION, _LENGTH, _GRAPH)
_KINDS = {
    "SavedModel": re.compile(rb"\x08\x01\x12%b%b" % (_LENGTH, _META)),
    "MetaGraphDef": re.compile(_META),
    "GraphDef": re.compile(_GRAPH),
}


def kind(head: bytes) -> str:
    """Say what a file is by its first 4096 bytes: GraphDef, MetaGraphDef, SavedModel, or empty where it is none."""
    return next((name for name, begin in _KINDS.items() if begin.match(head)), "")


def read(path: Path, form: str) -> dict[str, Tensor]:
    """List the constants of a file that are weights, in the order of the file.

    Where several graphs of one SavedModel hold constants of one name, and not the same, those of the later graphs stand
    under TAGS/NAME.

    Args:
      path: the file.
      form: which message it holds, as `kind` says.

    Returns:
      Tensors by the names of the nodes, within functions FUNCTION/NODE. What a user may miss is listed with the reason
      and refuses to be read.

    Raises:
      WeightsError: the file is corrupt, or none of its constants is a weight.
    """
    data, where = reading.map_file(path), str(path)
    entries: dict[str, Entry] = {}
    room = Room(where)
    for tags, graph in _graphs(data.data, form, where):
        for name, entry in _entries(graph, room):
            other = entries.get(name, entry)
            entries[name if other == entry else f"{tags}/{name}"] = entry
    return _tensors(entries, data, where, form)


def constants(data: np.ndarray, where: str) -> dict[str, Tensor]:
    """List the constants of a GraphDef that are weights, as `read` does.

    Args:
      data: uint8 [n], the message, in memory or as `reading.map_file` makes it.
      where: what it is, for the error messages.

    Raises:
      WeightsError: as `read`.
    """
    return _tensors(dict(_entries(data.data, Room(where))), data, where, "GraphDef")


class Entry(NamedTuple):
    """A node that is listed.

    Attributes:
      proto: what a constant holds; None for a variable.
      why: the reason why it is not a weight; empty for one.
      variable: the op of a variable; empty for a constant.
    """

    proto: TensorProto | None
    why: str = ""
    variable: str = ""


def _graphs(data: Bytes, form: str, where: str) -> Iterator[tuple[str, Bytes]]:
    """Yield the GraphDefs of a file, each with the tags of its MetaGraphDef."""
    if form == "GraphDef":
        yield "", data
        return
    for meta in [data] if form == "MetaGraphDef" else strings(fields(data, where), 2):
        parts = fields(meta, where)
        tags = [text(mark, where) for info in strings(parts, 1) for mark in strings(fields(info, where), 4)]
        yield from ((",".join(tags), graph) for graph in strings(parts, 2))


def _entries(graph: Bytes, room: Room) -> Iterator[tuple[str, Entry]]:
    yield from _listed(Uses(_every(graph, 1, room), room), "", room)
    for library in _every(graph, 2, room):
        for function in _every(library, 1, room):
            name = b"".join(
                bytes(part) for signature in _every(function, 1, room) for part in _every(signature, 1, room)
            )
            yield from _listed(Uses(_every(function, 3, room), room), f"{text(name, room.where)}/", room)


def _every(message: Bytes, number: int, room: Room) -> Iterator[Bytes]:
    """Yield the values of one field as they come; a list of a million would take too much memory."""
    return (value for key, value in room.scan(message) if key == tag(number, BYTES))


def _listed(uses: Uses, scope: str, room: Room) -> Iterator[tuple[str, Entry]]:
    where = room.where
    for name, node in uses.constants.items():
        room.take(10)  # fields, or so
        proto = TensorProto.parse(_proto(node, where), where)
        why = _why_not(name, proto, uses)
        if why is not None:
            yield scope + text(name, where), Entry(proto, why)
    for name, op in uses.variables.items():
        why = f"it is a variable ({op.decode()}), whose value lies in the checkpoint that belongs to the graph"
        yield scope + text(name, where), Entry(None, why, op.decode())


def _proto(node: Bytes, where: str) -> Bytes:
    """Return the TensorProto of a constant, which is the tensor (8) of its attribute `value` (5: key 1, value 2)."""
    for entry in strings(fields(node, where), 5):
        parts = fields(entry, where)
        if [bytes(key) for key in strings(parts, 1)] == [b"value"]:
            protos = [proto for value in strings(parts, 2) for proto in strings(fields(value, where), 8)]
            return protos[-1] if protos else b""
    return b""


# --- what a weight is ---


def _why_not(name: bytes, proto: TensorProto, uses: Uses) -> str | None:
    """Say why a constant is not a weight: an empty text for a weight, None for what is not worth mentioning."""
    if proto.dtype not in DTYPES:
        return unread(proto.dtype)
    size = math.prod(proto.shape)
    if proto.dtype == STRING:
        table = proto.shape and size > 1 and name not in uses.looked
        return "it is a table of strings, which is not a weight" if table else None
    if DTYPES[proto.dtype] in _WIDE and proto.dtype not in QUANTIZED:
        table = size > LONGEST_SHAPE and name not in uses.looked
        return f"it is an array of {DTYPES[proto.dtype]}: a table or an index, which is not a weight" if table else None
    return _array(name, proto, uses) if proto.shape else _scalar(name, uses)


def _scalar(name: bytes, uses: Uses) -> str | None:
    return "" if name in uses.quantized or (name in uses.read and name in uses.computed) else None


def _array(name: bytes, proto: TensorProto, uses: Uses) -> str:
    if name in uses.computed:
        return ""
    if name in uses.assigned:
        return "it is the initial value of a variable, one number throughout" if _repeats(proto) else ""
    return "no op computes by it: its shape alone is asked for, or it is only shown" if name in uses.looked else ""


def _repeats(proto: TensorProto) -> bool:
    """Whether fewer numbers are there than elements, or one alone."""
    each = DTYPES[proto.dtype].itemsize if proto.plain else 1
    return max(sum(map(len, proto.encoded())) // each, 1) < max(math.prod(proto.shape), 2)


def _is_emptied(protos: list[TensorProto]) -> bool:
    """Whether somebody took the values out: of no array are all there, and of one or more there are none.

    TensorFlow takes the values that are not there for zeros, and writes an array of zeros so; but hardly all arrays.
    """
    arrays = [proto for proto in protos if math.prod(proto.shape) > 1]
    return all(map(_repeats, arrays)) and any(not sum(map(len, proto.encoded())) for proto in arrays)


# --- arrays ---


def _tensors(entries: dict[str, Entry], data: np.ndarray, where: str, form: str) -> dict[str, Tensor]:
    if all(entry.why for entry in entries.values()):
        raise WeightsError(f"{where} holds no weights: it is {_without(entries, form)}")
    protos = {name: entry.proto for name, entry in entries.items() if entry.proto and not entry.why}
    if _is_emptied(list(protos.values())) and not any(entry.variable for entry in entries.values()):
        raise WeightsError(
            f"{where} holds no weights: it is a {form} whose constants have their shapes but no values, as the "
            "tensorflowjs_model.pb of TensorFlow.js; open the weights_manifest.json that belongs beside it"
        )
    faults = [f"{name}: {fault}" for name, proto in protos.items() if (fault := _fault(proto))]
    if faults:
        raise WeightsError(f"{where} is corrupt:\n  {shown(faults)}\ncopy it again")
    return {
        name: unreadable(f"{where}: {name}: {entry.why}")
        if entry.why
        else _tensor(data, protos[name], f"{where}: {name}")
        for name, entry in entries.items()
    }


def _without(entries: dict[str, Entry], form: str) -> str:
    variables = {name: entry.variable for name, entry in entries.items() if entry.variable}
    if variables:
        return (
            f"a {form} whose variables ({names.listed(sorted(set(variables.values())))}) have their values in a "
            f"checkpoint: {names.listed(variables, 3)}; look for its files, .index and .data, or `variables` of a "
            "SavedModel, and give their prefix"
        )
    reasons = [f"{name}: {entry.why}" for name, entry in entries.items()]
    return f"a {form} without variables, and with no constants that are weights" + (
        f":\n  {shown(reasons)}" if reasons else ""
    )


def _fault(proto: TensorProto) -> str:
    if fault := shape_fault(proto.shape):
        return fault
    kind, pieces = DTYPES[proto.dtype], proto.encoded()
    size, wanted = sum(map(len, pieces)), math.prod(proto.shape) * DTYPES[proto.dtype].itemsize
    if not proto.plain:  # numbers of different lengths are counted when they are read
        return ""
    if size % kind.itemsize or size > wanted or (proto.whole and size != wanted):
        return f"{kind} {proto.shape} takes {wanted:,} bytes, its values have {size:,}"
    return ""


def _tensor(data: np.ndarray, proto: TensorProto, where: str) -> Tensor:
    kind, pieces = DTYPES[proto.dtype], [_placed(data, piece) for piece in proto.encoded()]
    if proto.plain and len(pieces) == 1 and len(pieces[0]) == math.prod(proto.shape) * kind.itemsize:
        return reading.tensor(pieces[0], 0, kind, proto.shape, where)
    return reading.repeated(
        functools.partial(_values, pieces, kind, proto.shape, proto.plain, where), kind, proto.shape
    )


def _placed(data: np.ndarray, piece: Bytes) -> np.ndarray:
    """Return bytes as a part of `data`, through which they can be read; those that are a copy, as they are."""
    array = np.frombuffer(piece, np.uint8)
    start = array.__array_interface__["data"][0] - data.__array_interface__["data"][0]
    return data[start : start + len(array)] if len(array) and isinstance(piece, memoryview) else array


def _values(
    pieces: Sequence[np.ndarray], kind: np.dtype, shape: tuple[int, ...], plain: bool, where: str
) -> np.ndarray:
    """Read numbers; of fewer than there are elements, the last is repeated, and of none, all are zero."""
    count = math.prod(shape)
    values = tensor_proto.decoded(pieces, kind, count, where, plain=plain)
    if len(values) > count:
        raise WeightsError(f"{where} is corrupt: it has more values than its shape {shape} has elements")
    return values if len(values) else np.zeros(1, kind)
