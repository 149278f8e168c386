"""What the values of an array are like: some numbers about them, a piece at a time, in float64."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfxfer.formats.tensors import Tensor
from tfxfer.weights import streams

FLOAT, INTEGER, BOOL, COMPLEX, TEXT = "float", "integer", "bool", "complex", "text"
_KINDS = {"f": FLOAT, "i": INTEGER, "u": INTEGER, "b": BOOL, "c": COMPLEX}


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Numbers about the values of an array.

    Attributes:
      mean, std, min, max: of the finite values; None where there are none such, and of complex numbers.
      zeros, nan, inf: how many there are of each.
    """

    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    zeros: int
    nan: int
    inf: int


def kind(dtype: np.dtype) -> str:
    """Return FLOAT, INTEGER, BOOL, COMPLEX or TEXT; those of ml_dtypes are floats and integers too."""
    if dtype.name.startswith(("float", "bfloat")):
        return FLOAT
    if dtype.name.startswith(("int", "uint")):
        return INTEGER
    return _KINDS.get(dtype.kind, TEXT)


def statistics(tensor: Tensor) -> Statistics | None:
    """Take the statistics of an array in one pass; None for text.

    Raises:
      WeightsError: the values are missing or fail their checksum.
    """
    if kind(tensor.dtype) == TEXT:
        return None
    count, mean, spread, low, high = 0, 0.0, 0.0, math.inf, -math.inf
    zeros = nan = inf = 0
    for piece in streams.pieces(tensor):
        zeros += int(np.count_nonzero(piece == 0))
        nan, inf = (before + more for before, more in zip((nan, inf), not_finite(piece), strict=True))
        values = _finite(piece)
        if values.size:
            # Chan, Golub, LeVeque (1983): the squares are taken from the mean of the piece, which loses no digits.
            with np.errstate(over="ignore", invalid="ignore"):
                centre = values.mean()
                step, total = centre - mean, count + values.size
                spread += np.square(values - centre).sum() + step * step * count * values.size / total
                mean, count = mean + step * values.size / total, total
            low, high = min(low, *_ends(piece, values)), max(high, *_ends(piece, values))
    if not count:
        return Statistics(None, None, None, None, zeros, nan, inf)
    return Statistics(_number(mean), _number(math.sqrt(spread / count)), low, high, zeros, nan, inf)


def not_finite(piece: np.ndarray) -> tuple[int, int]:
    """Count NaN and infinite values."""
    if kind(piece.dtype) not in (FLOAT, COMPLEX):
        return 0, 0
    finite = np.isfinite(piece)
    if finite.all():
        return 0, 0
    nan = int(np.count_nonzero(np.isnan(piece)))
    return nan, int(piece.size - np.count_nonzero(finite)) - nan


def as_float64(piece: np.ndarray) -> np.ndarray:
    """Return numbers as float64, complex ones as complex128."""
    return piece.astype(np.complex128 if piece.dtype.kind == "c" else np.float64)


def _finite(piece: np.ndarray) -> np.ndarray:
    """Return the finite values, none of complex numbers."""
    if piece.dtype.kind == "c":
        return np.empty(0)
    values = as_float64(piece)
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]


def _ends(piece: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    # Of integers as they are: float64 does not hold each one beyond 2**53.
    exact = piece if piece.dtype.kind in "iu" else values
    return exact.min().item(), exact.max().item()


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
