"""Pictures of what a model says, drawn by matplotlib without a display."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer import files

WIDTH, HEIGHT = 8.0, 2.4  # of a row, in inches
DOTS = 100  # an inch


def predictions(
    path: str | os.PathLike[str],
    photographs: Sequence[np.ndarray],
    titles: Sequence[str],
    names: Sequence[Sequence[str]],
    probabilities: Sequence[Sequence[float]],
) -> None:
    """Draw each photograph with a bar for each of its most probable classes, one below the other, into a PNG file.

    Args:
      path: of the PNG; replaced in one step.
      photographs: uint8 [height, width, 3] each.
      titles: one a photograph, as the name of its file.
      names: of each photograph's classes, the most probable first.
      probabilities: of these, from 0 to 1.

    Raises:
      OSError: the folder is missing or not writable, or the disk is full.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # What is between two dollars in the name of a file is no formula.
    with mpl.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(WIDTH, HEIGHT * len(photographs)), dpi=DOTS, layout="constrained")
        axes = figure.subplots(len(photographs), 2, squeeze=False, width_ratios=(2, 3))
        for row, *one in zip(axes, photographs, titles, names, probabilities, strict=True):
            _draw(*row, *one)
        data = io.BytesIO()
        FigureCanvasAgg(figure).print_png(data)
    files.write_bytes(Path(path), data.getvalue())


def _draw(left: Any, right: Any, photograph: Any, title: Any, names: Any, probabilities: Any) -> None:
    left.imshow(photograph)
    left.set_axis_off()
    left.set_title(title, fontsize="small")
    places = np.arange(len(names))
    bars = right.barh(places, probabilities)
    right.bar_label(bars, [f"{value:.1%}" for value in probabilities], padding=3, fontsize="small")
    right.set_yticks(places, names)
    right.invert_yaxis()
    right.set_xlim(0, 1.18)  # room for the label of a full bar
    right.set_xticks([])
    right.spines[["top", "right", "bottom"]].set_visible(False)
