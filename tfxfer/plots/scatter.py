"""Features as points in a plane: projected by PCA or t-SNE, drawn by class without a display."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfxfer import extras
from tfxfer.errors import DataError
from tfxfer.store.features import Features

METHODS = ("pca", "tsne")
FEWEST = 3  # rows that make a picture
MOST_BYTES = 2 << 30  # of rows that are in memory at once
FIRST = 50  # components of PCA that t-SNE begins from, as its authors advise

# Okabe and Ito's colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#444444")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d")
COLUMN = 42  # classes in a column of the key
MOST_KEYS = 4 * COLUMN
MOST_NAMED = 12  # classes whose names stand among their points too
LONGEST = 24  # letters of a name


def chosen(features: Features, split: str, most: int, seed: int) -> np.ndarray:
    """Return the numbers of the rows to draw, in order: those of a split, or by chance so many of them.

    Raises:
      DataError: there are fewer than three.
    """
    rows = features.only(split)
    if len(rows) < FEWEST:
        raise DataError(f"{features.name} has {len(rows)} rows to draw; at least {FEWEST} are needed")
    return rows if len(rows) <= most else np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def project(features: Features, rows: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, str]:
    """Bring rows into the plane.

    Args:
      features: what `read` returned.
      rows: the numbers of the rows.
      method: one of `METHODS`; t-SNE begins from the first 50 components of PCA.
      seed: of what scikit-learn draws.

    Returns:
      Points float [n, 2], and in words how they came about.

    Raises:
      DataError: the rows are too large, all alike, or not finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    values = _matrix(features, rows)
    size = f"{len(rows):,} rows of {values.shape[1]:,} numbers"
    components = 2 if method == "pca" else min(FIRST, *values.shape)
    if values.shape[1] < 2:
        values = np.concatenate([values, np.zeros_like(values)], axis=1)
    pca = PCA(max(2, components), random_state=seed)
    points = pca.fit_transform(values)
    if method == "pca":
        share = " and ".join(f"{part:.1%}" for part in pca.explained_variance_ratio_)
        return points, f"PCA of {size}: across and up, {share} of the variance"
    perplexity = min(30.0, (len(rows) - 1) / 3)
    # In one thread: a sum's bits depend on how it is divided, and threads that wait for busy cores are slower than one.
    with threadpool_limits(1):
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
    return points, f"t-SNE of {size}, perplexity {perplexity:.3g}, seed {seed}"


def _matrix(features: Features, rows: np.ndarray) -> np.ndarray:
    width = math.prod(features.rows.shape[1:])
    if len(rows) * width * 4 > MOST_BYTES:
        raise DataError(
            f"{features.name}: {len(rows):,} rows of {width:,} numbers are too many for memory; draw fewer (`most`), "
            "or take an endpoint that is averaged over positions, as pool5:mean"
        )
    values = np.asarray(features.rows[rows], np.float32).reshape(len(rows), -1)
    strange = int((~np.isfinite(values)).any(axis=1).sum())
    if strange:
        raise DataError(f"{features.name}: {strange} of {len(rows)} rows hold NaN or infinity")
    if not np.ptp(values, axis=0).any():
        raise DataError(f"{features.name}: all {len(rows)} rows are alike")
    return values


# --- the picture ---


def draw(points: np.ndarray, labels: np.ndarray | None, class_names: Sequence[str], title: str, how: str) -> bytes:
    """Draw points by class.

    Args:
      points: float [n, 2].
      labels: int64 [n], or None to draw all alike.
      class_names: one a class.
      title: above it.
      how: below the title, smaller.

    Returns:
      A PNG.
    """
    mpl = extras.load("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # What is between two dollars in a name is no formula, and a letter that the font lacks is a box.
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        classes = [] if labels is None else np.unique(labels).tolist()
        columns = math.ceil(min(len(classes), MOST_KEYS) / COLUMN)
        figure = Figure(figsize=(7.6 + 1.7 * columns, 7.2), dpi=110, layout="constrained")
        axes: Any = figure.subplots()
        size = float(np.clip(14000 / len(points), 14, 60))
        for place, label in enumerate(classes or [None]):
            mine = points if label is None else points[labels == label]
            name = None if label is None else f"{_short(class_names[label])} ({len(mine):,})"
            colour, marker = _look(place)
            look = {"color": colour, "marker": marker, "linewidths": 0.35, "edgecolors": "#222222"}
            axes.scatter(*mine.T, s=size, alpha=0.8, label=name, **look)
        if 1 < len(classes) <= MOST_NAMED and labels is not None:
            _name(axes, points, labels, class_names)
        _frame(figure, axes, title, how)
        if classes:
            _key(figure, axes, len(classes), columns)
        data = io.BytesIO()
        FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()


def _look(place: int) -> tuple[str, str]:
    """Return the colour and the marker of a class: neighbours differ in both, and the first 104 in one at least."""
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def _clean(name: str) -> str:
    """Return a text that can be drawn on one line."""
    return re.sub(r"\s+|[\x00-\x1f]", " ", name.encode("utf-8", "replace").decode())


def _short(name: str) -> str:
    text = _clean(name)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _name(axes: Any, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Put the name of each class into the middle of its points."""
    from matplotlib.patheffects import withStroke

    for label in np.unique(labels):
        middle = np.median(points[labels == label], axis=0)
        text = axes.annotate(_short(class_names[label]), middle, ha="center", va="center", fontsize=11, weight="bold")
        text.set_path_effects([withStroke(linewidth=3.5, foreground="white")])


def _frame(figure: Any, axes: Any, title: str, how: str) -> None:
    figure.suptitle(_clean(title), fontsize=14, weight="bold")
    axes.set_title(how, fontsize=9.5, color="#444444")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", "datalim")
    axes.margins(0.05)
    axes.spines[:].set_color("#bbbbbb")


def _key(figure: Any, axes: Any, classes: int, columns: int) -> None:
    handles, texts = axes.get_legend_handles_labels()
    more = f"\nand {classes - MOST_KEYS} more" if classes > MOST_KEYS else ""
    small = 10 if classes <= COLUMN else 7.5
    figure.legend(
        handles[:MOST_KEYS],
        texts[:MOST_KEYS],
        loc="outside right upper",
        ncols=columns,
        fontsize=small,
        frameon=False,
        markerscale=1.4,
        title=f"{classes} classes{more}",
        title_fontsize=small,
    )
