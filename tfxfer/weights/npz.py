"""Numpy's `.npz` files: a zip archive with a `.npy` file for every array."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.weights import files, memory, npy, zips
from tfxfer.weights.tensors import Tensor, unreadable


def read(path: Path) -> dict[str, Tensor]:
    """List the arrays of an archive, in the order of its directory, from the headers of its members.

    Returns:
      Tensors by the name of the member without `.npy`. Values are checked against the CRC-32 of the archive when they
      are read; those that are stored uncompressed are views of the mapped file. Arrays of objects are listed and cannot
      be read.

    Raises:
      WeightsError: the archive is cut short or corrupt, or a member is no array.
    """
    data, where = files.map_file(path), str(path)
    return {
        name.removesuffix(".npy"): _tensor(data, member, where) for name, member in zips.members(data, where).items()
    }


def _tensor(data: np.ndarray, member: zips.Member, where: str) -> Tensor:
    place = f"{where}: member {member.name!r}"
    begin = memoryview(zips.unpack(data, member, min(member.size, npy.HEADER_BYTES), where))
    if begin[:6] != npy.MAGIC:
        raise WeightsError(f"{place} is no array: a .npz file holds .npy files and nothing else")
    shape, dtype, fortran, start = npy.header(begin, place)
    if dtype.hasobject:
        return unreadable(shape, f"{place} holds pickled objects, which tfxfer does not read from a .npz file")
    if member.size != start + math.prod(shape) * dtype.itemsize:
        raise WeightsError(
            f"{place} is corrupt: {dtype} {shape} takes {math.prod(shape) * dtype.itemsize:,} bytes, "
            f"{member.size - start:,} follow the header"
        )
    value = functools.partial(_value, data, member, start, (dtype, shape, fortran), where)
    # What lies in the file as it is in memory needs none.
    plain = member.method == zips.STORED and not fortran and dtype.isnative and dtype.itemsize
    stream = functools.partial(_stream, data, member, start, dtype, where) if plain else None
    return Tensor(shape, dtype.newbyteorder("="), value, stream)


def _value(
    data: np.ndarray, member: zips.Member, start: int, kind: tuple[np.dtype, tuple[int, ...], bool], where: str
) -> np.ndarray:
    dtype, shape, fortran = kind
    if member.method == zips.STORED:
        raw = data[member.offset : member.offset + member.size]
        if (member.offset + start) % dtype.alignment:
            return files.view(_moved(raw, member, start, where), 0, dtype, shape, where, fortran)
        zips.check(zlib.crc32(raw.data), member, where)  # type: ignore[arg-type]
        return files.view(raw, start, dtype, shape, where, fortran)
    values = np.empty(member.size - start, np.uint8)
    zips.unpack_into(data, member, start, values, where)
    return files.view(values, 0, dtype, shape, where, fortran)


def _stream(data: np.ndarray, member: zips.Member, start: int, dtype: np.dtype, where: str) -> Iterator[np.ndarray]:
    raw = data[member.offset : member.offset + member.size]
    crc = zlib.crc32(raw[:start].data)  # type: ignore[arg-type]

    def see(piece: np.ndarray) -> None:
        nonlocal crc
        crc = zlib.crc32(piece.data, crc)  # type: ignore[arg-type]

    yield from memory.seen(raw[start:], dtype, see)
    zips.check(crc, member, where)


def _moved(raw: np.ndarray, member: zips.Member, start: int, where: str) -> np.ndarray:
    """Copy the values of a member that are not aligned in the file, in one pass with the checksum."""
    crc = zlib.crc32(raw[:start].data)  # type: ignore[arg-type]

    def see(piece: np.ndarray) -> None:
        nonlocal crc
        crc = zlib.crc32(piece.data, crc)  # type: ignore[arg-type]

    values = memory.copied(raw[start:], memory.aligned((len(raw) - start,), raw.dtype), see)
    zips.check(crc, member, where)
    return values
