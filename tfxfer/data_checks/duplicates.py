"""Pictures that are there more than once: the same bytes, or the same picture in other bytes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfxfer.data.batches import chunks
from tfxfer.data.pictures import Pictures
from tfxfer.plots import tiles

NEAR = 0.4  # of the distance to a neighbour that is not a copy
PERHAPS, CERTAIN = 0.8, 0.2  # the same, where pictures can be compared: what is between is looked at
ALIKE = 0.95  # correlation of pixels
SIDE = 32
BLOCK = 512

Pair = tuple[int, int, float]  # the copy, what it is a copy of, and how far it is


def digests(images: Any) -> list[str]:
    """Return the SHA-256 of each picture's file, or of each image's pixels."""
    if isinstance(images, Pictures):
        return [images.digest(place) for place in range(len(images))]
    blocks = (np.asarray(images[indices]) for indices in chunks(len(images), BLOCK))
    return [hashlib.sha256(pixels.tobytes()).hexdigest() for block in blocks for pixels in block]


def exact(keys: Sequence[str]) -> list[Pair]:
    """Return each example after the first of the same key, with that first one."""
    first: dict[str, int] = {}
    return [(place, home, 0.0) for place, key in enumerate(keys) if (home := first.setdefault(key, place)) != place]


def near(places: np.ndarray, distances: np.ndarray, images: Any = None) -> list[Pair]:
    """Return pairs of examples that are much nearer to each other than their other neighbours are.

    A pair is near if its distance is below `NEAR` of the usual one: that of the farthest of the neighbours given, of
    both examples the smaller, and not below half of the median of these. So the threshold follows from the features,
    and is smaller where examples lie close. With images, pairs up to `PERHAPS` are taken, if their pixels correlate by
    `ALIKE` or the distance is below `CERTAIN`.

    Args:
      places: int64 [n, k], the nearest neighbours of each.
      distances: float [n, k], how far they are, the nearest first.
      images: the pictures, or None.

    Returns:
      One pair for each example that is like an earlier one; of a group, all pairs name the first.
    """
    usual = np.maximum(distances[:, -1], np.median(distances[:, -1]) / 2)
    most = NEAR if images is None else PERHAPS
    pairs = {
        (min(mine, theirs), max(mine, theirs)): float(distances[mine, rank])
        for mine, rank in np.argwhere(distances < most * usual[:, np.newaxis]).tolist()
        if distances[mine, rank] < most * usual[(theirs := int(places[mine, rank]))]
    }
    if images is not None:
        certain = {pair for pair, distance in pairs.items() if distance < CERTAIN * min(usual[list(pair)])}
        alike = set(_alike(images, [pair for pair in pairs if pair not in certain]))
        pairs = {pair: distance for pair, distance in pairs.items() if pair in certain | alike}
    return sorted(_grouped(pairs), key=lambda pair: pair[2])


def _alike(images: Any, pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose pixels correlate, upright or mirrored."""
    for start in range(0, len(pairs), BLOCK):
        part = pairs[start : start + BLOCK]
        left, right = (_standardised(images, [pair[side] for pair in part]) for side in (0, 1))
        mirrored = right[:, :, ::-1]
        best = np.maximum((left * right).mean(axis=(1, 2, 3)), (left * mirrored).mean(axis=(1, 2, 3)))
        yield from (pair for pair, value in zip(part, best, strict=True) if value >= ALIKE)


def _standardised(images: Any, places: Sequence[int]) -> np.ndarray:
    pixels = tiles.thumbnails(images, places, SIDE).astype(np.float64)
    pixels -= pixels.mean(axis=(1, 2, 3), keepdims=True)
    return pixels / np.maximum(pixels.std(axis=(1, 2, 3), keepdims=True), 1e-6)


def _grouped(pairs: dict[tuple[int, int], float]) -> Iterator[Pair]:
    """Yield each example of a group with the group's first, and the distance to the nearest of the group."""
    home: dict[int, int] = {}

    def first(place: int) -> int:
        while home.get(place, place) != place:
            place = home[place]
        return place

    closest: dict[int, float] = defaultdict(lambda: np.inf)
    for (left, right), distance in pairs.items():
        lower, upper = sorted((first(left), first(right)))
        home[upper] = lower
        for place in (left, right):
            closest[place] = min(closest[place], distance)
    yield from ((place, first(place), distance) for place, distance in closest.items() if first(place) != place)
