"""Pictures of how a training went and of what a model says, drawn by matplotlib without a display."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer import extras, files
from tfxfer.errors import DataError

WIDTH, HEIGHT = 8.0, 2.4  # of a row, in inches
DOTS = 100  # an inch

# Okabe and Ito's colours (Color Universal Design, 2008), which people with any colour vision tell apart.
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
SPLITS = {
    "train": {"color": BLUE, "linestyle": "-", "marker": "o", "label": "training"},
    "validation": {"color": VERMILLION, "linestyle": "--", "marker": "s", "label": "validation"},
}
MARKED = 40  # points a line that are marked one by one
WIDE = 30.0  # losses further apart than by this factor are drawn on a logarithmic scale,
MANY_DECADES = 1e4  # and further apart than by this with a tick a decade


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
    mpl = extras.load("matplotlib")
    # What is between two dollars in the name of a file is no formula.
    with mpl.rc_context({"text.parse_math": False}):
        figure = _figure(WIDTH, HEIGHT * len(photographs))
        axes = figure.subplots(len(photographs), 2, squeeze=False, width_ratios=(2, 3))
        for row, *one in zip(axes, photographs, titles, names, probabilities, strict=True):
            _draw(*row, *one)
        data = _png(figure)
    files.write_bytes(Path(path), data)


def curves(history: Sequence[Mapping[str, Any]], *, best: int | None = None, title: str = "") -> bytes:
    """Draw loss and accuracy of training and validation by epoch, and the learning rate if it varies.

    Args:
      history: rows as `tfxfer.train.run_directory.history` and `Fitted.history` give them.
      best: the step of the best checkpoint, which is marked.
      title: above it all, as the name of the run.

    Returns:
      A PNG.

    Raises:
      DataError: there is no row yet.
    """
    mpl = extras.load("matplotlib")
    if not history:
        raise DataError("there is nothing to draw yet: no epoch has ended")
    lines = _lines(history)
    panels = [name for name in ("loss", "accuracy") if any(metric == name for metric, _ in lines)]
    rates = lines.get(("learning_rate", "train"), [])
    if len({rate for _, rate in rates}) > 1:
        panels.append("learning_rate")
    place = None if best is None else best / _steps_an_epoch(history)
    with mpl.rc_context({"text.parse_math": False}):
        figure = _figure(4.2 * len(panels), 3.6)
        for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw_metric(axes, name, {split: points for (metric, split), points in lines.items() if metric == name})
            if place is not None:
                _mark_best(axes, place, dict(lines.get((name, "validation"), ())).get(place))
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.suptitle(title, weight="bold")
        return _png(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    # Some versions of matplotlib round pixels down.
    return Figure(figsize=(width + 1e-6, height + 1e-6), dpi=DOTS, layout="constrained")


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()


# --- curves ---


def _steps_an_epoch(history: Sequence[Mapping[str, Any]]) -> float:
    """Return it by the ends of epochs; without one, as if the last row were such an end."""
    ends = [row for row in history if row["split"] == "train"] or [history[-1]]
    return ends[0]["step"] / ends[0]["epoch"]


def _lines(history: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return (epochs, value) points by metric and split; a validation within an epoch is at a part of one."""
    every = _steps_an_epoch(history)
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in history:
        for name in row.keys() - {"step", "epoch", "split"}:
            lines.setdefault((name, row["split"]), []).append((row["step"] / every, row[name]))
    return lines


def _draw_metric(axes: Any, name: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for split, look in SPLITS.items():
        if points := lines.get(split):
            colour = {"color": GREEN} if name == "learning_rate" else {}
            size = 3.5 if len(points) <= MARKED else 0
            axes.plot(*zip(*points, strict=True), **{**look, **colour}, linewidth=1.6, markersize=size)
    values = [value for points in lines.values() for _, value in points]
    if name == "loss" and min(values) > 0 and max(values) > WIDE * min(values):
        _draw_decades(axes, (1, 2, 5) if max(values) < MANY_DECADES * min(values) else (1,))
        name = "loss (log scale)"
    axes.set_title(name.replace("_", " "), loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_decades(axes: Any, marked: tuple[int, ...]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=marked))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _mark_best(axes: Any, place: float, value: float | None) -> None:
    """Mark the best epoch, and say what validation gave there, above the panel where no line is."""
    label = f"best by validation: epoch {place:.4g}"
    axes.axvline(place, color=GREY, linestyle=":", linewidth=1.4, zorder=0, label=label)
    if value is not None:
        axes.plot([place], [value], marker="*", markersize=14, color=VERMILLION, markeredgecolor="white", zorder=3)
        axes.set_title(f"\N{BLACK STAR} {value:.4f}", loc="right", color=VERMILLION, fontsize="medium")


# --- predictions ---


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
