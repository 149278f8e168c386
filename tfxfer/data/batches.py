"""The order of examples: a pure function of (seed, step), so that a resumed run draws what it would have drawn.

Epoch e of a run goes through a permutation that (seed, e) alone decides. Its last batch may be short and is never
dropped. All indices are int64.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from tfxfer.errors import DataError


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the permutation of 0..n-1 in which epoch number `epoch` sees the examples.

    It sorts the raw 64-bit output of PCG64 seeded by SeedSequence(seed, spawn_key=(epoch,)). NumPy guarantees these two
    streams for all versions and platforms, but not the algorithm of `Generator.permutation`.

    Args:
      seed: 0 to 2**32 - 1.
      epoch: 0 or more.
      n: how many examples there are, 1 or more.

    Returns:
      int64 [n].

    Raises:
      DataError: an argument is out of range.
    """
    check_seed(seed)
    _check_at_least(0, epoch=epoch)
    _check_at_least(1, n=n)
    keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,))).random_raw(n)
    return np.argsort(keys, kind="stable").astype(np.int64, copy=False)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return how many batches n examples make, a short last one included.

    Raises:
      DataError: n or batch_size is below 1.
    """
    _check_at_least(1, n=n, batch_size=batch_size)
    return -(-n // batch_size)


def batch(seed: int, step: int, n: int, batch_size: int) -> np.ndarray:
    """Return the examples of one global step, counted from 0 over all epochs.

    It makes the whole permutation of the epoch; to go through many steps, take `batches`.

    Returns:
      int64 [batch_size], or shorter at the end of an epoch.

    Raises:
      DataError: an argument is out of range.
    """
    return next(batches(seed, n, batch_size, first_step=step))


def batches(seed: int, n: int, batch_size: int, first_step: int = 0) -> Iterator[np.ndarray]:
    """Return an endless iterator over the batches of steps first_step, first_step + 1, ...

    Started anywhere, it goes on exactly as one that was started at step 0. One permutation is made an epoch.

    Raises:
      DataError: an argument is out of range; at the call, not at the first batch.
    """
    check_seed(seed)
    _check_at_least(0, first_step=first_step)
    epoch, done = divmod(first_step, steps_per_epoch(n, batch_size))
    return _endless(seed, n, batch_size, epoch, done * batch_size)


def _endless(seed: int, n: int, batch_size: int, first_epoch: int, first_start: int) -> Iterator[np.ndarray]:
    for epoch in itertools.count(first_epoch):
        permutation = order(seed, epoch, n)
        for start in range(first_start, n, batch_size):
            yield permutation[start : start + batch_size]
        first_start = 0


def chunks(n: int, batch_size: int) -> Iterator[np.ndarray]:
    """Return an iterator over 0..n-1 in order, `batch_size` at a time and the last perhaps fewer: for evaluation.

    Raises:
      DataError: n or batch_size is below 1; at the call.
    """
    _check_at_least(1, n=n, batch_size=batch_size)
    return (np.arange(start, min(start + batch_size, n), dtype=np.int64) for start in range(0, n, batch_size))


def check_seed(seed: int) -> None:
    """Refuse a seed that NumPy and scikit-learn would not both take.

    Raises:
      DataError: it is not within 0..2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise DataError(f"`seed={seed}` is out of range; take one from 0 to {2**32 - 1}")


def _check_at_least(least: int, **values: int) -> None:
    wrong = [f"`{name}={value}`" for name, value in values.items() if value < least]
    if wrong:
        raise DataError(f"{' and '.join(wrong)} must be {least} or more")
