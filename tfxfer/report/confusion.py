"""The confusion matrix: a table for few classes, a map of blocks for many, and what was confused most often."""

from __future__ import annotations

import math

import numpy as np

from tfxfer.report.markup import Markup, tag
from tfxfer.report.run_reader import Test
from tfxfer.report.tables import named, row, scrolled, table

MOST_IN_TABLE = 25  # classes whose numbers fit into a table
MOST_BLOCKS = 100  # rows of the map
LEVELS = 12  # shades of the map
PAIRS = 15
# A shade is by the root of the share, so that one example of many is still to be seen. From these shares on a cell's
# number stands out better in the other colour, in the dark page and in the light one.
HALF, DEEP = 0.36, 0.75
SCALE = 6  # units of the map's picture a cell


def section(test: Test) -> Markup:
    """Return the matrix and the pairs that were confused most."""
    few = len(test.class_names) <= MOST_IN_TABLE
    return tag(
        "section",
        tag("h2", "What was taken for what"),
        tag("p", _summary(test), class_="soft"),
        tag("div", tag("div", _matrix(test) if few else _map(test), _ramp()), _pairs(test), class_="beside"),
        id="confusion",
    )


def shares(confusion: np.ndarray) -> np.ndarray:
    """Return each row as shares of its sum, float64; a row of zeros stays zeros."""
    totals = confusion.sum(axis=1, keepdims=True)
    return confusion / np.maximum(totals, 1)


def pairs(confusion: np.ndarray, most: int = PAIRS) -> list[tuple[int, int, int]]:
    """Return (true, predicted, count) of the pairs that were confused most often, that first."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    found = [(int(place // len(wrong)), int(place % len(wrong))) for place in order]
    return [(true, taken, int(wrong[true, taken])) for true, taken in found if wrong[true, taken]]


def _summary(test: Test) -> str:
    right, every = int(np.trace(test.confusion)), int(test.confusion.sum())
    return (
        f"{right:,} of {every:,} test examples are right. A row is a true class, a column what it was taken for; "
        "the darker a cell, the larger its share of the row."
    )


def _ramp() -> Markup:
    return tag(
        "div",
        tag("span", tag("i"), "right, 0 to 100 % of the row", class_="right"),
        tag("span", tag("i"), "wrong, 0 to 100 % of the row", class_="wrong"),
        class_="ramp",
        aria_hidden="true",
    )


def _matrix(test: Test) -> Markup:
    head = [tag("th", named(name), scope="col", title=name) for name in test.class_names]
    part = shares(test.confusion)
    body = [_row(test, part, number) for number in range(len(test.class_names))]
    short = " short" if max(map(len, test.class_names)) <= 3 else ""
    corner = tag("td", tag("span", "true, taken for", class_="skip"))
    matrix = tag("table", tag("thead", tag("tr", corner, head)), tag("tbody", body), class_=f"matrix{short}")
    return scrolled(matrix, label="Confusion matrix")


def _row(test: Test, part: np.ndarray, number: int) -> Markup:
    name = test.class_names[number]
    head = tag("th", named(name), scope="row", title=name)
    cells = [_cell(test, part, number, column) for column in range(len(test.class_names))]
    return tag("tr", head, cells)


def _cell(test: Test, part: np.ndarray, true: int, taken: int) -> Markup:
    count, share = int(test.confusion[true, taken]), float(part[true, taken])
    looks = [
        "right" if true == taken else "",
        "deep" if share > DEEP else "half" if share > HALF else "",
        "zero" if not count else "",
    ]
    title = f"{test.class_names[true]} taken for {test.class_names[taken]}: {count:,} ({share:.0%})"
    return tag(
        "td",
        f"{count:,}",
        class_=" ".join(filter(None, looks)) or None,
        style=f"--v:{math.sqrt(share):.3f}",
        title=title,
    )


def blocks(confusion: np.ndarray, most: int = MOST_BLOCKS) -> tuple[np.ndarray, int]:
    """Return the matrix with neighbouring classes taken together, so that it has at most so many rows.

    Returns:
      The counts, and how many classes there are in a block.
    """
    size = math.ceil(len(confusion) / most)
    rows = math.ceil(len(confusion) / size)
    padded = np.zeros((rows * size, rows * size), confusion.dtype)
    padded[: len(confusion), : len(confusion)] = confusion
    return padded.reshape(rows, size, rows, size).sum(axis=(1, 3)), size


def _map(test: Test) -> Markup:
    """Return a picture: right cells of the diagonal blocks are kept apart from the wrong ones beside them."""
    right = np.diag(np.diag(test.confusion))
    counts, size = blocks(test.confusion)
    correct = np.diag(blocks(right)[0])
    wrong = counts - np.diag(correct)
    totals = np.maximum(counts.sum(axis=1), 1)
    side = len(counts) * SCALE
    drawn = [_wrong(wrong / totals[:, None]), _right(correct / totals)]
    together = f", {size} classes to a row and column in their order" if size > 1 else ""
    said = f"Confusion matrix of {len(test.class_names):,} classes{together}."
    ending = "" if size == 1 else f" A cell is a block of {size} by {size} classes."
    picture = tag("svg", drawn, class_="map", viewBox=f"0 0 {side} {side}", role="img", aria_label=said)
    note = f"{len(test.class_names):,} classes, true from top to bottom, taken for from left to right.{ending}"
    return tag("figure", picture, tag("figcaption", note))


def _wrong(part: np.ndarray) -> list[Markup]:
    return [_shade(np.argwhere(_levels(part) == level), level, "wrong") for level in range(1, LEVELS + 1)]


def _right(part: np.ndarray) -> list[Markup]:
    found = _levels(part)
    places = [np.flatnonzero(found == level) for level in range(1, LEVELS + 1)]
    return [_shade(np.stack([at, at], axis=1), level, "right") for level, at in enumerate(places, 1)]


def _levels(part: np.ndarray) -> np.ndarray:
    """Return the shade of each share."""
    return np.ceil(np.sqrt(part) * LEVELS).astype(int)


def _shade(places: np.ndarray, level: int, look: str) -> Markup:
    if not len(places):
        return Markup("")
    side = SCALE - 1
    path = "".join(f"M{column * SCALE} {line * SCALE}h{side}v{side}h-{side}z" for line, column in places.tolist())
    return tag("path", d=path, class_=look, fill_opacity=round(level / LEVELS, 2))


def _pairs(test: Test) -> Markup:
    found = pairs(test.confusion)
    if not found:
        return tag("div", tag("p", "No class was taken for another."))
    totals = test.confusion.sum(axis=1)
    rows = [
        row(named(test.class_names[true]), [named(test.class_names[taken])], numbers=[f"{count:,} of {totals[true]:,}"])
        for true, taken, count in found
    ]
    columns = ("true", "taken for", "examples")
    return tag("div", tag("h3", "Most confused"), table(columns, rows, label="Most confused", numbers=columns[2:]))
