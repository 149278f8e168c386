"""Features brought to one scale, by statistics of those that are trained on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfxfer.data.batches import chunks
from tfxfer.data.splits import Images
from tfxfer.errors import DataError

KINDS = ("standard", "l2", "none")
EPSILON = 1e-6  # added to the variance
LEAST = 1e-12  # of a length
ROWS = 256  # read at once


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What features are normalised by.

    Attributes:
      mean: float32 [k].
      scale: float32 [k], 1 / sqrt(variance + 1e-6).
    """

    mean: np.ndarray
    scale: np.ndarray


def statistics(rows: Images, indices: np.ndarray) -> Statistics:
    """Compute mean and scale of each feature over some rows (integers [m]), a few of them in memory at a time."""
    total, squares = np.zeros(width(rows)), np.zeros(width(rows))
    for chunk in chunks(len(indices), ROWS):
        values = flat(rows[indices[chunk]]).astype(np.float64)
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
    mean = total / len(indices)
    variance = np.maximum(squares / len(indices) - mean**2, 0)
    return Statistics(mean.astype(np.float32), (1 / np.sqrt(variance + EPSILON)).astype(np.float32))


def normalized(values: np.ndarray, kind: str, by: Statistics | None) -> np.ndarray:
    """Return features float32 [n, k], normalised.

    Args:
      values: float32 [n, k].
      kind: "standard", (x - mean) * scale; "l2", each row of length 1; "none", as they are.
      by: what "standard" takes.
    """
    if kind == "none" or (kind == "standard" and by is None):
        return values
    if kind == "l2":
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(LEAST))
    return (values - by.mean) * by.scale  # type: ignore[union-attr]


def flat(values: np.ndarray) -> np.ndarray:
    """Return rows [n, ...] as float32 [n, k]."""
    return np.asarray(values, np.float32).reshape(len(values), -1)


def width(rows: Images) -> int:
    """Return how many numbers a row has."""
    return int(np.prod(rows.shape[1:], dtype=np.int64))


def check_finite(rows: Images, name: str, labels: Any = None) -> None:
    """Refuse features that are not numbers.

    Args:
      rows: float [n, ...].
      name: what they are called.
      labels: what each row is called, as the path of its picture. Default: its number.

    Raises:
      DataError: some are NaN or infinite; the first are named.
    """
    wrong: list[int] = []
    for chunk in chunks(len(rows), ROWS):
        wrong += chunk[~np.isfinite(flat(rows[chunk])).all(axis=1)].tolist()
    if wrong:
        named = ", ".join(str(labels[row]) if labels is not None else f"row {row}" for row in wrong[:3])
        raise DataError(
            f"{name}: the features of {len(wrong)} of {len(rows)} examples are not finite, the first of {named}; leave "
            "these examples out, or look at the weights that computed them"
        )
