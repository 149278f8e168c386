"""What the model said of test examples: each class's figures, and the mistakes that it was surest of."""

from __future__ import annotations

import math
import struct

import numpy as np

from tfxfer.markup import Markup, data_uri, section, soft, tag
from tfxfer.reports.run_reader import Mistake, Test
from tfxfer.reports.tables import MOST_AT_ONCE, named, table

MOST_IN_ORDER = 40  # more classes are sorted, the weakest first
TINY = 64  # pixels of a side up to which a picture is enlarged without smoothing
MOST = 25


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return precision, recall, f1-score and the number of examples of each class; 0 where there are none to tell."""
    right, examples, taken = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    # 2 p r / (p + r), where p = right / taken and r = right / examples
    f1 = 2 * right / np.maximum(examples + taken, 1)
    return {
        "precision": right / np.maximum(taken, 1),
        "recall": right / np.maximum(examples, 1),
        "f1-score": f1,
        "examples": examples,
    }


def classes_section(test: Test) -> Markup:
    """Return a table of the classes."""
    figures = per_class(test.confusion)
    count = len(test.class_names)
    weakest_first = count > MOST_IN_ORDER
    order = np.argsort(figures["f1-score"], kind="stable").tolist() if weakest_first else range(count)
    rows = [_class_row(test.class_names[number], figures, number) for number in order]
    text = (
        "Precision: of what was taken for the class, the share that is of it. Recall: of the class, the share that "
        "was found. f1-score: the harmonic mean of both." + " The weakest come first." * weakest_first
    )
    columns, tall = ("class", *figures), count > MOST_AT_ONCE
    figures_table = table(columns, rows, label="Figures of each class", numbers=columns[1:], tall=tall, look="wide")
    return section("classes", "Class by class", soft(text), figures_table)


def _class_row(name: str, figures: dict[str, np.ndarray], number: int) -> Markup:
    cells = [
        tag("td", f"{values[number]:.4f}", class_="number bar", style=f"--v:{values[number]:.3f}")
        for key, values in figures.items()
        if key != "examples"
    ]
    support = tag("td", f"{figures['examples'][number]:,}", class_="number")
    return tag("tr", tag("th", named(name), scope="row"), cells, support)


def mistakes_section(test: Test) -> Markup:
    """Return the mistakes with their pictures."""
    count, shown = int(test.confusion.sum() - np.trace(test.confusion)), test.mistakes[:MOST]
    title = "The worst mistakes"
    if not shown:
        text = f"The run has not noted which examples the {count:,} mistakes are." if count else "There is none."
        return section("mistakes", title, tag("p", text))
    of = f"The {len(shown)} of {count:,}" if len(shown) < count else f"All {count:,}"
    text = f"{of}, the one that the model was surest of first, and how probable it found it."
    cards = tag("div", [_card(mistake) for mistake in shown], class_="cards", role="list")
    return section("mistakes", title, soft(text), cards)


def _card(mistake: Mistake) -> Markup:
    lines = [
        tag("p", "is ", tag("b", named(mistake.true))),
        tag("p", "taken for ", tag("b", named(mistake.predicted), class_="taken")),
        None if math.isnan(mistake.probability) else tag("p", f"with {mistake.probability:.1%}"),
        tag("p", named(_short(mistake.path)), class_="path", title=mistake.path) if mistake.path else None,
    ]
    return tag("div", _picture(mistake), tag("div", lines, class_="said"), class_="card", role="listitem")


def _short(path: str) -> str:
    """Return the last two parts of a path: the file and its folder."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])


def _picture(mistake: Mistake) -> Markup:
    place = f" ({_short(mistake.path)})" if mistake.path else ""
    label = f"{mistake.true}, taken for {mistake.predicted}{place}"
    if mistake.picture is None:
        missing = f"Missing picture: {label}"
        return tag("div", "the picture is missing", class_="missing", role="img", aria_label=missing)
    # Width and height stand in bytes 16 to 23 of every PNG.
    tiny = max(struct.unpack(">II", mistake.picture[16:24].ljust(8, b"\0"))) <= TINY
    return tag("img", src=data_uri(mistake.picture), alt=f"Picture of {label}", class_="tiny" if tiny else None)
