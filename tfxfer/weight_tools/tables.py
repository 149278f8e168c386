"""Tables of plain text: quick for ten thousand rows, and of use to grep."""

from __future__ import annotations

from collections.abc import Sequence

from tfxfer.names import printable
from tfxfer.weights import Weights

GAP = "  "
INDENT = "    "


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Lay out rows in columns.

    Args:
      headings: of the columns; one that begins with `>` has its column to the right.
      rows: the cells, in which what a terminal would obey is escaped.
      width: of the terminal. Where a table is wider, the first cell of a row stands on a line of its own and the
        others below it. None leaves every row on one line, however long.

    Returns:
      Lines, the headings first.
    """
    titles = [heading.removeprefix(">") for heading in headings]
    rows = [[printable(cell) for cell in row] for row in rows]
    lines = _aligned(headings, [titles, *rows])
    if width is None or max(map(len, lines)) <= width:
        return lines
    below = _aligned(headings[1:], [titles[1:], *(row[1:] for row in rows)])
    return [line for row, rest in zip([titles, *rows], below, strict=True) for line in (row[0], INDENT + rest)]


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = GAP.join(
        f"{{:{'>' if heading.startswith('>') else '<'}{size}}}" for heading, size in zip(headings, widths, strict=True)
    )
    return [form.format(*row).rstrip() for row in rows]


def number(value: float | None) -> str:
    """Show a number with four digits; `-` for none."""
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def reason(weights: Weights, name: str) -> str:
    """Return why an entry of a file is skipped, without the path and the name that stand before."""
    return weights.skipped[name].removeprefix(f"{weights.path}: ").rpartition(f"{name}: ")[2]
