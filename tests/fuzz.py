"""Broken files for the tests of the readers: cut short, with changed bytes, or of nothing but noise."""

from __future__ import annotations

import io
import re
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats.tensors import Tensor
from tfxfer.weights import open_weights, streams

SECONDS = 5.0
ROOM = 64 << 20  # bytes of memory beyond what the tensors take


def broken(good: bytes, cases: int, begin: int = 2048) -> Iterator[bytes]:
    """Yield a file cut at every 1 %, some noise, and `cases` mutations, half of them in the first `begin` bytes."""
    rng = np.random.default_rng(len(good))
    yield from (good[: len(good) * percent // 100] for percent in range(100))
    yield from (rng.bytes(size) for size in (1, 7, 16, 200, 5000))
    yield from (good + b"\0", good + good, good[1:], good[::-1])
    yield from mutations(good, cases, begin)


def mutations(good: bytes, cases: int, begin: int = 2048) -> Iterator[bytes]:
    """Yield `cases` files that differ from a good one in up to three places, half of them in the first `begin` bytes.

    In half of the cases only single bytes change. In the others, blocks are left out, doubled, moved or filled, and
    integers of 2, 4 and 8 bytes and numbers in digits get extreme values: counts, lengths, offsets.
    """
    rng = np.random.default_rng(len(good))
    for case in range(cases):
        data = bytearray(good)
        change = _change_byte if case % 4 < 2 else _CHANGES[rng.integers(len(_CHANGES))]
        for _ in range(1 + case % 3):
            if data:
                change(data, int(rng.integers(min(begin, len(data)) if case % 2 else len(data))), rng)
        yield bytes(data)


def repacked(archive: bytes, name: str) -> Callable[[bytes], bytes]:
    """Return what puts other bytes for a member of a zip archive, under the right checksum and without compression."""

    def pack(content: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
            for info in old.infolist():
                new.writestr(info.filename, content if info.filename == name else old.read(info))
        return out.getvalue()

    return pack


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
    outcome, seconds = _timed(path)
    if seconds >= SECONDS:  # once more: beside other processes, the same work takes up to twice the processor time
        outcome, seconds = _timed(path)
    assert seconds < SECONDS
    return outcome


def _timed(path: Path) -> tuple[str, float]:
    start = time.process_time()
    outcome, _ = _outcome(path)
    return outcome, time.process_time() - start


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


def streamed(tensor: Tensor) -> tuple[float, int]:
    """Return the sum of a tensor's values, read piece by piece, and how many bytes of memory that took at most."""
    tracemalloc.start()
    try:
        total = sum(float(piece.sum()) for piece in streams.pieces(tensor))
        return total, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _change_byte(data: bytearray, place: int, rng: np.random.Generator) -> None:
    data[place] = rng.choice([data[place] ^ 1 << rng.integers(8), rng.integers(256), 0, 255, 127, 128])


def _change_integer(data: bytearray, place: int, rng: np.random.Generator) -> None:
    size = int(rng.choice([2, 4, 8]))
    place -= place % size if rng.integers(2) else 0  # most lie aligned
    order: Literal["little", "big"] = "big" if rng.integers(4) == 0 else "little"
    value, most = int.from_bytes(data[place : place + size], order), 1 << 8 * size
    extremes = [
        0,
        1,
        most - 1,
        most // 2,
        most // 2 - 1,
        value - 1,
        value + 1,
        value * 2,
        value << 16,
        len(data),
        place,
    ]
    data[place : place + size] = (extremes[rng.integers(len(extremes))] % most).to_bytes(size, order)


def _change_digits(data: bytearray, place: int, rng: np.random.Generator) -> None:
    digits = re.compile(rb"\d+").search(data, place)
    if digits:
        data[digits.start() : digits.end()] = _DIGITS[rng.integers(len(_DIGITS))]


def _leave_out(data: bytearray, place: int, rng: np.random.Generator) -> None:
    del data[place : place + _length(rng)]


def _double(data: bytearray, place: int, rng: np.random.Generator) -> None:
    block = data[place : place + _length(rng)]
    data[place:place] = block * int(rng.choice([1, 1, 2, 50]))


def _move(data: bytearray, place: int, rng: np.random.Generator) -> None:
    block = data[place : place + _length(rng)]
    del data[place : place + len(block)]
    to = int(rng.integers(len(data) + 1))
    data[to:to] = block


def _fill(data: bytearray, place: int, rng: np.random.Generator) -> None:
    length = min(_length(rng), len(data) - place)
    data[place : place + length] = (bytes(length), b"\xff" * length, rng.bytes(length))[rng.integers(3)]


def _copy_over(data: bytearray, place: int, rng: np.random.Generator) -> None:
    source = int(rng.integers(len(data)))
    block = data[source : source + _length(rng)][: len(data) - place]
    data[place : place + len(block)] = block


def _length(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2, 3, 4, 8, 16, 64, 300]))


_DIGITS = [b"0", b"-1", b"1e400", b"NaN", b"2147483648", b"9223372036854775808", b"9" * 30, b"9" * 5000, b"null"]
_CHANGES = (_change_integer, _change_integer, _change_digits, _leave_out, _double, _move, _fill, _copy_over)


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
