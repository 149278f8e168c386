"""Confusion matrices and mistakes as PNGs, drawn by matplotlib without a display.

A matrix is drawn with each validation, so that it must be quick: what stays, the frame with the names, is drawn once by
matplotlib, and so are the ten digits; cells and numbers are then put into it as pixels.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tfxfer import extras
from tfxfer.plots.png import png
from tfxfer.plots.tiles import CARD

P = ParamSpec("P")
T = TypeVar("T")

# Okabe and Ito's blue and vermillion: what is right, and what is wrong.
RIGHT, WRONG = np.array((0, 114, 178.0)), np.array((213, 94, 0.0))
PAPER, INK, SOFT = 255.0, 34.0, "#555555"
DOTS = 100  # an inch
MOST_NAMED = 25  # classes whose names and numbers go into a matrix
MOST_BLOCKS = 100  # rows of a matrix of more
LONGEST = 18  # letters of a name
PAIRS = 16
TILE, ACROSS, GAP = 104, 3, 9  # side of a mistake's picture in pixels, how many are in a row, and between them


def _plain(draw: Callable[P, T]) -> Callable[P, T]:
    """Let what is between two dollars in a name be no formula, and a letter that the font lacks be a box."""

    @functools.wraps(draw)
    def plainly(*args: P.args, **kwargs: P.kwargs) -> T:
        mpl = extras.load("matplotlib")
        with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            return draw(*args, **kwargs)

    return plainly


@_plain
def confusion(counts: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Draw a confusion matrix; of more than 25 classes in blocks, with the pairs that were confused most beside it.

    Args:
      counts: integers [classes, classes], true classes in rows, predicted in columns.
      class_names: one a class.

    Returns:
      A PNG.
    """
    if len(counts) > MOST_NAMED:
        return _blocks(counts, class_names)
    frame, cell, top, left = _frame(tuple(class_names), len(f"{counts.max(initial=0):,}"))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = frame.copy()
    for true, taken in np.ndindex(*counts.shape):
        # By the root of the share, so that one of many is still to be seen.
        depth = math.sqrt(shares[true, taken])
        colour = PAPER + ((RIGHT if true == taken else WRONG) - PAPER) * depth
        y, x = top + true * cell, left + taken * cell
        picture[y + 1 : y + cell, x + 1 : x + cell] = colour.round()
        if counts[true, taken]:
            _put(picture, f"{counts[true, taken]:,}", y + cell // 2, x + cell // 2, PAPER if depth > 0.6 else INK)
    return png(picture)


def _put(picture: np.ndarray, number: str, y: int, x: int, shade: float) -> None:
    """Write a number into a picture, around a point."""
    text = np.concatenate([_glyphs()["0123456789,".index(letter)] for letter in number], axis=1)[..., None]
    y, x = y - text.shape[0] // 2, x - text.shape[1] // 2
    part = picture[y : y + text.shape[0], x : x + text.shape[1]]
    part[:] = (part + (shade - part) * text).round()


@functools.cache
def _glyphs() -> np.ndarray:
    """Return how much ink is on each pixel of the digits and the comma, float64 [11, height, width]."""
    figure = _figure(11 * 8, 14)
    for number, letter in enumerate("0123456789,"):
        figure.text((number + 0.5) / 11, 0.28, letter, ha="center", va="baseline", fontsize=9)
    ink = 1 - _pixels(figure)[..., 0] / 255
    return np.stack(np.split(ink, 11, axis=1))


@functools.lru_cache(8)
def _frame(class_names: tuple[str, ...], digits: int) -> tuple[np.ndarray, int, int, int]:
    """Draw all of a matrix but what changes.

    Args:
      class_names: one a class; cut where the matrix would not fit a card without.
      digits: of the largest number, with commas.

    Returns:
      The frame, the side of a cell, and where the cells begin, from above and from the left.
    """
    count, least = len(class_names), max(_glyphs().shape[2] * digits + 4, 22)
    room = (CARD - 25 - least * count) // 8
    shown = [_clean(name, min(room, LONGEST) if room >= 6 else LONGEST) for name in class_names]
    longest = max(map(len, shown))
    left = 12 + 8 * longest
    cell = max(least, min(64, (CARD - left - 13) // count))
    upright = 8 * longest > cell
    top, side = 60 + (8 * longest if upright else 6), cell * count + 1
    width, height = max(left + side + 12, CARD), top + side + 8
    figure = _figure(width, height)
    axes = figure.add_axes((left / width, 8 / height, side / width, side / height), xlim=(0, side), ylim=(side, 0))
    middles = [cell * (number + 0.5) for number in range(count)]
    axes.set_yticks(middles, shown, fontsize=9)
    axes.xaxis.tick_top()
    axes.set_xticks(middles, shown, fontsize=9, rotation=90 if upright else 0)
    axes.tick_params(length=0)
    axes.spines[:].set_color("#bbbbbb")
    figure.text(8, height - 6, "true class in rows, predicted in columns", va="top", fontsize=9, transform=None)
    _key(figure, height)
    return _pixels(figure), cell, top, left


def _key(figure: Any, height: int) -> None:
    look = {"va": "top", "fontsize": 8.5, "transform": None}
    for number, (colour, word) in enumerate(((RIGHT, "right"), (WRONG, "wrong"))):
        x = 8 + 64 * number
        figure.text(x, height - 24, "\N{BLACK SQUARE}", color=tuple(colour / 255), **look)
        figure.text(x + 13, height - 24, word, color=SOFT, **look)
    figure.text(8 + 134, height - 24, "darker: more of the row", color=SOFT, **look)


def _blocks(counts: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Draw a matrix of many classes: neighbours taken together, and a list of what was confused most."""
    size = math.ceil(len(counts) / MOST_BLOCKS)
    rows = math.ceil(len(counts) / size)
    padded = np.zeros((2, rows * size, rows * size))
    right = np.diag(np.diag(counts))
    padded[:, : len(counts), : len(counts)] = right, counts - right
    sums = padded.reshape(2, rows, size, rows, size).sum(axis=(2, 4))
    shares = np.sqrt(sums / np.maximum(sums.sum(axis=(0, 2)), 1)[:, None])
    colours = PAPER + shares[0][..., None] * (RIGHT - PAPER) + shares[1][..., None] * (WRONG - PAPER)
    figure = _figure(1080, 590)
    axes = figure.add_axes((50 / 1080, 16 / 590, 510 / 1080, 510 / 590))
    axes.imshow(np.clip(colours, 0, 255).round().astype(np.uint8), extent=(0, len(counts), len(counts), 0))
    axes.tick_params(labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
    together = f" in blocks of {size}" if size > 1 else ""
    head = f"{len(counts):,} classes{together}: true in rows, predicted in columns; darker: a larger share of the row"
    figure.text(8, 590 - 8, head, va="top", fontsize=10, color=SOFT, transform=None)
    _list(figure, counts, class_names)
    return png(_pixels(figure))


def _list(figure: Any, counts: np.ndarray, class_names: Sequence[str]) -> None:
    wrong = counts - np.diag(np.diag(counts))
    places = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [(int(place // len(wrong)), int(place % len(wrong))) for place in places]
    lines = [("true", "taken for", "examples")]
    lines += [
        (_clean(class_names[true]), _clean(class_names[taken]), f"{wrong[true, taken]:,} of {counts[true].sum():,}")
        for true, taken in pairs
        if wrong[true, taken]
    ]
    for number, line in enumerate(lines if len(lines) > 1 else [("nothing was confused", "", "")]):
        look = {"fontsize": 10, "weight": "bold" if not number else "normal", "transform": None}
        for x, cell, side in zip((590, 770, 1060), line, ("left", "left", "right"), strict=True):
            figure.text(x, 520 - 29 * number, cell, ha=side, **look)


@_plain
def mistakes(tiles: np.ndarray, captions: Sequence[tuple[str, str, float]]) -> bytes:
    """Draw examples that were taken for another class, each with its true class above that which it was taken for.

    Args:
      tiles: uint8 RGB [n, 104, 104, 3].
      captions: true class, predicted class and its probability, one a tile.

    Returns:
      A PNG.
    """
    head, text = 30, 34
    height = head + math.ceil(len(tiles) / ACROSS) * (TILE + text + GAP)
    figure = _figure(CARD, height)
    figure.text(GAP, height - 8, "true class, and below what it was taken for", va="top", fontsize=9, transform=None)
    corners = [
        (head + number // ACROSS * (TILE + text + GAP), GAP + number % ACROSS * (TILE + GAP))
        for number in range(len(tiles))
    ]
    for (top, left), (true, taken, probability) in zip(corners, captions, strict=True):
        place = {"va": "top", "fontsize": 8.5, "transform": None}
        y = height - top - TILE - 3
        figure.text(left, y, _clean(true, 15), color=tuple(RIGHT / 255), **place)
        figure.text(left, y - 15, f"{_clean(taken, 10)} {probability:.0%}", color=tuple(WRONG / 255), **place)
    picture = _pixels(figure)
    for tile, (top, left) in zip(tiles, corners, strict=True):
        picture[top : top + TILE, left : left + TILE] = tile
    return png(picture)


def _clean(name: str, longest: int = LONGEST) -> str:
    """Return a name that can be drawn on one line."""
    text = re.sub(r"\s+|[\x00-\x1f]", " ", name.encode("utf-8", "replace").decode())
    return text if len(text) <= longest else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _figure(width: int, height: int) -> Any:
    from matplotlib.figure import Figure

    # No pyplot: nothing is left open that would have to be closed. Some versions of matplotlib round pixels down.
    return Figure(figsize=((width + 1e-6) / DOTS, (height + 1e-6) / DOTS), dpi=DOTS)


def _pixels(figure: Any) -> np.ndarray:
    """Return what a figure looks like, uint8 RGB [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
