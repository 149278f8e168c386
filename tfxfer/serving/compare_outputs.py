"""How far two models are apart, endpoint by endpoint, on the same pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from tfxfer import names
from tfxfer.errors import GraphError

PIXELS = "pixels"  # what a model is given, among its endpoints


@dataclasses.dataclass
class Difference:
    """How far an endpoint of model A is from that of model B, over all pictures that `add` was given.

    Attributes:
      endpoint: its name.
      shape: of one picture's values in A.
      other_shape: in B.
      max_abs: the largest |a - b|; infinite where one is not finite and the other not the same, or shapes differ.
      largest: the largest finite magnitude in either.
    """

    endpoint: str
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]
    max_abs: float = 0.0
    largest: float = 0.0
    _products: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))

    @property
    def relative(self) -> float:
        """The largest difference by the largest magnitude; 0 where nothing differs."""
        return self.max_abs / max(self.largest, float(np.finfo(np.float32).tiny))

    @property
    def cosine(self) -> float:
        """The cosine of the angle between all finite values of A and those of B; 1 where both are 0."""
        product, a, b = self._products
        return float(product / np.sqrt(a * b)) if a and b else float(a == b)

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Take in the values for some pictures, each [n, ...]."""
        if a.shape != b.shape:
            self.max_abs = np.inf
            return
        x, y = a.astype(np.float64), b.astype(np.float64)
        differ = (x != y) & ~(np.isnan(x) & np.isnan(y))
        finite = np.isfinite(x) & np.isfinite(y)
        apart = np.abs(np.subtract(x, y, where=finite, out=np.full_like(x, np.inf)))
        self.max_abs = float(max(self.max_abs, apart[differ].max(initial=0)))
        x, y = np.where(finite, x, 0).ravel(), np.where(finite, y, 0).ravel()
        self.largest = float(max(self.largest, np.abs(x).max(initial=0), np.abs(y).max(initial=0)))
        self._products += (x @ y, x @ x, y @ y)


def compare(answers: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]) -> list[Difference]:
    """Compare the endpoints that two models have in common, in the order of the first.

    Args:
      answers: for each batch of pictures, the values [n, ...] of both models' endpoints by name.

    Raises:
      GraphError: they have no endpoint in common but the pixels.
    """
    differences: dict[str, Difference] = {}
    for a, b in answers:
        common = [name for name in a if name in b]
        if set(common) <= {PIXELS}:
            raise GraphError(f"no endpoint of A ({names.listed(a)}) is one of B ({names.listed(b)})")
        for name in common:
            row = differences.setdefault(name, Difference(name, a[name].shape[1:], b[name].shape[1:]))
            row.add(a[name], b[name])
    return list(differences.values())
