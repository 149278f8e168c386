"""The one noun that every reader makes: an array that lies in a file and has not been read yet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

from tfxfer.errors import WeightsError

MAX_DIMENSIONS = 64  # what numpy can hold
_MOST_BYTES = 1 << 63  # of an array, for numpy
_WIDEST = 32  # bytes of a number


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array in a file, known from its header.

    Attributes:
      shape: its dimensions, none negative.
      dtype: its numpy dtype (`object` for TensorFlow's strings; `ml_dtypes.bfloat16` for bfloat16).
      read: reads the values: a new or read-only array of exactly this shape and dtype. Raises WeightsError
        where the bytes are missing or fail their checksum.
      stream: yields the same values, flat and in the order of C, some MiB at a time; what a checksum says comes with
        the last. None where only `read` gives the values; see `streams.pieces`.
      fault: why this entry of a file cannot be read as an array, in words; empty where it can. `open_weights` keeps
        such entries in `Weights.skipped`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    stream: Callable[[], Iterator[np.ndarray]] | None = None
    fault: str = ""

    @property
    def size(self) -> int:
        """The number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that the values take in memory; for strings, of the references alone."""
        return self.size * self.dtype.itemsize


def shape_fault(shape: tuple[int, ...], itemsize: int = _WIDEST) -> str:
    """Say why numpy can hold no array of this shape; the empty string where it can.

    Args:
      shape: the shape.
      itemsize: bytes of an element, for strings; any number is taken for a wide one.
    """
    if len(shape) > MAX_DIMENSIONS:
        return f"a shape of more than {MAX_DIMENSIONS} dimensions is none that numpy can hold"
    if min(shape, default=0) < 0:
        return f"the shape {shape} is negative"
    # numpy multiplies the dimensions that are not zero, even if one other is.
    if math.prod(size for size in shape if size) * max(itemsize, _WIDEST) >= _MOST_BYTES:
        return f"the shape {shape} is too large for any array"
    return ""


def unreadable(why: str, shape: tuple[int, ...] = ()) -> Tensor:
    """Make a tensor of objects that is listed with its reason and refuses to be read.

    Args:
      why: what is wrong, as a sentence about the entry: the message of the WeightsError that reading it raises.
      shape: its shape as the file says.
    """

    def refuse() -> np.ndarray:
        raise WeightsError(why)

    return Tensor(shape, np.dtype(object), refuse, fault=why)


def shown(faults: list[str], limit: int = 10) -> str:
    """Put faults on lines of their own; what goes beyond `limit` is counted instead."""
    more = [f"and {len(faults) - limit} more"] if len(faults) > limit else []
    return "\n  ".join(faults[:limit] + more)
