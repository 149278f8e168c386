"""Broken files for the tests of the readers: cut short, with changed bytes, or of nothing but noise."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.weights import open_weights

SECONDS = 2.0
ROOM = 64 << 20  # bytes of memory beyond what the tensors take


def broken(good: bytes, cases: int, begin: int = 2048) -> Iterator[bytes]:
    """Yield broken versions of a file: cut at every 1 %, with changed bytes (half in the first `begin`), noise."""
    rng = np.random.default_rng(len(good))
    yield from (good[: len(good) * percent // 100] for percent in range(100))
    yield from (rng.bytes(size) for size in (1, 7, 16, 200, 5000))
    yield from (good + b"\0", good + good, good[1:], good[::-1])
    for case in range(cases - 109):
        data = bytearray(good)
        for _ in range(1 + case % 3):
            place = rng.integers(min(begin, len(data)) if case % 2 else len(data))
            data[place] = rng.choice([data[place] ^ 1 << rng.integers(8), rng.integers(256), 0, 255, 127, 128])
        yield bytes(data)


def check_all(path: Path, files: Iterator[bytes], write: Callable[[bytes], object] | None = None) -> dict[str, int]:
    """Open and read each broken file; anything but an answer or a WeightsError, in little time and memory, fails.

    Args:
      path: what is opened.
      files: the broken contents.
      write: puts one where it belongs; to `path` if it is None.

    Returns:
      How many were refused when opened, refused when read, and read in full.
    """
    count = {"refused": 0, "unreadable": 0, "read": 0}
    for data in files:
        (write or path.write_bytes)(data)
        count[_outcome(path)] += 1
    return count


def _outcome(path: Path) -> str:
    tracemalloc.start()
    start, asked = time.process_time(), 0
    outcome = "refused"
    try:
        weights = open_weights(path, max_bytes=256 << 20)
        outcome = "unreadable"
        for name in weights:
            asked = max(asked, weights.tensor(name).nbytes)
            array = weights[name]
            assert array.shape == weights.shape(name)
            assert array.dtype == weights.dtype(name)
        outcome = "read"
    except WeightsError:
        pass
    finally:
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seconds < SECONDS
    assert peak < asked + ROOM
    return outcome
