"""The nearest neighbours of each row, by blocks of matrix products."""

from __future__ import annotations

import numpy as np

from tfxfer.data_checks.unit_rows import UnitRows


def nearest(rows: UnitRows, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest other rows of each row by cosine distance.

    All pairs are compared. In memory at one time are two blocks of rows and their products.

    Args:
      rows: n of them, 2 or more.
      count: how many neighbours; fewer if there are fewer other rows.

    Returns:
      int64 [n, count], the nearest first, and float32 [n, count], 1 minus the cosine.
    """
    count = min(count, len(rows) - 1)
    places = np.empty((len(rows), count), np.int64)
    distances = np.empty((len(rows), count), np.float32)
    for mine, block in rows.blocks():
        closest = np.full((len(mine), count), -np.inf, np.float32)
        at = np.zeros((len(mine), count), np.int64)
        for theirs, other in rows.blocks():
            cosines = block @ other.T
            cosines[mine[:, np.newaxis] == theirs] = -np.inf
            closest, at = _best(np.hstack([closest, cosines]), np.hstack([at, np.tile(theirs, (len(mine), 1))]), count)
        places[mine], distances[mine] = at, np.clip(1 - closest, 0, None)
    return places, distances


def _best(cosines: np.ndarray, at: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the largest of each row, in falling order."""
    chosen = np.argpartition(cosines, -count, axis=1)[:, -count:]
    cosines, at = np.take_along_axis(cosines, chosen, 1), np.take_along_axis(at, chosen, 1)
    order = np.lexsort((at, -cosines), axis=1)
    return np.take_along_axis(cosines, order, 1), np.take_along_axis(at, order, 1)
