"""Memory for arrays out of files: of our own, aligned, and given back when it was only a view of a mapped file."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

# TensorFlow takes an array over without a copy if it begins at a multiple of this (EIGEN_MAX_ALIGN_BYTES).
ALIGNMENT = 64
PIECE = 1 << 20
LARGE = 16 << 20
CACHED = 1 << 18  # bytes that stay in a processor's cache from one use to the next


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
      see: called with each piece, in order: a checksum. Of a large array this is done in a thread, while the piece is
        copied; else before, so that the copy finds it in the processor's cache.
    """
    flat = out.reshape(-1).view(np.uint8)
    if len(raw) > LARGE:
        with ThreadPoolExecutor(1, "tfxfer-copy") as pool:
            for start in range(0, len(raw), LARGE):
                piece = raw[start : start + LARGE]
                seen = pool.submit(see, piece)
                flat[start : start + LARGE] = piece
                seen.result()
                release(piece)
        return out
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


def pieces(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Go through arrays of one shape side by side, each in the order of its indices, the last the fastest.

    Yields:
      Tuples of contiguous vectors, one of each array, of PIECE values or fewer; what is looked at is used up before
      the next. The memory of mapped files is given back on the way.
    """
    if not arrays[0].size:
        return
    if all(array.flags.c_contiguous for array in arrays):
        flat = [array.reshape(-1) for array in arrays]
        for start in range(0, flat[0].size, PIECE):
            found = tuple(array[start : start + PIECE] for array in flat)
            yield found
            for piece in found:
                release(piece)
        return
    options: Any = {
        "flags": ["external_loop", "buffered", "refs_ok"],
        "op_flags": [["readonly", "contig"]] * len(arrays),
    }
    every: Any = np.nditer(arrays, order="C", buffersize=PIECE, **options)
    for values in every:
        yield values if len(arrays) > 1 else (values,)
    for array in arrays:
        release(array)


def seen(raw: np.ndarray, dtype: np.dtype, see: Callable[[np.ndarray], object]) -> Iterator[np.ndarray]:
    """Go through bytes once, piece by piece, and give the memory of a mapped file back on the way.

    Args:
      raw: uint8 [n], a view of a mapped file or not, aligned or not.
      dtype: of the values in the bytes.
      see: called with each piece of bytes before it is yielded: a checksum, which brings it to the processor's cache.

    Yields:
      Vectors of the values.
    """
    step = max(1, CACHED // dtype.itemsize) * dtype.itemsize
    for start in range(0, len(raw), step):
        piece = raw[start : start + step]
        see(piece)
        yield piece.view(dtype)
        release(piece)


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
