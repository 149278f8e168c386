"""The confusion matrix: a table for few classes, a map of blocks for many, and what was confused most often."""

from __future__ import annotations

import numpy as np

from tfxfer.markup import Markup, section, soft, tag
from tfxfer.plots.confusion import DEEP, MOST_NAMED, blocks, confused_pairs, depth
from tfxfer.reports.run_reader import Test
from tfxfer.reports.tables import named, row, scrolled, table

LEVELS = 12  # shades of the map
VERY_DEEP = 0.75  # share from which on a number stands out better in white in the light page too
SCALE = 6  # units of the map's picture a cell


def confusion_section(test: Test) -> Markup:
    """Return the matrix and the pairs that were confused most."""
    matrix = _matrix(test) if len(test.class_names) <= MOST_NAMED else _map(test)
    right, count = int(np.trace(test.confusion)), int(test.confusion.sum())
    text = (
        f"{right:,} of {count:,} test examples are right. A row is a true class, a column what it was taken for; "
        "the darker a cell, the larger its share of the row."
    )
    beside = tag("div", tag("div", matrix, _ramp()), _pairs(test), class_="beside")
    return section("confusion", "What was taken for what", soft(text), beside)


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
    shares = blocks(test.confusion).shares
    body = [_row(test, shares, number) for number in range(len(test.class_names))]
    short = " short" if max(map(len, test.class_names)) <= 3 else ""
    corner = tag("td", tag("span", "true, taken for", class_="skip"))
    cells = tag("table", tag("thead", tag("tr", corner, head)), tag("tbody", body), class_=f"matrix{short}")
    return scrolled(cells, label="Confusion matrix")


def _row(test: Test, shares: np.ndarray, true: int) -> Markup:
    name = test.class_names[true]
    cells = [_cell(test, shares, true, taken) for taken in range(len(test.class_names))]
    return tag("tr", tag("th", named(name), scope="row", title=name), cells)


def _cell(test: Test, shares: np.ndarray, true: int, taken: int) -> Markup:
    count, share = int(test.confusion[true, taken]), float(shares[true, taken])
    looks = {"right": true == taken, "deep": share > VERY_DEEP, "half": DEEP < share <= VERY_DEEP, "zero": not count}
    title = f"{test.class_names[true]} taken for {test.class_names[taken]}: {count:,} ({share:.0%})"
    look = " ".join(name for name, applies in looks.items() if applies)
    return tag("td", f"{count:,}", class_=look or None, style=f"--v:{depth(share):.3f}", title=title)


def _map(test: Test) -> Markup:
    """Return a picture: right cells of the diagonal blocks are kept apart from the wrong ones beside them."""
    matrix = blocks(test.confusion)
    side, size = len(matrix.right) * SCALE, matrix.size
    drawn = [
        _shade(np.argwhere(np.ceil(depth(share) * LEVELS) == level), level, look)
        for look, share in (("wrong", matrix.wrong), ("right", np.diag(matrix.right)))
        for level in range(1, LEVELS + 1)
    ]
    together = f", {size} classes to a row and column in their order" if size > 1 else ""
    label = f"Confusion matrix of {len(test.class_names):,} classes{together}."
    ending = "" if size == 1 else f" A cell is a block of {size} by {size} classes."
    picture = tag("svg", drawn, class_="map", viewBox=f"0 0 {side} {side}", role="img", aria_label=label)
    note = f"{len(test.class_names):,} classes, true from top to bottom, taken for from left to right.{ending}"
    return tag("figure", picture, tag("figcaption", note))


def _shade(places: np.ndarray, level: int, look: str) -> Markup:
    if not len(places):
        return Markup("")
    side = SCALE - 1
    path = "".join(f"M{column * SCALE} {line * SCALE}h{side}v{side}h-{side}z" for line, column in places.tolist())
    return tag("path", d=path, class_=look, fill_opacity=round(level / LEVELS, 2))


def _pairs(test: Test) -> Markup:
    pairs = confused_pairs(test.confusion)
    if not pairs:
        return tag("div", tag("p", "No class was taken for another."))
    totals = test.confusion.sum(axis=1)
    rows = [
        row(named(test.class_names[true]), [named(test.class_names[taken])], numbers=[f"{count:,} of {totals[true]:,}"])
        for true, taken, count in pairs
    ]
    columns = ("true", "taken for", "examples")
    return tag("div", tag("h3", "Most confused"), table(columns, rows, label="Most confused", numbers=columns[2:]))
