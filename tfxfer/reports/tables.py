"""Tables that scroll within themselves where a phone is narrower."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfxfer.markup import Markup, tag

LONG = 40  # letters of a name that may be cut where space is short
MOST_AT_ONCE = 14  # rows without a box that scrolls


def table(
    columns: Sequence[str],
    rows: Iterable[Markup],
    *,
    label: str,
    numbers: Sequence[str] = (),
    tall: bool = False,
    look: str | None = None,
) -> Markup:
    """Return a table in a box that scrolls.

    Args:
      columns: the headings.
      rows: `tr` elements.
      label: what it is, for those who do not see it.
      numbers: the headings above numbers, which stand to the right.
      tall: whether to bound its height too.
      look: its class.
    """
    heads = [tag("th", name, scope="col", class_="number" if name in numbers else None) for name in columns]
    return scrolled(
        tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows), class_=look), label=label, tall=tall
    )


def scrolled(content: Markup, *, label: str, tall: bool = False) -> Markup:
    """Return a box that scrolls, also by keys."""
    return tag("div", content, class_="scroll tall" if tall else "scroll", tabindex=0, role="region", aria_label=label)


def named(text: str) -> Markup:
    """Return the name of a class or a file: apart from scripts that run the other way, whole when it is pointed at."""
    return tag("span", text, class_="name", title=text if len(text) > LONG else None)


def counted(count: int, what: str) -> str:
    """Return `1 variable`, `2 variables`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def row(head: object, cells: Iterable[object], *, numbers: Iterable[object] = ()) -> Markup:
    """Return a row: its heading, cells of text, cells of numbers."""
    texts = [tag("td", cell) for cell in cells]
    return tag("tr", tag("th", head, scope="row"), texts, [tag("td", cell, class_="number") for cell in numbers])
