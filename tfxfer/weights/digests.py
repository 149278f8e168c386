"""Digests of arrays, by which a value is known again: in run directories, and in files of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfxfer.formats import buffers

METHOD = "SHA-256 of dtype, shape and bytes"
_NAMELESS = "<V1"  # `dtype.str` of most dtypes of ml_dtypes that take a byte, of int4 and float8_e4m3fn alike


def digest(value: Any) -> str:
    """Return the SHA-256 of dtype, shape and bytes, in hexadecimal; -0.0 and 0.0 differ, and so do two NaN.

    Args:
      value: an array, or what numpy makes one of. No copy is made of it, however large it is.
    """
    array = np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
    return running(array.dtype, array.shape, (piece for (piece,) in buffers.pieces(array)))


def running(dtype: np.dtype, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> str:
    """Return the digest of an array that comes in pieces, flat and in the order of C."""
    what = dtype.name if dtype.str == _NAMELESS else dtype.str
    found = hashlib.sha256(f"{what} {shape} ".encode())
    if dtype.hasobject:  # strings, whose bytes here are addresses
        flat = [item for piece in pieces for item in piece.tolist()]
        found.update(repr(np.array([*flat, None], object)[:-1].reshape(shape).tolist()).encode())
    else:
        for piece in pieces:
            found.update(piece.view(np.uint8).data)
    return found.hexdigest()
