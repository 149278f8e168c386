"""Numpy's `.npz` files: a zip archive with a `.npy` file for every array, or a pickle of many."""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, reading, zip_members
from tfxfer.formats.tensors import Tensor, unreadable
from tfxfer.weights import npy, npy_dict

MAX_UNPACKED = 32 << 20  # bytes of a compressed pickle, which has to be unpacked whole


def read(path: Path) -> dict[str, Tensor]:
    """List the arrays of an archive, in the order of its directory, from the headers of its members.

    Returns:
      Tensors by the name of the member without `.npy`, or with it where there also is a member without. Of a member
      that is a pickled list or dict, every array under the name of the member and what leads to it: `params/0`. Values
      are checked against the CRC-32 of the archive when they are read. What is no array of numbers, booleans or strings
      is listed with the reason and refuses to be read; folders are left out.

    Raises:
      WeightsError: the archive is cut short or corrupt.
    """
    data, where = reading.map_file(path), str(path)
    members = {name: member for name, member in zip_members.members(data, where).items() if not name.endswith("/")}
    found: dict[str, Tensor] = {}
    for name, member in members.items():
        bare = name.removesuffix(".npy")
        chosen = name if bare != name and bare in members else bare
        for inner, tensor in _tensors(data, member, where).items():
            full = f"{chosen}/{inner}" if inner else chosen
            if full in found or (inner and full in members):
                raise WeightsError(f"{where}: two arrays would both be called {full}")
            found[full] = tensor
    return found


def _tensors(data: np.ndarray, member: zip_members.Member, where: str) -> dict[str, Tensor]:
    """List what is in a member: one array without a name, or those of a pickle by what leads to them."""
    place = f"{where}: member {member.name!r}"
    begin = memoryview(zip_members.unpack(data, member, min(member.size, npy.HEADER_BYTES), where))
    if begin[:6] != npy.MAGIC:
        return {"": unreadable(f"{place} is not an array: it is not a .npy file")}
    try:
        shape, dtype, fortran, start = npy.header(begin, place)
    except npy.NotNumbersError as error:
        return {"": unreadable(str(error))}
    if dtype.hasobject:
        return _pickled(data, member, start, where)
    if member.size != start + math.prod(shape) * dtype.itemsize:
        raise WeightsError(
            f"{place} is corrupt: {dtype} {shape} takes {math.prod(shape) * dtype.itemsize:,} bytes, "
            f"{member.size - start:,} follow the header"
        )
    value = functools.partial(_value, data, member, start, (dtype, shape, fortran), where)
    # What lies in the file as it is in memory needs none.
    plain = member.method == zip_members.STORED and not fortran and dtype.isnative and dtype.itemsize
    stream = functools.partial(_stream, data, member, start, dtype, where) if plain else None
    return {"": Tensor(shape, dtype.newbyteorder("="), value, stream)}


def _pickled(data: np.ndarray, member: zip_members.Member, start: int, where: str) -> dict[str, Tensor]:
    place = f"{where}: member {member.name!r}"
    if member.method != zip_members.STORED and member.size > MAX_UNPACKED:
        return {
            "": unreadable(
                f"{place} is a compressed pickle of {member.size:,} bytes, more than {MAX_UNPACKED:,}; unzip "
                f"the archive and open {member.name}"
            )
        }
    content = zip_members.whole(data, member, where)
    check = functools.cache(lambda: zip_members.check(zip_members.crc(content), member, where))
    try:
        found = npy_dict.read(content, start, place)
    except WeightsError as error:
        return {"": unreadable(str(error))}
    if not found:
        return {"": unreadable(f"{place} holds pickled objects, and no arrays among them")}
    return {"" if name == npy.PLAIN else name: _with(tensor, check) for name, tensor in found.items()}


def _with(tensor: Tensor, check: Callable[[], None]) -> Tensor:
    if tensor.fault:
        return tensor
    return dataclasses.replace(tensor, read=functools.partial(_checked, tensor, check), stream=None)


def _checked(tensor: Tensor, check: Callable[[], None]) -> np.ndarray:
    # The member has one checksum for all its arrays; it is taken when the first of them is read.
    check()
    return tensor.read()


def _value(
    data: np.ndarray, member: zip_members.Member, start: int, kind: tuple[np.dtype, tuple[int, ...], bool], where: str
) -> np.ndarray:
    dtype, shape, fortran = kind
    if member.method == zip_members.STORED:
        raw = data[member.offset : member.offset + member.size]
        return reading.array(_copied(raw, member, start, where), 0, dtype, shape, where, fortran)
    values = np.empty(member.size - start, np.uint8)
    zip_members.unpack_into(data, member, start, values, where)
    return reading.array(values, 0, dtype, shape, where, fortran)


def _stream(
    data: np.ndarray, member: zip_members.Member, start: int, dtype: np.dtype, where: str
) -> Iterator[np.ndarray]:
    raw = data[member.offset : member.offset + member.size]
    crc = zip_members.crc(raw[:start])

    def see(piece: np.ndarray) -> None:
        nonlocal crc
        crc = zlib.crc32(piece.data, crc)  # type: ignore[arg-type]

    yield from buffers.seen(raw[start:], dtype, see)
    zip_members.check(crc, member, where)


def _copied(raw: np.ndarray, member: zip_members.Member, start: int, where: str) -> np.ndarray:
    """Copy the values of a member, in one pass with the checksum."""
    crc = zip_members.crc(raw[:start])

    def see(piece: np.ndarray) -> None:
        nonlocal crc
        crc = zlib.crc32(piece.data, crc)  # type: ignore[arg-type]

    values = buffers.copied(raw[start:], buffers.aligned((len(raw) - start,), raw.dtype), see)
    zip_members.check(crc, member, where)
    return values
