"""TensorFlow checkpoints of format V1: one file, or one for each shard, each a LevelDB table.

Source: tensorflow/core/util/saved_tensor_slice.proto, util/tensor_slice_writer.cc and framework/tensor.proto. A table
holds the list of variables under the empty key, and the values of each slice, as a TensorProto, under a key of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import leveldb, reading
from tfxfer.formats.protobuf import BYTES, Bytes, fields, number, scan, strings, tag, text
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable
from tfxfer.weights import find_checkpoint, slices, tensor_proto
from tfxfer.weights.tensor_proto import TensorProto
from tfxfer.weights.tf_types import DTYPES, STRING, parse_shape, unread

_VARIABLE = tag(1, BYTES)


class Variable(NamedTuple):
    """What the tables say about one variable: its slices, each with the table and the key of its values."""

    dtype: int
    shape: tuple[int, ...]
    parts: list[tuple[slices.Extents, leveldb.Table, bytes]]


def read(prefix: find_checkpoint.Prefix) -> dict[str, Tensor]:
    """List the variables of the checkpoint in the files `find_checkpoint.v1_parts(prefix)`; values are built when read.

    Raises:
      WeightsError: a file is corrupt, or the shards do not fit together; every variable concerned is named.
    """
    variables: dict[str, Variable] = {}
    room = count = 0
    for path in find_checkpoint.v1_parts(prefix):
        data = reading.map_file(path)
        room += len(data)
        for name, found in _variables(leveldb.Table(data, str(path)), str(path)):
            known = variables.setdefault(name, Variable(found.dtype, found.shape, []))
            if known[:2] != found[:2]:
                raise WeightsError(f"{prefix} is corrupt: its shards give {name} different shapes or dtypes")
            known.parts.extend(found.parts)
            count += 1 + len(found.parts)
            if count > slices.MAX_SLICES:
                raise WeightsError(f"{path} is corrupt or hostile: it announces more than {slices.MAX_SLICES:,} slices")
    faults = [f"{name}: {fault}" for name, variable in variables.items() if (fault := _fault(variable, room))]
    if faults:
        raise WeightsError(f"{prefix} is corrupt:\n  {shown(faults)}\ncopy it again")
    return {name: _described(variable, name, prefix) for name, variable in sorted(variables.items())}


def _described(variable: Variable, name: str, prefix: find_checkpoint.Prefix) -> Tensor:
    if variable.dtype not in DTYPES:
        return unreadable(f"{name}: {unread(variable.dtype)}")
    return Tensor(variable.shape, DTYPES[variable.dtype], functools.partial(_value, variable, f"{prefix}: {name}"))


def _variables(table: leveldb.Table, where: str) -> Iterator[tuple[str, Variable]]:
    found = strings(fields(table.get(b"") or b"", where), 1)
    if not found:
        raise WeightsError(
            f"{where} lists no variables: it is the index of a checkpoint of format V2 under another name; call it "
            "PREFIX.index, with PREFIX.data-00000-of-00001 beside it"
        )
    for key, message in scan(found[-1], where):
        if key == _VARIABLE:
            meta = fields(message, where)
            name, shape = (b"".join(map(bytes, strings(meta, field))) for field in (1, 2))
            extents = [slices.parse(part, where) for part in strings(meta, 4)]
            parts = [(extent, table, slices.key(name, extent)) for extent in extents]
            yield text(name, where), Variable(number(meta, 3), parse_shape(shape, where), parts)


def _fault(variable: Variable, room: int) -> str:
    if variable.dtype not in DTYPES:  # listed with the reason
        return ""
    if fault := shape_fault(variable.shape):
        return fault
    # No element takes less than a byte, of which compression leaves no less than 1/22.
    if math.prod(variable.shape) > 22 * room:
        return f"its shape {variable.shape} has more elements than {room:,} bytes can hold"
    if any(slices.resolve(extents, variable.shape) is None for extents, _, _ in variable.parts):
        return f"a slice lies outside of its shape {variable.shape}"
    return ""


def _value(variable: Variable, where: str) -> np.ndarray:
    places = [slices.resolve(extents, variable.shape) or () for extents, _, _ in variable.parts]
    if not slices.tile(places, variable.shape):
        raise WeightsError(f"{where}: its slices overlap or leave gaps; are all shards of the checkpoint there?")
    result = np.empty(variable.shape, DTYPES[variable.dtype])
    for place, (_, table, key) in zip(places, variable.parts, strict=True):
        shape = tuple(length for _, length in place)
        result[slices.index(place)] = _decoded(_tensor_proto(table, key, where), variable.dtype, shape, where)
    return result


def _tensor_proto(table: leveldb.Table, key: bytes, where: str) -> Bytes:
    value = table.get(key)
    found = [proto for data in strings(fields(value or b"", where), 2) for proto in strings(fields(data, where), 3)]
    if not found:
        raise WeightsError(f"{where}: its values are missing from the file")
    return found[-1]


def _decoded(proto: Bytes, dtype: int, shape: tuple[int, ...], where: str) -> np.ndarray:
    count, tensor = math.prod(shape), TensorProto.parse(proto, where)._replace(dtype=dtype)
    if dtype == STRING:
        values = np.array([*map(bytes, tensor.strings()), None], object)[:-1]
    else:
        pieces = [np.frombuffer(piece, np.uint8) for piece in tensor.encoded()]
        values = tensor_proto.decoded(pieces, DTYPES[dtype], count, where, plain=tensor.plain)
    if len(values) != count:
        raise WeightsError(f"{where}: the file holds {len(values):,} values for the shape {shape}")
    return values.reshape(shape)
