"""Features as rows of unit length, a block at a time, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfxfer.data.batches import chunks
from tfxfer.data.finite import not_finite, refuse_not_finite
from tfxfer.errors import DataError

BLOCK = 1024  # rows that are read at once
MOST_NUMBERS = 2048  # of a row; longer ones are projected to as many
MOST_BYTES = 1 << 30  # of all rows together, that are kept in memory


class UnitRows:
    """Rows of features, each divided by its length; float32 [n, width].

    Rows of more than `MOST_NUMBERS` numbers are projected to as many by a Gaussian matrix of a fixed seed, which keeps
    distances to a few percent (Johnson and Lindenstrauss, 1984). Rows that do not fit into `MOST_BYTES` are read anew
    each time.

    Attributes:
      width: the length of a row.
    """

    def __init__(self, features: Any, name: Callable[[int], str]) -> None:
        """Go through the features once.

        Args:
          features: floats [n, ...], an array or what is indexed like one, as the rows of a store.
          name: says what example a row is of, for messages.

        Raises:
          DataError: rows or numbers are missing, or numbers are not finite.
        """
        shape = tuple(features.shape)
        if len(shape) < 2 or 0 in shape or np.dtype(features.dtype).kind not in "fiu":
            raise DataError(f"features are {features.dtype} {shape}; rows of numbers [n, ...] are needed")
        self._features, numbers = features, int(np.prod(shape[1:]))
        self.width = min(numbers, MOST_NUMBERS)
        self._projection = _projection(numbers) if numbers > MOST_NUMBERS else None
        self._kept: np.ndarray | None = None
        keep = 4 * len(features) * self.width <= MOST_BYTES
        kept = np.empty((len(features), self.width), np.float32) if keep else None
        bad: list[int] = []
        for indices, rows in self._read():
            bad += indices[not_finite(rows)].tolist()
            if kept is not None and not bad:
                kept[indices] = rows
        refuse_not_finite(bad, len(features), name)
        self._kept = kept

    def __len__(self) -> int:
        return len(self._features)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield int64 [m] and float32 [m, width] for all rows in order, some at a time."""
        if self._kept is None:
            yield from self._read()
        else:
            yield from ((indices, self._kept[indices[0] : indices[-1] + 1]) for indices in chunks(len(self), BLOCK))

    def _read(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for indices in chunks(len(self), BLOCK):
            with np.errstate(all="ignore"):  # What is not finite is refused by name.
                yield indices, self._unit(np.asarray(self._features[indices], np.float32))

    def _unit(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.reshape(len(rows), -1)
        rows = rows if self._projection is None else rows @ self._projection
        # In float64, as squares of large numbers are not finite in float32.
        lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
        return (rows / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _projection(numbers: int) -> np.ndarray:
    drawn = np.random.Generator(np.random.PCG64(0)).standard_normal((numbers, MOST_NUMBERS), np.float32)
    return drawn / np.float32(MOST_NUMBERS**0.5)
