"""Memory for arrays out of files: of our own, aligned, filled by `pread`.

A file is mapped for its headers. Its values are never touched through the mapping: where somebody cuts the file, that
raises SIGBUS, which ends the process. `pread` then only reads too little, and `MappedFile` says that the file changed.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tfxfer.errors import WeightsError

# TensorFlow takes an array over without a copy if it begins at a multiple of this (EIGEN_MAX_ALIGN_BYTES).
ALIGNMENT = 64
PIECE = 1 << 20
LARGE = 16 << 20
CACHED = 1 << 18  # bytes that stay in a processor's cache from one use to the next


class MappedFile(mmap.mmap):
    """A file mapped read-only, which is also kept open, so that its values can be read in other ways.

    A file that is put in the place of this one by a rename changes nothing here: what was opened is still read.

    Attributes:
      path: the file as it was named.
    """

    path: str
    _handle: int
    _stamp: tuple[int, int]

    @classmethod
    def of(cls, handle: int, path: str) -> MappedFile:
        """Map an open file that is not empty; `handle` may be closed afterwards."""
        mapped = cls(handle, 0, access=mmap.ACCESS_READ)
        mapped.path = path
        mapped._handle = os.dup(handle)
        weakref.finalize(mapped, os.close, mapped._handle)
        mapped._stamp = mapped._looked_at()
        return mapped

    def check(self) -> None:
        """Refuse to go on if the file was cut or written to since it was opened.

        Raises:
          WeightsError: its size or its time of modification are not what they were.
        """
        if self._looked_at() != self._stamp:
            raise self._changed()

    def read_into(self, out: np.ndarray, offset: int) -> None:
        """Fill a contiguous vector of uint8 with the bytes of the file from `offset` on.

        Raises:
          WeightsError: the file ends before, or it cannot be read.
        """
        filled = 0
        while filled < len(out):
            try:
                count = os.preadv(self._handle, [out[filled:].data], offset + filled)
            except OSError as error:
                raise WeightsError(f"{self.path} cannot be read: {error.strerror}") from None
            if not count:
                raise self._changed()
            filled += count

    def _looked_at(self) -> tuple[int, int]:
        status = os.fstat(self._handle)
        return status.st_size, status.st_mtime_ns

    def _changed(self) -> WeightsError:
        return WeightsError(
            f"{self.path} has changed since it was opened: it was cut, or written anew in place. Open it again; "
            "whoever writes it should write beside it and rename"
        )


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of undefined values whose first byte lies at a multiple of 64."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    skip = -memory.__array_interface__["data"][0] % ALIGNMENT
    return memory[skip : skip + size].view(dtype).reshape(shape)


def copied(raw: np.ndarray, out: np.ndarray, see: Callable[[np.ndarray], object] = lambda piece: None) -> np.ndarray:
    """Copy bytes into an array piece by piece; those of a mapped file are read, and not touched in the mapping.

    Args:
      raw: uint8 [n], contiguous; part of a mapped file or not.
      out: a contiguous array of n bytes, which is filled and returned.
      see: called with each piece of `out`, in order: a checksum. Of a large array this is done in a thread, while the
        next piece is read.

    Raises:
      WeightsError: the file has changed since it was opened.
    """
    flat = out.reshape(-1).view(np.uint8)
    if len(raw) > LARGE:
        with ThreadPoolExecutor(1, "tfxfer-copy") as pool:
            seen = [pool.submit(see, piece) for piece in _filled(raw, flat, LARGE)]
            for each in seen:
                each.result()
        return out
    for piece in _filled(raw, flat, PIECE):
        see(piece)
    return out


def _filled(raw: np.ndarray, flat: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """Fill `flat` with the bytes of `raw`, and yield each piece when it is there."""
    _check(raw)
    for start in range(0, len(raw), step):
        target = flat[start : start + step]
        _fetch(raw[start : start + step], target)
        yield target
    _check(raw)


def _fetch(piece: np.ndarray, target: np.ndarray) -> None:
    mapping = _mapping(piece)
    if mapping is not None and isinstance(mapping[0], MappedFile):
        mapping[0].read_into(target, mapping[1])
    else:
        target[:] = piece


def _check(raw: np.ndarray) -> None:
    mapping = _mapping(raw)
    if mapping is not None and isinstance(mapping[0], MappedFile):
        mapping[0].check()


def fetched(raw: np.ndarray) -> np.ndarray:
    """Return bytes in memory that nobody else writes to: of a mapped file a copy, else themselves.

    Args:
      raw: uint8 [n], contiguous.

    Raises:
      WeightsError: the file has changed since it was opened.
    """
    if _mapping(raw) is None:
        return raw
    return copied(raw, aligned((len(raw),), np.dtype(np.uint8)))


def checked(raw: np.ndarray) -> np.ndarray:
    """Return `raw` if it is still what it was: before something is looked at in the mapping itself.

    Raises:
      WeightsError: it is part of a file that has changed since it was opened.
    """
    _check(raw)
    return raw


def owned(array: np.ndarray) -> np.ndarray:
    """Return the array in memory of its own: a copy if it lies in a mapped file, which somebody may write to or cut.

    The copy is aligned, so that a variable can take it over. What lies in memory already is returned as it is.
    """
    if _mapping(array) is None:
        return array
    if not array.flags.c_contiguous:
        return array.copy()
    return copied(array.reshape(-1).view(np.uint8), aligned(array.shape, array.dtype))


def pieces(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Go through arrays of one shape side by side, each in the order of its indices, the last the fastest.

    Yields:
      Tuples of contiguous vectors, one of each array, of PIECE values or fewer; what is looked at is used up before
      the next.
    """
    if not arrays[0].size:
        return
    if all(array.flags.c_contiguous for array in arrays):
        flat = [array.reshape(-1) for array in arrays]
        for start in range(0, flat[0].size, PIECE):
            yield tuple(array[start : start + PIECE] for array in flat)
        return
    options: Any = {
        "flags": ["external_loop", "buffered", "refs_ok"],
        "op_flags": [["readonly", "contig"]] * len(arrays),
    }
    every: Any = np.nditer(arrays, order="C", buffersize=PIECE, **options)
    for values in every:
        yield values if len(arrays) > 1 else (values,)


def seen(
    raw: np.ndarray, dtype: np.dtype, see: Callable[[np.ndarray], object] = lambda piece: None
) -> Iterator[np.ndarray]:
    """Go through bytes once, piece by piece, in little memory.

    Args:
      raw: uint8 [n], contiguous; part of a mapped file or not, aligned or not.
      dtype: of the values in the bytes.
      see: called with each piece of bytes before it is yielded: a checksum, which brings it to the processor's cache.

    Yields:
      Vectors of the values; each is overwritten when the next is asked for.

    Raises:
      WeightsError: the file has changed since it was opened.
    """
    step = max(1, CACHED // dtype.itemsize) * dtype.itemsize
    buffer = aligned((min(step, len(raw)),), np.dtype(np.uint8))
    _check(raw)
    for start in range(0, len(raw), step):
        piece = buffer[: len(raw[start : start + step])]
        _fetch(raw[start : start + step], piece)
        see(piece)
        yield piece.view(dtype)
    _check(raw)


def _mapping(array: np.ndarray) -> tuple[mmap.mmap, int] | None:
    """Return the mapped file that an array lies in and where in it, or None if it lies in none."""
    root, base = array, array.base
    while isinstance(base, np.ndarray):
        root, base = base, base.base
    found: Any = base.obj if isinstance(base, memoryview) else base
    if not isinstance(found, mmap.mmap):
        return None
    return found, array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
