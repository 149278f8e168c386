"""Small pictures side by side: filters of a layer, feature maps, thumbnails of examples. Plain numpy, no display."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tfxfer.data.pictures import Pictures
from tfxfer.data.splits import Images
from tfxfer.errors import DataError
from tfxfer.plots.figures import CARD
from tfxfer.plots.palette import VIRIDIS

MOST = 256  # filters or maps that are drawn
LONGEST = 64  # side of a map; of larger ones, every so many a row and column is left


def has_filters(shape: Sequence[int], channels: Sequence[int | None] = (1, 3)) -> bool:
    """Say whether a variable of this shape can be the kernel of a convolution over grey or RGB images."""
    return len(shape) == 4 and shape[2] in (1, 3) and shape[2] in channels and shape[3] > 1 and max(shape[:2]) > 1


def filters(kernel: np.ndarray, *, bgr: bool = False) -> np.ndarray:
    """Draw the filters of a first layer, each on its own scale, grey where it is 0.

    Args:
      kernel: [height, width, 1 or 3, count]; not finite values are drawn as 0.
      bgr: whether its channels are blue, green and red.

    Returns:
      uint8 RGBA, clear between the filters.
    """
    each = np.moveaxis(kernel[..., :MOST].astype(np.float64), 3, 0)
    each = np.nan_to_num(each[..., ::-1] if bgr else each, posinf=0.0, neginf=0.0)
    largest = np.abs(each).max(axis=(1, 2, 3), keepdims=True)
    colours = np.round(127.5 + 127.5 * each / np.maximum(largest, 1e-30)).astype(np.uint8)
    return _grid(colours if colours.shape[3] == 3 else np.repeat(colours, 3, axis=3))


def feature_maps(values: np.ndarray) -> np.ndarray:
    """Draw what each channel of a layer makes of a picture, each on its own scale from dark to light.

    Args:
      values: [height, width, channels]; not finite values are drawn as 0.

    Returns:
      uint8 RGBA, clear between the maps.
    """
    places = [np.linspace(0, side - 1, min(side, LONGEST)).round().astype(int) for side in values.shape[:2]]
    maps = np.moveaxis(values[places[0]][:, places[1], :MOST].astype(np.float64), 2, 0)
    maps = np.nan_to_num(maps, posinf=0.0, neginf=0.0)
    low, high = (of(maps, axis=(1, 2), keepdims=True) for of in (np.min, np.max))
    shades = (maps - low) / np.maximum(high - low, 1e-30) * (len(VIRIDIS) - 1)
    anchors = np.arange(len(VIRIDIS))
    return _grid(
        np.stack([np.interp(shades, anchors, column) for column in VIRIDIS.T], axis=3).round().astype(np.uint8)
    )


def _grid(tiles: np.ndarray) -> np.ndarray:
    """Put tiles, uint8 RGB [n, height, width, 3], side by side in rows, with a clear pixel between; enlarge that."""
    count, height, width, _ = tiles.shape
    across = min(count, max(math.ceil(math.sqrt(count * 1.8 * height / width)), 1))
    down = math.ceil(count / across)
    scale = max(1, min(CARD // (across * (width + 1)), 3 * CARD // (down * (height + 1))))
    gap = max(1, scale // 4)
    big = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    rows, columns = height * scale + gap, width * scale + gap
    grid = np.zeros((down * rows - gap, max(across * columns - gap, CARD), 4), np.uint8)
    for number, tile in enumerate(big):
        top, left = number // across * rows, number % across * columns
        grid[top : top + rows - gap, left : left + columns - gap] = np.dstack([tile, np.full(tile.shape[:2], 255)])
    return grid


def are_pictures(images: Images) -> bool:
    """Say whether examples are [n, height, width, 1, 3 or 4], so that they can be drawn."""
    return len(images.shape) == 4 and images.shape[3] in (1, 3, 4)


def thumbnails(images: Images, indices: Sequence[int] | np.ndarray, side: int) -> np.ndarray:
    """Return examples as squares, uint8 RGB [m, side, side, 3]; grey where a file can no longer be read.

    Args:
      images: [n, height, width, 1, 3 or 4], uint8, pictures in files or an array.
      indices: of the examples.
      side: of the squares, in pixels. Nothing is enlarged but by repeating pixels.
    """
    if isinstance(images, Pictures):
        return _of_files(images, indices, side)
    pixels = np.asarray(images[np.asarray(indices)])
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min(initial=0)), float(pixels.max(initial=1))
        pixels = ((pixels - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)
    rows, columns = ((np.arange(side) * length // side) for length in pixels.shape[1:3])
    small = pixels[:, rows][:, :, columns, :3]
    return small if small.shape[3] == 3 else np.repeat(small[..., :1], 3, axis=3)


def _of_files(images: Pictures, indices: Sequence[int] | np.ndarray, side: int) -> np.ndarray:
    small = images.subset(np.asarray(indices))
    small.size = (side, side)
    try:
        return small[:]
    except DataError:
        return np.stack([_picture_or_grey(small, place) for place in range(len(small))])


def _picture_or_grey(images: Pictures, place: int) -> np.ndarray:
    try:
        return images[place]
    except DataError:
        return np.full((*images.size, 3), 128, np.uint8)
