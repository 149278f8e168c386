"""Pictures with what a model says of them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer import files
from tfxfer.plots import figures
from tfxfer.plots.figures import CARD
from tfxfer.plots.palette import LIGHT
from tfxfer.plots.png import check_free

WIDTH, HEIGHT = 800, 240  # of a row, in pixels
TILE, ACROSS, GAP = 104, 3, 9  # side of a mistake's picture in pixels, how many are in a row, and between them
HEAD, CAPTION = 30, 34  # pixels above all mistakes, and below each


def predictions(
    path: str | os.PathLike[str],
    photographs: Sequence[np.ndarray],
    titles: Sequence[str],
    names: Sequence[Sequence[str]],
    probabilities: Sequence[Sequence[float]],
) -> None:
    """Draw each photograph with a bar for each of its most probable classes, one below the other, into a PNG file.

    Args:
      path: of the PNG; a picture that tfxfer drew is replaced, in one step.
      photographs: uint8 [height, width, 3] each.
      titles: one for each photograph, as the name of its file.
      names: of each photograph's classes, the most probable first.
      probabilities: of these, from 0 to 1.

    Raises:
      DataError: something else is at `path`.
      OSError: the folder is missing or not writable, or the disk is full.
    """
    check_free(path)

    def paint(figure: Any) -> None:
        axes = figure.subplots(len(photographs), 2, squeeze=False, width_ratios=(2, 3))
        for (left, right), photograph, title, classes, shares in zip(
            axes, photographs, titles, names, probabilities, strict=True
        ):
            left.imshow(photograph)
            left.set_axis_off()
            left.set_title(title, fontsize="small")
            _paint_bars(right, classes, shares)

    files.write_bytes(Path(path), figures.draw(paint, WIDTH, HEIGHT * len(photographs), constrained=True))


def _paint_bars(axes: Any, names: Sequence[str], probabilities: Sequence[float]) -> None:
    places = np.arange(len(names))
    bars = axes.barh(places, probabilities, color=LIGHT["blue"])
    axes.bar_label(bars, [f"{value:.1%}" for value in probabilities], padding=3, fontsize="small")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18)  # room for the label of a full bar
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def mistakes(tiles: np.ndarray, captions: Sequence[tuple[str, str, float]]) -> bytes:
    """Draw examples that were taken for another class, each with its true class above that which it was taken for.

    Args:
      tiles: uint8 [n, 104, 104, 3].
      captions: the true class, the predicted class and its probability of each tile.

    Returns:
      A PNG, as wide as TensorBoard shows an image.
    """
    height = HEAD + math.ceil(len(tiles) / ACROSS) * (TILE + CAPTION + GAP)

    def paint(figure: Any) -> None:
        def write(x: int, y: int, text: str, colour: str) -> None:
            figure.text(x, y, text, va="top", fontsize=8.5, transform=None, color=LIGHT[colour])

        write(GAP, height - 8, "true class, and below what it was taken for", "ink")
        for number, (tile, (true, taken, probability)) in enumerate(zip(tiles, captions, strict=True)):
            row, column = divmod(number, ACROSS)
            x, y = GAP + column * (TILE + GAP), height - HEAD - row * (TILE + CAPTION + GAP) - TILE
            figure.figimage(tile, x, y)
            write(x, y - 3, figures.one_line(true, 15), "blue")
            write(x, y - 18, f"{figures.one_line(taken, 9)} {probability:.0%}", "orange")

    return figures.draw(paint, CARD, height)
