"""Figures of matplotlib as PNG files, without a display. Nothing else imports matplotlib, and only when it draws."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tfxfer import extras
from tfxfer.plots.png import png

DOTS = 100  # pixels an inch
CARD = 350  # pixels that TensorBoard gives an image: one as wide is shown as it is, others are scaled, unevenly


def draw(paint: Callable[[Any], None], width: int, height: int, *, constrained: bool = False) -> bytes:
    """Return a PNG of what `paint` puts into a new figure; the same calls give the same bytes.

    Args:
      paint: is given the `matplotlib.figure.Figure`.
      width, height: of the picture, in pixels.
      constrained: whether matplotlib finds the places of axes, titles and keys.

    Raises:
      MissingPackageError: matplotlib is not installed.
    """
    mpl = extras.load("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # What is between two dollars in a name is not a formula, and a letter that the font lacks is drawn as a box.
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        # No pyplot: it would keep the figure open. Some versions of matplotlib round pixels down.
        size = (width + 1e-4) / DOTS, (height + 1e-4) / DOTS
        figure = Figure(figsize=size, dpi=DOTS, layout="constrained" if constrained else None)
        paint(figure)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return png(np.asarray(canvas.buffer_rgba()), drawn=True)


def one_line(name: str, most: int = 200) -> str:
    """Return a name that can be drawn on one line; of a longer one, both ends: names often differ in the last part."""
    text = re.sub(r"\s+|[\x00-\x1f]", " ", name.encode("utf-8", "replace").decode())
    end = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - end]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - end :]}"
