"""Files as bytes: mapped into memory, sliced with checks, never believed."""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path

import numpy as np

from tfxfer.errors import WeightsError


def map_file(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a file into memory, read-only, as uint8 of shape [bytes in the file].

    Raises:
      WeightsError: the file is missing, no regular file, or may not be read.
    """
    try:
        with open(path, "rb") as file:
            # An empty file cannot be mapped, and a pipe or a device has no size.
            if not os.fstat(file.fileno()).st_size:
                return np.frombuffer(b"", np.uint8)
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {_reason(error)}") from None


def head(path: str | os.PathLike[str], size: int) -> bytes:
    """Read the first `size` bytes of a file, fewer if it is shorter.

    Raises:
      WeightsError: the file is missing, no file, or may not be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {_reason(error)}") from None


def tail(path: Path, size: int) -> bytes:
    """Read the last `size` bytes of a file; the empty string where there is no such file or it is shorter."""
    try:
        with open(path, "rb") as file:
            file.seek(-size, os.SEEK_END)
            return file.read(size)
    except (OSError, ValueError):
        return b""


def siblings(directory: Path) -> list[str]:
    """List the names in a directory, sorted; nothing where there is no such directory."""
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


def array_at(data: np.ndarray, offset: int, dtype: np.dtype, shape: tuple[int, ...], where: str) -> np.ndarray:
    """View the bytes at `offset` as an array, read-only, in C order; copied only where they are not aligned.

    Args:
      data: uint8 [n], as `map_file` makes it.
      offset: the first byte.
      dtype: the dtype of the values in the file.
      shape: the shape of the result.
      where: the file, and the array in it, for the message.

    Raises:
      WeightsError: the bytes end beyond the end of the file.
    """
    size = math.prod(shape) * dtype.itemsize
    if offset < 0 or offset + size > len(data):
        raise WeightsError(f"{where}: {size:,} bytes at {offset:,} go beyond the end of the file ({len(data):,} bytes)")
    if not size:
        return np.empty(shape, dtype)
    array = data[offset : offset + size].view(dtype).reshape(shape)
    if array.flags.aligned:
        return array
    copied = array.copy()
    copied.flags.writeable = False
    return copied


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
