"""The embedded default: 1,797 real handwritten digits that come with scikit-learn, so that no download is needed."""

from __future__ import annotations

import numpy as np

from tfxfer.data.splits import Data, Split, check, stratified

TEST, VALIDATION = 360, 180  # 20 % and 10 % of 1,797
SIZE = 28
DARKEST = 16  # of the original, whose pixels count the dark points among 4 x 4


def digits(seed: int = 0) -> Data:
    """Return scikit-learn's digits at the size of MNIST: 1,257 to train on, 180 for validation, 360 to test.

    Args:
      seed: of the stratified split, 0 to 2**32 - 1; the pictures do not depend on it.

    Returns:
      Images uint8 [n, 28, 28, 1], ink 255 on ground 0, and labels int64 [n], 0 to 9.
    """
    from sklearn.datasets import load_digits  # takes a second, which `--help` should not

    source = load_digits()
    labels = source.target.astype(np.int64)
    everything = Split(enlarge(source.images.astype(np.int64)), labels)
    parts = stratified(labels, (len(labels) - VALIDATION - TEST, VALIDATION, TEST), seed)
    train, validation, test = (everything.take(part) for part in parts)
    data = Data(train, validation, test, tuple(str(name) for name in source.target_names))
    check(data)
    return data


def enlarge(images: np.ndarray) -> np.ndarray:
    """Resize square pictures of 0..16 to 28x28 of 0..255, bilinear with pixel centres aligned.

    All in integers, so that every platform gets the same bytes.

    Args:
      images: int64 [n, size, size], 0 to 16.

    Returns:
      uint8 [n, 28, 28, 1].
    """
    size = images.shape[1]
    weights = _bilinear(size)
    whole = (2 * SIZE) ** 2 * DARKEST  # what full ink comes to
    sums: np.ndarray = weights @ images @ weights.T
    return ((sums * 255 * 2 + whole) // (2 * whole)).astype(np.uint8)[..., np.newaxis]


def _bilinear(size: int) -> np.ndarray:
    """Return int64 [28, size]: the weight of each old pixel in each new one, in 1/56 of the whole."""
    unit = 2 * SIZE
    # New pixel i has its centre at (i + 1/2) * size / 28 - 1/2 old pixels; beyond the outermost ones, the edge goes on.
    centres = np.clip((2 * np.arange(SIZE) + 1) * size - SIZE, 0, (size - 1) * unit)
    distances = np.abs(centres[:, np.newaxis] - unit * np.arange(size))
    weights: np.ndarray = np.maximum(unit - distances, 0)
    return weights
