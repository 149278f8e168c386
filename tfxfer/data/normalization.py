"""Features brought to one scale: the formulas in numpy, of which `tfxfer.graph.normalization` builds the layer."""

from __future__ import annotations

import numpy as np

KINDS = ("standard", "l2", "sqrt", "none")
SMALLEST_LENGTH = 1e-12  # of features that are divided by their length
SMALLEST_ROOT = 1e-6  # of one feature of an example of length 1: below, a line takes the place of the steep root
SHARE = 1e-5  # of the mean variance, which is added to that of each feature: so no scale is above 316 of the usual one


class FeatureStatistics:
    """Mean and scale of each feature, from batches of any size, in float64 (Chan, Golub and LeVeque, 1983).

    A feature is one place of the last axis. Memory is that of three rows beside the batch.

    Example:
      >>> statistics = tx.data.normalization.FeatureStatistics()
      >>> for batch in ([[1.0, 5.0]], [[3.0, 5.0]]):
      ...     statistics.add(np.array(batch))
      >>> mean, scale = statistics.mean_and_scale()
      >>> mean.tolist(), scale.round().tolist()
      ([2.0, 5.0], [1.0, 447.0])
    """

    def __init__(self) -> None:
        """Begin with no features."""
        self._count, self._mean, self._squares = 0, np.zeros(()), np.zeros(())

    def add(self, features: np.ndarray) -> None:
        """Take in a batch, [n, ..., features]."""
        rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        apart, count = mean - self._mean, self._count + len(rows)
        self._squares = (
            self._squares + np.square(rows - mean).sum(axis=0) + apart**2 * (self._count * len(rows) / count)
        )
        self._mean = self._mean + apart * (len(rows) / count)
        self._count = count

    def mean_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and scale of each feature, float32.

        The scale is `1 / sqrt(variance + SHARE * mean variance of all features)`. So a feature that is constant, or
        almost, is scaled at most `1 / sqrt(SHARE)` times as much as one of the usual variance. Where all features are
        constant, it is 1.
        """
        variance = self._squares / max(self._count, 1)
        spread = variance + SHARE * variance.mean()
        scale = 1 / np.sqrt(np.where(spread > 0, spread, 1.0))
        return self._mean.astype(np.float32), scale.astype(np.float32)


def normalized(
    features: np.ndarray, kind: str, mean: np.ndarray | None = None, scale: np.ndarray | None = None
) -> np.ndarray:
    """Return features [n, ..., features] as the layer gives them; see `tfxfer.models.heads.normalize`.

    Args:
      features: float32.
      kind: "standard", "l2", "sqrt" or "none".
      mean, scale: of "standard", as `FeatureStatistics.mean_and_scale` returns them.
    """
    if kind == "standard":
        return (features - mean) * scale
    if kind == "l2":
        return _unit_length(features)
    if kind == "sqrt":
        unit = _unit_length(features)
        return _unit_length(unit / np.sqrt(np.maximum(np.abs(unit), SMALLEST_ROOT)))
    return features


def _unit_length(features: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.square(features).sum(axis=tuple(range(1, features.ndim)), keepdims=True))
    return features / np.maximum(lengths, SMALLEST_LENGTH)
