"""Rows of stored features, as heads take them: flat, normalised, and looked at a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tfxfer.data.batches import chunks
from tfxfer.data.finite import not_finite, refuse_not_finite
from tfxfer.data.normalization import FeatureStatistics
from tfxfer.data.splits import Images

READ = 256  # rows at once


def statistics(rows: Images, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale of each feature over some rows (integers [m]), a few of them in memory at a time."""
    by = FeatureStatistics()
    for chunk in chunks(len(indices), READ):
        by.add(np.asarray(rows[indices[chunk]], np.float32))
    return by.mean_and_scale()


def pieces(rows: Images) -> Iterator[np.ndarray]:
    """Yield all rows, a few at a time, as float32 [m, k]."""
    for chunk in chunks(len(rows), READ):
        yield flat(rows[chunk])


def flat(values: np.ndarray) -> np.ndarray:
    """Return rows [n, ...] as float32 [n, k]."""
    return np.asarray(values, np.float32).reshape(len(values), -1)


def width(rows: Images) -> int:
    """Return how many numbers a row has."""
    return int(np.prod(rows.shape[1:], dtype=np.int64))


def check_finite(rows: Images, name: str, examples: Sequence[str] | None = None) -> None:
    """Refuse features that are not numbers.

    Args:
      rows: float [n, ...].
      name: what they are called.
      examples: what each row is called, as the path of its picture. Default: its number.

    Raises:
      DataError: some are NaN or infinite; the first are named.
    """
    wrong = [READ * number + place for number, piece in enumerate(pieces(rows)) for place in not_finite(piece)]
    refuse_not_finite(
        wrong, len(rows), lambda row: examples[row] if examples else f"example {row}", f"{name}: features"
    )
