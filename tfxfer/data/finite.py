"""Features that are not numbers: which rows have them, and the one message that refuses these."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfxfer.data.pictures import shortened
from tfxfer.errors import DataError


def not_finite(rows: np.ndarray) -> np.ndarray:
    """Return the places of rows that hold NaN or infinite numbers, int64 [m], of rows [n, ...]."""
    return np.flatnonzero(~np.isfinite(rows).all(axis=tuple(range(1, rows.ndim))))


def refuse_not_finite(
    places: Sequence[int] | np.ndarray, count: int, name: Callable[[int], str], features: str = "features"
) -> None:
    """Refuse features if there are rows that hold NaN or infinite numbers.

    Args:
      places: of these rows.
      count: of all rows.
      name: says what example a row is of, as the path of its picture.
      features: what they are called.

    Raises:
      DataError: there are such rows; the first 20 examples are named.
    """
    if len(places):
        head = (
            f"{features} of {len(places):,} of {count:,} examples are NaN or infinite; leave these examples out, or "
            "look at the weights that computed them:"
        )
        raise DataError("\n  ".join([head, *shortened([name(int(place)) for place in places])]))
