"""Files as bytes: mapped into memory for what is said in them, read for their values, never believed."""

from __future__ import annotations

import functools
import json
import math
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.formats.buffers import MappedFile
from tfxfer.formats.tensors import Tensor

LARGEST_MESSAGE = (1 << 31) - 1  # bytes


def map_file(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a file into memory, read-only, as uint8 of shape [bytes in the file].

    The mapping is for what is looked at while the file is opened. Later, and for all values, see `array`, `tensor`
    and `buffers.fetched`, which read: the file may be cut any time.

    Raises:
      WeightsError: the file is missing, is not a file, or may not be read.
    """
    try:
        with _regular(path) as file:
            if not os.fstat(file.fileno()).st_size:  # an empty file cannot be mapped
                return np.frombuffer(b"", np.uint8)
            return np.frombuffer(MappedFile.of(file.fileno(), os.fspath(path)), np.uint8)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def message(path: str | os.PathLike[str]) -> bytes:
    """Read a file that is one message of protocol buffers.

    Raises:
      OSError: it cannot be read.
      WeightsError: it is larger than any message can be. Nothing of it is read then.
    """
    size = os.stat(path).st_size
    if size > LARGEST_MESSAGE:
        raise WeightsError(
            f"{os.fspath(path)} has {size:,} bytes, and TensorFlow reads no graph of more than 2 GB from one file; "
            "take the network from a MetaGraph (.meta) and its checkpoint, or from a SavedModel"
        )
    return Path(path).read_bytes()


def head(path: Path, size: int) -> bytes:
    """Read the first bytes of a file; fewer where it is shorter, none where the file does not exist."""
    return _read(path, 0, size)


def tail(path: Path, size: int) -> bytes:
    """Read the last bytes of a file; fewer where it is shorter, none where the file does not exist."""
    return _read(path, -size, size)


def _read(path: Path, start: int, size: int) -> bytes:
    try:
        with _regular(path) as file:
            file.seek(start if start >= 0 else max(0, os.fstat(file.fileno()).st_size + start))
            return file.read(size)
    except (OSError, ValueError):
        return b""


def _regular(path: str | os.PathLike[str]) -> BinaryIO:
    # Opening a pipe would wait for somebody to write into it.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is not a regular file")
    return open(path, "rb")


def siblings(directory: Path) -> list[str]:
    """List the names in a directory, sorted; none where the directory does not exist."""
    try:
        return sorted(os.listdir(directory))
    except (OSError, ValueError):
        return []


def exists(path: Path) -> bool:
    """Say whether there is such a file; what the file system cannot even name is not there."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_directory(path: Path) -> bool:
    """Say whether there is such a directory."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


class Cursor:
    """A place in some bytes from which numbers and strings are read one after the other, little-endian."""

    def __init__(self, data: memoryview, where: str, position: int = 0) -> None:
        """Start at `position`; `where` names the file in the error messages."""
        self.data = data
        self.where = where
        self.position = position

    @property
    def left(self) -> int:
        """The number of bytes that are left."""
        return len(self.data) - self.position

    def take(self, count: int) -> memoryview:
        """Return the next bytes, as a view.

        Raises:
          WeightsError: there are not so many left.
        """
        start, self.position = self.position, self.position + count
        if not 0 <= start <= self.position <= len(self.data):
            raise WeightsError(f"{self.where} is cut short or corrupt: {count:,} bytes are missing at byte {start:,}")
        return self.data[start : self.position]

    def number(self, size: int) -> int:
        """Return the next `size` bytes as an unsigned integer."""
        return int.from_bytes(self.take(size), "little")

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        """Return the next numbers, whose sizes a struct gives."""
        return form.unpack(self.take(form.size))

    def until(self, stop: bytes, limit: int = 4096) -> bytes:
        """Return the bytes up to `stop` and go on behind it.

        Raises:
          WeightsError: `stop` does not come within `limit` bytes.
        """
        text, found, _ = bytes(self.data[self.position : self.position + limit]).partition(stop)
        if not found:
            raise WeightsError(f"{self.where} is cut short or corrupt: the text at byte {self.position:,} does not end")
        self.position += len(text) + len(stop)
        return text


def array(
    data: np.ndarray, offset: int, dtype: np.dtype, shape: tuple[int, ...], where: str, fortran: bool = False
) -> np.ndarray:
    """Read the bytes at `offset` as an array.

    Args:
      data: uint8 [n], as `map_file` makes it, or in memory.
      offset: the first byte.
      dtype: the dtype of the values in the file.
      shape: the shape of the result.
      where: the file, and the array in it, for the error message.
      fortran: whether the first index runs fastest; the result then is a transposed view.

    Returns:
      Read-only; in memory of its own where `data` is a mapped file. In the byte order of this machine.

    Raises:
      WeightsError: the bytes end beyond the end of the file, or the file has changed since it was opened.
    """
    size = _inside(data, offset, dtype, shape, where)
    native = dtype.newbyteorder("=")
    if not size:
        return np.empty(shape, native)
    raw = buffers.fetched(data[offset : offset + size])
    values = raw.view(dtype).reshape(shape, order="F" if fortran else "C")
    if not values.flags.aligned or dtype != native:
        values = values.astype(native)
    values.flags.writeable = False
    return values


def tensor(
    data: np.ndarray, offset: int, dtype: np.dtype, shape: tuple[int, ...], where: str, fortran: bool = False
) -> Tensor:
    """Describe the bytes at `offset` as an array that is not read yet; see `array`."""
    read = functools.partial(array, data, offset, dtype, shape, where, fortran)
    plain = not fortran and dtype.itemsize and math.prod(shape)
    stream = functools.partial(_stream, data, offset, dtype, shape, where) if plain else None
    return Tensor(shape, dtype.newbyteorder("="), read, stream)


def repeated(values: Callable[[], np.ndarray], dtype: np.dtype, shape: tuple[int, ...]) -> Tensor:
    """Describe an array that begins with some values, of which the last is repeated: a few bytes may stand for GiB.

    Args:
      values: returns a vector of one value or more; no more than the shape has, if it has any.
      dtype: of the values and of the array.
      shape: of the array.
    """

    def read() -> np.ndarray:
        array, first = np.empty(math.prod(shape), dtype), values()
        array[: len(first)] = first
        array[len(first) :] = first[-1]
        return array.reshape(shape)

    def stream() -> Iterator[np.ndarray]:
        first, size = values(), math.prod(shape)
        yield from (piece for (piece,) in buffers.pieces(first))
        piece = np.full(max(0, min(size - len(first), buffers.PIECE)), first[-1], dtype)
        for start in range(len(first), size, buffers.PIECE):
            yield piece[: size - start]

    return Tensor(shape, dtype, read, stream if math.prod(shape) else None)


def _stream(data: np.ndarray, offset: int, dtype: np.dtype, shape: tuple[int, ...], where: str) -> Iterator[np.ndarray]:
    size, native = _inside(data, offset, dtype, shape, where), dtype.newbyteorder("=")
    for piece in buffers.seen(data[offset : offset + size], dtype):
        yield piece.astype(native, copy=False)


def _inside(data: np.ndarray, offset: int, dtype: np.dtype, shape: tuple[int, ...], where: str) -> int:
    size = math.prod(shape) * dtype.itemsize
    if offset < 0 or offset + size > len(data):
        raise WeightsError(f"{where}: {size:,} bytes at {offset:,} go beyond the end of the file ({len(data):,} bytes)")
    return size


def parse_json(data: bytes, where: str, *, whole: bool = True) -> Any:
    """Parse JSON, if its values will not take more than some 32 MiB of memory, or 16 times its length.

    The header of a `.safetensors` file of any number of tensors takes less than that.

    Args:
      data: the text.
      where: the file, for the error message.
      whole: whether nothing may follow the first value.

    Raises:
      WeightsError: it is not JSON, is nested too deep, or would take too much memory.
    """
    # What Python needs for a dict, a list, a string and a reference; a hostile file is all brackets.
    cost = (
        232 * data.count(b"{") + 88 * data.count(b"[") + 35 * data.count(b'"') + 32 * data.count(b",") + 3 * len(data)
    )
    if cost > max(32 << 20, 16 * len(data)):
        raise WeightsError(f"{where}: {len(data):,} bytes of JSON with so many values are not a description of weights")
    try:
        return json.loads(data) if whole else json.JSONDecoder().raw_decode(data.decode("utf-8").lstrip())[0]
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{where}: its description is not JSON: {error}") from None
