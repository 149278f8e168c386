"""Numpy's `.npz` files: a zip archive with a `.npy` file for every array, or a pickle of many."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, reading, zip_members
from tfxfer.formats.tensors import Tensor, unreadable
from tfxfer.formats.zip_members import Member
from tfxfer.weights import npy, npy_dict

MAX_UNPACKED = 32 << 20  # bytes of a compressed pickle, which has to be unpacked whole


def read(path: Path) -> dict[str, Tensor]:
    """List the arrays of an archive, in the order of its directory, from the headers of its members.

    Returns:
      Tensors by the name of the member without `.npy`, or with it where there also is a member without. Of a member
      that is a pickled list or dict, every array under the name of the member and what leads to it: `params/0`. Values
      are checked against the CRC-32 of the archive when they are read. What is not an array of numbers, booleans or
      strings is listed with the reason and refuses to be read; folders are left out.

    Raises:
      WeightsError: the archive is cut short or corrupt.
    """
    data, where = reading.map_file(path), str(path)
    members = {name: member for name, member in zip_members.members(data, where).items() if not name.endswith("/")}
    tensors: dict[str, Tensor] = {}
    for name, member in members.items():
        bare = name.removesuffix(".npy")
        chosen = name if bare != name and bare in members else bare
        for inner, tensor in _tensors(member).items():
            full = f"{chosen}/{inner}" if inner else chosen
            if full in tensors or (inner and full in members):
                raise WeightsError(f"{where}: two arrays would both be called {full}")
            tensors[full] = tensor
    return tensors


def _tensors(member: Member) -> dict[str, Tensor]:
    """List what is in a member: one array without a name, or those of a pickle by what leads to them."""
    begin = memoryview(member.head(min(member.size, npy.HEADER_BYTES)))
    if begin[:6] != npy.MAGIC:
        return {"": unreadable(f"{member} is not an array: it is not a .npy file")}
    try:
        shape, dtype, fortran, start = npy.header(begin, str(member))
    except npy.NotNumbersError as error:
        return {"": unreadable(str(error))}
    if dtype.hasobject:
        return _pickled(member, start)
    if member.size != start + math.prod(shape) * dtype.itemsize:
        raise WeightsError(
            f"{member} is corrupt: {dtype} {shape} takes {math.prod(shape) * dtype.itemsize:,} bytes, "
            f"{member.size - start:,} follow the header"
        )

    def read() -> np.ndarray:
        return reading.array(_values(member, start), 0, dtype, shape, member.where, fortran)

    # What lies in the file as it is in memory needs no array.
    plain = member.stored and not fortran and dtype.isnative and dtype.itemsize
    stream = functools.partial(_stream, member, start, dtype) if plain else None
    return {"": Tensor(shape, dtype.newbyteorder("="), read, stream)}


def _pickled(member: Member, start: int) -> dict[str, Tensor]:
    if not member.stored and member.size > MAX_UNPACKED:
        return {
            "": unreadable(
                f"{member} is a compressed pickle of {member.size:,} bytes, more than {MAX_UNPACKED:,}; unzip "
                f"the archive and open {member.info.filename}"
            )
        }
    content = member.whole()
    try:
        tensors = npy_dict.read(content, start, str(member))
    except WeightsError as error:
        return {"": unreadable(str(error))}
    if not tensors:
        return {"": unreadable(f"{member} holds pickled objects, and no arrays among them")}
    named = {"" if name == npy.PLAIN else name: tensor for name, tensor in tensors.items()}
    return zip_members.checked_once(named, member, content)


def _values(member: Member, start: int) -> np.ndarray:
    """Return the bytes behind the header in memory, uint8 [size - start]; the checksum is taken in the same pass."""
    values = buffers.aligned((member.size - start,), np.dtype(np.uint8))
    if member.stored:
        crc = _Crc(member.packed[:start])
        buffers.copied(member.packed[start:], values, crc.add)
        member.check(crc.value)
    else:
        member.unpack_into(start, values)
    return values


def _stream(member: Member, start: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    crc = _Crc(member.packed[:start])
    yield from buffers.seen(member.packed[start:], dtype, crc.add)
    member.check(crc.value)


class _Crc:
    """A CRC-32 that is taken piece by piece."""

    def __init__(self, begin: np.ndarray) -> None:
        self.value = zip_members.crc(begin)

    def add(self, piece: np.ndarray) -> None:
        self.value = zlib.crc32(piece.data, self.value)  # type: ignore[arg-type]
