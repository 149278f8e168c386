"""Confusion matrices: what the page, the terminal and TensorBoard show of them, and the picture for TensorBoard.

In `counts` true classes are in rows and predicted classes in columns, int64 [classes, classes].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfxfer.plots import figures
from tfxfer.plots.figures import CARD
from tfxfer.plots.palette import LIGHT, rgb

MOST_NAMED = 25  # classes that are shown one by one, with names and numbers
MOST_BLOCKS = 100  # rows of the map of more classes
MOST_PAIRS = 15
DEEP = 0.36  # share of a row from which on a cell is dark, and its number white
LONGEST = 18  # letters of a name
LETTER = 8  # width of a letter, in pixels
HEAD = 48  # height of what stands above the names of the columns, in pixels


class Blocks(NamedTuple):
    """A matrix in which neighbouring classes are taken together, as shares of each row.

    Attributes:
      right: float64 [n], what was right.
      wrong: float64 [n, n], what was not; on the diagonal, what was taken for another class of the block.
      size: the number of classes to a block.
    """

    right: np.ndarray
    wrong: np.ndarray
    size: int

    @property
    def shares(self) -> np.ndarray:
        """All cells, right or wrong, float64 [n, n]."""
        return self.wrong + np.diag(self.right)


def blocks(counts: np.ndarray, most: int = MOST_BLOCKS) -> Blocks:
    """Take neighbouring classes together, as few as it takes to have at most so many rows."""
    size = math.ceil(len(counts) / most)
    rows = math.ceil(len(counts) / size)
    padded = np.zeros((rows * size, rows * size), counts.dtype)
    padded[: len(counts), : len(counts)] = counts
    sums = padded.reshape(rows, size, rows, size).sum(axis=(1, 3))
    right = np.diag(padded).reshape(rows, size).sum(axis=1)
    totals = np.maximum(sums.sum(axis=1), 1)
    return Blocks(right / totals, (sums - np.diag(right)) / totals[:, None], size)


def depth(share: Any) -> Any:
    """Return how dark the cell of a share is, from 0 to 1: by the root, so that one example of many is visible."""
    return np.sqrt(share)


def confused_pairs(counts: np.ndarray, most: int = MOST_PAIRS) -> list[tuple[int, int, int]]:
    """Return (true, predicted, count) of the pairs that were confused most often, the most frequent first."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(true), int(taken), int(wrong[true, taken])) for true, taken in pairs if wrong[true, taken]]


def colours(matrix: Blocks) -> np.ndarray:
    """Return the colours of the cells, uint8 RGB [n, n, 3]: blue is right, orange wrong, white nothing."""
    paper = rgb(LIGHT["card"])
    right, wrong = (depth(share)[..., None] for share in (np.diag(matrix.right), matrix.wrong))
    mixed = paper + right * (rgb(LIGHT["blue"]) - paper) + wrong * (rgb(LIGHT["orange"]) - paper)
    return np.clip(mixed, 0, 255).round().astype(np.uint8)


def draw(counts: np.ndarray, class_names: Sequence[str]) -> bytes:
    """Draw a confusion matrix; of more than 25 classes as a map, with the pairs that were confused most beside it.

    Returns:
      A PNG; of up to ten classes or so as wide as TensorBoard shows an image.
    """
    if len(counts) > MOST_NAMED:
        return figures.draw(lambda figure: _paint_map(figure, counts, class_names), 1080, 590)
    least = max(LETTER * len(f"{counts.max(initial=0):,}") + 4, 22)
    room = (CARD - 25 - least * len(counts)) // LETTER
    shown = [figures.one_line(name, min(room, LONGEST) if room >= 6 else LONGEST) for name in class_names]
    margin = LETTER * max(map(len, shown)) + 12
    cell = max(least, min(64, (CARD - margin - 13) // len(counts)))
    top = HEAD + (margin if margin - 12 > cell else 18)
    side = cell * len(counts)
    width, height = max(margin + side + 13, CARD), top + side + 9

    def paint(figure: Any) -> None:
        _paint_key(figure, height)
        axes = figure.add_axes((margin / width, 9 / height, side / width, side / height))
        _paint_cells(axes, counts)
        _label(axes, shown, upright=margin - 12 > cell)

    return figures.draw(paint, width, height)


def _paint_cells(axes: Any, counts: np.ndarray) -> None:
    matrix = blocks(counts)
    axes.pcolormesh(colours(matrix), edgecolors=LIGHT["card"], linewidth=1)
    axes.invert_yaxis()
    shares = matrix.shares
    for true, taken in np.argwhere(counts):
        ink = LIGHT["on" if shares[true, taken] > DEEP else "ink"]
        text = f"{counts[true, taken]:,}"
        axes.text(taken + 0.5, true + 0.5, text, ha="center", va="center_baseline", fontsize=9, color=ink)


def _label(axes: Any, shown: Sequence[str], *, upright: bool) -> None:
    middles = np.arange(len(shown)) + 0.5
    axes.set_yticks(middles, shown, fontsize=9)
    axes.xaxis.tick_top()
    axes.set_xticks(middles, shown, fontsize=9, rotation=90 if upright else 0)
    axes.tick_params(length=0)
    axes.spines[:].set_color(LIGHT["line"])


def _paint_key(figure: Any, height: int) -> None:
    def write(x: int, y: int, text: str, colour: str) -> None:
        figure.text(x, height - y, text, fontsize=9, transform=None, color=LIGHT[colour])

    write(8, 17, "true class in rows, predicted in columns", "ink")
    for x, colour, word in ((8, "blue", "right"), (72, "orange", "wrong")):
        write(x, 35, "\N{BLACK SQUARE}", colour)
        write(x + 13, 35, word, "soft")
    write(142, 35, "darker: more of the row", "soft")


def _paint_map(figure: Any, counts: np.ndarray, class_names: Sequence[str]) -> None:
    matrix = blocks(counts)
    together = f" in blocks of {matrix.size}" if matrix.size > 1 else ""
    head = (
        f"{len(counts):,} classes{together}: true in rows, predicted in columns; blue is right, orange wrong; "
        "darker: more of the row"
    )
    figure.text(8, 590 - 8, head, va="top", fontsize=10, color=LIGHT["soft"], transform=None)
    axes = figure.add_axes((50 / 1080, 16 / 590, 510 / 1080, 510 / 590))
    axes.imshow(colours(matrix), extent=(0, len(counts), len(counts), 0))
    axes.tick_params(labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
    lines = [
        (figures.one_line(class_names[true], LONGEST), figures.one_line(class_names[taken], LONGEST),
         f"{count:,} of {counts[true].sum():,}")
        for true, taken, count in confused_pairs(counts)
    ]  # fmt: skip
    for number, line in enumerate([("true", "taken for", "examples"), *lines] if lines else [("no mistakes", "", "")]):
        weight = "normal" if number else "bold"
        for x, cell, side in zip((590, 770, 1060), line, ("left", "left", "right"), strict=True):
            figure.text(x, 520 - 31 * number, cell, ha=side, fontsize=10, weight=weight, transform=None)
