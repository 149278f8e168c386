"""What shows of a picture without any network: whether it is tiny, or of one colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfxfer.data import decoding
from tfxfer.data.batches import chunks
from tfxfer.data.pictures import Pictures, in_parallel
from tfxfer.errors import DataError

TINY = 32  # pixels of the shorter side
SIDE = 32  # pixels to which a picture is brought, so that noise averages out
SPREAD = 4.0  # standard deviation of a channel, of 255
BLOCK = 1024


def look(images: Any) -> Iterator[tuple[int, str, str]]:
    """Yield the number of each odd picture, `tiny` or `one-coloured`, and the reason.

    Args:
      images: `Pictures`, or uint8 [n, height, width, channels], which are never tiny.
    """
    for indices in chunks(len(images), BLOCK):
        if isinstance(images, Pictures):
            looks: Sequence[tuple[str, str] | None] = in_parallel(_at, [images.paths[place] for place in indices])
        else:
            looks = [_spread(pixels) for pixels in np.asarray(images[indices])]
        yield from ((int(place), *each) for place, each in zip(indices, looks, strict=True) if each)


def _at(path: str) -> tuple[str, str] | None:
    try:
        data = decoding.read_file(path)
        sides = decoding.measure(data)
        if min(sides) < TINY:
            return "tiny", f"{sides[1]} x {sides[0]} pixels"
        return _spread(decoding.decode(data, (SIDE, SIDE), "plain"))
    except DataError:
        return None  # What cannot be decoded is told of elsewhere.


def _spread(pixels: np.ndarray) -> tuple[str, str] | None:
    spread = float(pixels.reshape(-1, pixels.shape[-1]).std(axis=0).max())
    return ("one-coloured", f"standard deviation {spread:.1f} of 255") if spread < SPREAD else None
