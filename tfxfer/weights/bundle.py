"""TensorFlow checkpoints of format V2: an index, and the values in one or more data files beside it.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc and core/protobuf/tensor_bundle.proto. The index is a
LevelDB table; it holds a BundleHeaderProto under the empty key and a BundleEntryProto under the name of each
variable. A partitioned variable has an entry with the whole shape and no bytes, and an entry for each of its slices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, leveldb, reading
from tfxfer.formats.protobuf import BYTES, FIXED32, fields, number, signed, tag, text, varint
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable
from tfxfer.weights import identify, slices
from tfxfer.weights.find_checkpoint import Prefix, find_prefix
from tfxfer.weights.tf_types import DTYPES, STATES, STRING, parse_shape, unread

__all__ = ["find_prefix", "read"]

_DTYPE, _SHAPE, _SHARD, _OFFSET = tag(1), tag(2, BYTES), tag(3), tag(4)
_SIZE, _CRC, _SLICE = tag(5), tag(6, FIXED32), tag(7, BYTES)


class Entry(NamedTuple):
    """A BundleEntryProto: what the index says about one variable, or about one slice of one."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[slices.Extents, ...]


class Bundle(NamedTuple):
    """What was found: the number of shards, the entries by key, and of the shards in use the paths and mapped bytes."""

    where: str
    shards: int
    entries: Mapping[bytes, Entry]
    paths: Mapping[int, Path]
    data: Mapping[int, np.ndarray]


def read(prefix: Prefix, *, without: Container[str] = ()) -> dict[str, Tensor]:
    """List the variables under a prefix; each is checked against its crc32c when it is read.

    Args:
      prefix: as `tf.train.Saver.restore` takes it.
      without: variables that are left out, whatever is wrong with them.

    Returns:
      Tensors by name, in the order of the index, which is that of the names. Strings have dtype object and are bytes.
      An entry of a dtype that tfxfer does not read, as the state of an iterator, is listed and refuses to be read.

    Raises:
      WeightsError: the index is missing or corrupt, or it and the data files do not fit together; then every
        variable and every file concerned is named.
    """
    index = Path(f"{prefix}.index")
    bundle = _open(prefix, str(index))
    if without:
        kept = {key: entry for key, entry in bundle.entries.items() if _variable(key) not in without}
        bundle = bundle._replace(entries=kept)
    faults = [*_shard_faults(bundle), *_entry_faults(bundle)]
    if faults:
        raise WeightsError(
            f"{prefix} is incomplete or corrupt:\n  {shown(faults)}\n"
            "copy its .index and all its .data files again, from one and the same save"
        )
    return {
        text(key, str(index)): _tensor(bundle, key, entry)
        for key, entry in bundle.entries.items()
        if not slices.is_key(key)
    }


def checksums(prefix: Prefix, names: Container[str]) -> dict[str, int]:
    """Return the checksums of some variables under a prefix; those of partitioned variables have none.

    Raises:
      WeightsError: the index is missing or corrupt.
    """
    index = Path(f"{prefix}.index")
    entries = _entries(leveldb.Table(reading.map_file(index), str(index)), str(index))
    whole = {_variable(key): entry for key, entry in entries.items() if not slices.is_key(key) and not entry.slices}
    return {name: entry.crc for name, entry in whole.items() if name in names}


def faults(prefix: Prefix) -> dict[str, str]:
    """Say of each variable under a prefix what is wrong with its entry: its place, its size or its slices.

    No value is read. Besides what `read` refuses, no two variables may lie in the same bytes.

    Raises:
      WeightsError: the index is missing or corrupt.
    """
    bundle = _open(prefix, str(Path(f"{prefix}.index")))
    found: dict[str, str] = {}
    for key, entry in bundle.entries.items():
        fault = "" if entry.dtype in DTYPES or entry.dtype in STATES else unread(entry.dtype)
        fault = fault or _fault(entry, bundle.shards) or _slices_fault(key, entry, bundle.entries)
        fault = fault or _place_fault(bundle, entry)
        if fault:
            found.setdefault(_variable(key), fault)
    for one, other in _overlaps(bundle):
        found.setdefault(_variable(other), f"it lies in the same bytes as {_variable(one)}")
    return found


def _open(prefix: Prefix, index: str) -> Bundle:
    if reading.tail(Path(index), 8) != leveldb.MAGIC and (what := identify.known(Path(index))):
        raise WeightsError(f"{index} is not an index of a checkpoint: it is {what}")
    table = leveldb.Table(reading.map_file(index), index)
    header = fields(bytes(table.get(b"") or b""), index)
    if number(header, 2):
        raise WeightsError(f"{index} was written on a big-endian machine, which tfxfer does not read")
    count = number(header, 1)
    if not 0 < count < 100_000:
        raise WeightsError(f"{index} is corrupt: it has no header, or one that announces {count} data files")
    entries = _entries(table, index)
    used = {entry.shard for entry in entries.values() if 0 <= entry.shard < count and not entry.slices}
    paths = {shard: Path(f"{prefix}.data-{shard:05d}-of-{count:05d}") for shard in sorted(used)}
    data = {shard: reading.map_file(path) for shard, path in paths.items() if reading.exists(path)}
    return Bundle(str(prefix), count, entries, paths, data)


def _entries(table: leveldb.Table, index: str) -> dict[bytes, Entry]:
    shapes: dict[bytes, tuple[int, ...]] = {}
    entries, parts = {}, 0
    for key, value in table.items():
        if not key:  # the header
            continue
        entries[key] = _entry(bytes(value), shapes, index)
        parts += len(entries[key].slices)
        if parts > slices.MAX_SLICES:
            raise WeightsError(f"{index} is corrupt or hostile: it announces more than {slices.MAX_SLICES:,} slices")
    return entries


def _entry(message: bytes, shapes: dict[bytes, tuple[int, ...]], where: str) -> Entry:
    found = dict(fields(message, where))
    shape = found.get(_SHAPE, b"")
    if shape not in shapes:  # most shapes come many times
        shapes[shape] = parse_shape(shape, where)
    parts = [value for key, value in fields(message, where) if key == _SLICE] if _SLICE in found else ()
    return Entry(
        found.get(_DTYPE, 0),
        shapes[shape],
        signed(found.get(_SHARD, 0)),
        signed(found.get(_OFFSET, 0)),
        signed(found.get(_SIZE, 0)),
        found.get(_CRC, 0),
        tuple(slices.parse(part, where) for part in parts) if parts else (),
    )


def _shard_faults(bundle: Bundle) -> Iterator[str]:
    for shard, path in bundle.paths.items():
        inside = {key: entry for key, entry in bundle.entries.items() if entry.shard == shard and not entry.slices}
        if not inside:
            continue
        if shard not in bundle.data:
            yield f"{path.name} is missing; {len(inside)} of {len(bundle.entries)} entries lie in it"
            continue
        size = len(bundle.data[shard])
        beyond = [key for key, entry in inside.items() if entry.offset < 0 or entry.offset + entry.size > size]
        if beyond:
            wanted = max(inside[key].offset + inside[key].size for key in beyond)
            what = f" is {what}; it" if (what := identify.known(path)) else ""
            yield (
                f"{path.name}{what} has {size:,} bytes and should have {wanted:,} or more; "
                f"{len(beyond)} entries lie beyond its end, such as {_name(beyond[0])}"
            )


def _place_fault(bundle: Bundle, entry: Entry) -> str:
    if entry.slices:
        return ""
    path = bundle.paths[entry.shard]
    if entry.shard not in bundle.data:
        return f"its data file {path.name} is missing"
    size = len(bundle.data[entry.shard])
    if entry.offset < 0 or entry.offset + entry.size > size:
        return f"it lies at bytes {entry.offset:,} to {entry.offset + entry.size:,} of {path.name}, which has {size:,}"
    return ""


def _overlaps(bundle: Bundle) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys of entries that lie in the same bytes as one that begins before them, and of that one."""
    placed = sorted(
        (entry.shard, entry.offset, entry.offset + entry.size, key)
        for key, entry in bundle.entries.items()
        if entry.size > 0 and not entry.slices
    )
    last = None
    for one in placed:
        if last and one[0] == last[0] and one[1] < last[2]:
            yield last[3], one[3]
        last = max(last, one, key=lambda place: place[:1] + place[2:3]) if last else one


def _entry_faults(bundle: Bundle) -> Iterator[str]:
    for key, entry in bundle.entries.items():
        fault = _fault(entry, bundle.shards) or (entry.slices and _slices_fault(key, entry, bundle.entries))
        if fault:
            yield f"{_name(key)}: {fault}"


def _fault(entry: Entry, shards: int) -> str:
    if entry.dtype not in DTYPES:  # its size says nothing; it is listed with the reason
        return ""
    if fault := shape_fault(entry.shape):
        return fault
    if entry.slices:
        return ""
    if not 0 <= entry.shard < shards:
        return f"it lies in data file {entry.shard}, of which there are {shards}"
    size, count = DTYPES[entry.dtype].itemsize, math.prod(entry.shape)
    if entry.dtype == STRING and entry.size < count + 4:
        return f"{entry.size:,} bytes are too few for {count:,} strings"
    if entry.dtype != STRING and entry.size != count * size:
        return f"the index says {entry.size:,} bytes, but {DTYPES[entry.dtype]} {entry.shape} takes {count * size:,}"
    return ""


def _slices_fault(key: bytes, whole: Entry, entries: Mapping[bytes, Entry]) -> str:
    for part in whole.slices:
        extents, entry = slices.resolve(part, whole.shape), entries.get(slices.key(key, part))
        if extents is None:
            return f"a slice (start, length) {part} lies outside of its shape {whole.shape}"
        if entry is None:
            return f"its slice (start, length) {part} is missing"
        if entry.slices or entry.dtype != whole.dtype or entry.shape != tuple(length for _, length in extents):
            return f"its slice (start, length) {part} has another shape or dtype"
    return ""


def _tensor(bundle: Bundle, key: bytes, entry: Entry) -> Tensor:
    if entry.dtype not in DTYPES:
        return unreadable(f"{_name(key)}: {unread(entry.dtype)}", () if shape_fault(entry.shape) else entry.shape)
    stream = None if entry.slices or entry.dtype == STRING else functools.partial(_stream, bundle, key, entry)
    return Tensor(entry.shape, DTYPES[entry.dtype], functools.partial(_value, bundle, key), stream)


def _stream(bundle: Bundle, key: bytes, entry: Entry) -> Iterator[np.ndarray]:
    crc = 0

    def see(piece: np.ndarray) -> None:
        nonlocal crc
        crc = google_crc32c.extend(crc, piece)

    raw = bundle.data[entry.shard][entry.offset : entry.offset + entry.size]
    yield from buffers.seen(raw, DTYPES[entry.dtype], see)
    if leveldb.masked(crc) != entry.crc:
        raise WeightsError(_bad_checksum(_place(bundle, key, entry)))


def _place(bundle: Bundle, key: bytes, entry: Entry) -> str:
    return f"{bundle.paths[entry.shard]}: {_name(key)}"


def _value(bundle: Bundle, key: bytes) -> np.ndarray:
    entry = bundle.entries[key]
    if not entry.slices:
        return _plain_value(bundle, key, entry)
    parts = [slices.resolve(part, entry.shape) or () for part in entry.slices]
    if not slices.tile(parts, entry.shape):
        raise WeightsError(f"{bundle.where} is corrupt: the slices of {_name(key)} overlap or leave gaps")
    result = np.empty(entry.shape, DTYPES[entry.dtype])
    for raw, part in zip(entry.slices, parts, strict=True):
        result[slices.index(part)] = _value(bundle, slices.key(key, raw))
    return result


def _plain_value(bundle: Bundle, key: bytes, entry: Entry) -> np.ndarray:
    where = _place(bundle, key, entry)
    raw, crc = bundle.data[entry.shard][entry.offset : entry.offset + entry.size], 0
    if entry.dtype == STRING:
        return _strings(buffers.fetched(raw), entry, where)

    def see(piece: np.ndarray) -> None:
        nonlocal crc
        crc = google_crc32c.extend(crc, piece)

    raw = buffers.copied(raw, buffers.aligned((len(raw),), raw.dtype), see)
    if leveldb.masked(crc) != entry.crc:
        raise WeightsError(_bad_checksum(where))
    return reading.array(raw, 0, DTYPES[entry.dtype], entry.shape, where)


def _strings(raw: np.ndarray, entry: Entry, where: str) -> np.ndarray:
    # WriteStringTensor: the lengths as varints, a checksum of the lengths as uint32 (uint64 beyond 4 GiB), the bytes.
    # The checksum of the entry runs on over the checksum of the lengths.
    content, position, lengths = raw.tobytes(), 0, []
    for _ in range(math.prod(entry.shape)):
        length, position = varint(content, position, where)
        lengths.append(length)
    crc = google_crc32c.value(b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths))
    crc = google_crc32c.extend(crc, content[position:])
    if leveldb.masked(crc) != entry.crc or position + 4 + sum(lengths) != len(content):
        raise WeightsError(_bad_checksum(where))
    result = np.empty(len(lengths), object)
    position += 4
    for at, length in enumerate(lengths):
        result[at] = content[position : position + length]
        position += length
    return result.reshape(entry.shape)


def _bad_checksum(where: str) -> str:
    return (
        f"{where} fails its checksum: the file is damaged, or belongs to another save than its .index; copy both again"
    )


def _name(key: bytes) -> str:
    return ("a slice of " if slices.is_key(key) else "") + _variable(key)


def _variable(key: bytes) -> str:
    name = key[1:].split(slices.NAME_END)[0] if slices.is_key(key) else key
    return name.decode(errors="replace")
