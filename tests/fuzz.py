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
    """Yield a file cut at every 1 %, some noise, and `cases` times with changed bytes, half in the first `begin`."""
    rng = np.random.default_rng(len(good))
    yield from (good[: len(good) * percent // 100] for percent in range(100))
    yield from (rng.bytes(size) for size in (1, 7, 16, 200, 5000))
    yield from (good + b"\0", good + good, good[1:], good[::-1])
    for case in range(cases):
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
    for case, data in enumerate(files):
        (write or path.write_bytes)(data)
        # Looking at the memory takes several times as long as the reading, so that either is measured and not both.
        count[little_memory(path) if case % 4 == 0 else little_time(path)] += 1
    return count


def check_bomb(path: Path) -> None:
    """See that a file is refused in little memory and in little time."""
    assert check_all(path, iter([path.read_bytes()] * 2))["refused"] == 2


def little_time(path: Path) -> str:
    """Open and read a file in little time; say whether it was refused, unreadable or read."""
    start = time.process_time()
    outcome, _ = _outcome(path)
    assert time.process_time() - start < SECONDS
    return outcome


def little_memory(path: Path, room: int = ROOM) -> str:
    """Open and read a file in `room` bytes beyond its largest array; say whether it was refused, unreadable or read."""
    tracemalloc.start()
    try:
        outcome, asked = _outcome(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < asked + room
    return outcome


def _outcome(path: Path) -> tuple[str, int]:
    # What came of it, and the bytes of the largest array that was asked for.
    outcome, asked = "refused", 0
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
    return outcome, asked
