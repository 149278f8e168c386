"""Memory for arrays out of files: of our own, aligned, and given back when it was only a view of a mapped file."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

# TensorFlow takes an array over without a copy if it begins at a multiple of this (EIGEN_MAX_ALIGN_BYTES).
ALIGNMENT = 64
PIECE = 1 << 20


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of undefined values whose first byte lies at a multiple of 64."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    skip = -memory.__array_interface__["data"][0] % ALIGNMENT
    return memory[skip : skip + size].view(dtype).reshape(shape)


def copied(raw: np.ndarray, out: np.ndarray, see: Callable[[np.ndarray], object] = lambda piece: None) -> np.ndarray:
    """Copy bytes into an array piece by piece, and give the memory of a mapped file back as it goes.

    Args:
      raw: uint8 [n], a view of a mapped file or not.
      out: a contiguous array of n bytes, which is filled and returned.
      see: called with each piece before it is copied: a checksum, which then finds it in the processor's cache.
    """
    flat = out.reshape(-1).view(np.uint8)
    for start in range(0, len(raw), PIECE):
        piece = raw[start : start + PIECE]
        see(piece)
        flat[start : start + PIECE] = piece
        release(piece)
    return out


def owned(array: np.ndarray) -> np.ndarray:
    """Return the array in memory of its own: a copy if it lies in a mapped file, which somebody may write to or cut.

    The copy is aligned, so that a variable can take it over. What lies in memory already is returned as it is.
    """
    if _mapping(array) is None:
        return array
    if not array.flags.c_contiguous:
        return array.copy()
    return copied(array.reshape(-1).view(np.uint8), aligned(array.shape, array.dtype))


def release(array: np.ndarray) -> None:
    """Give the memory of an array in a mapped file back; it can still be read, and is then fetched again.

    Without this, all that was ever read of a file counts as memory of the process. Other arrays are left alone.
    """
    mapping = _mapping(array)
    if mapping is None or not array.nbytes:
        return
    base, begin = mapping
    first = begin // mmap.PAGESIZE * mmap.PAGESIZE
    base.madvise(mmap.MADV_DONTNEED, first, begin + array.nbytes - first)


def _mapping(array: np.ndarray) -> tuple[mmap.mmap, int] | None:
    """Return the mapped file that an array lies in and where in it, or None if it lies in none."""
    root, base = array, array.base
    while isinstance(base, np.ndarray):
        root, base = base, base.base
    found: Any = base.obj if isinstance(base, memoryview) else base
    if not isinstance(found, mmap.mmap):
        return None
    return found, array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
