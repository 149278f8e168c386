"""What Jupyter shows below a cell: tables, whole pages, and a line that is drawn anew in its place.

Text has the colours of the notebook, so that it can be read in a light theme and in a dark one. Names come from files,
and are escaped. Jupyter itself is not needed: nothing of it is imported where no notebook runs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from tfxfer.markup import Child, Markup, join, tag

FIRST, LAST = 20, 10  # rows that are shown of a longer table
HEIGHT = 640  # of a page within a notebook, in pixels

Item = TypeVar("Item")

_TABLE = "margin:.4em 0;border-collapse:collapse;font-variant-numeric:tabular-nums"
_CELL = "padding:.15em .9em .15em .2em;vertical-align:top;max-width:32em;overflow-wrap:anywhere;unicode-bidi:isolate"
_HEAD = "border-bottom:1px solid;white-space:nowrap"  # in the colour of the text
_SOFT = "opacity:.75;margin:.3em 0;unicode-bidi:isolate;overflow-wrap:anywhere"


def table(
    columns: Sequence[str],
    items: Sequence[Item],
    cells: Callable[[Item], Sequence[Child]],
    *,
    numbers: Collection[str] = (),
) -> Markup:
    """Return a table with a row for each item; of many, the first and the last, and how many are left out.

    Args:
      columns: the headings.
      items: what the rows are made of.
      cells: makes the cells of a row; it is called for the rows that are shown.
      numbers: the headings above numbers, which stand to the right.
    """
    sides = ["right" if name in numbers else "left" for name in columns]
    left_out = len(items) - FIRST - LAST
    cut = left_out > 1  # one row takes no more room than the line that says so
    rows = [_row("td", cells(item), sides) for item in (items[:FIRST] if cut else items)]
    if cut:
        more = f"\N{VERTICAL ELLIPSIS} {left_out:,} more"
        rows += [tag("tr", tag("td", more, colspan=len(columns), style=f"{_CELL};text-align:left"))]
        rows += [_row("td", cells(item), sides) for item in items[-LAST:]]
    head = tag("thead", _row("th", columns, sides))
    return tag("div", tag("table", head, tag("tbody", rows), style=_TABLE), style="overflow-x:auto")


def _row(kind: str, cells: Sequence[Child], sides: Sequence[str]) -> Markup:
    look = f"{_CELL};{_HEAD}" if kind == "th" else _CELL
    return tag(
        "tr",
        [tag(kind, cell, style=f"{look};text-align:{side}") for cell, side in zip(cells, sides, strict=True)],
    )


def described(title: Child, *parts: Markup, notes: Collection[Child] = ()) -> Markup:
    """Return what is shown of an object: a title, what lies below it, and notes at the end."""
    below = [tag("p", note, style=_SOFT) for note in notes]
    return tag("div", tag("p", title, style="margin:.3em 0;overflow-wrap:anywhere"), parts, below)


def frame(page: str, *, title: str) -> Markup:
    """Return a whole HTML page as a part of a notebook: its styles stay within it, and no script of it runs."""
    look = f"width:100%;height:{HEIGHT}px;border:0;border-radius:8px;resize:vertical"
    # Else a link to a part of the page would lead to the notebook, whose address such a page takes for its own. It goes
    # before the page's own policy, which forbids to change that.
    own = page.replace("<head>", '<head><base href="about:srcdoc"/>', 1)
    return tag("iframe", srcdoc=own, title=title, sandbox=True, style=look)


def is_running() -> bool:
    """Say whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class Line:
    """A line below the running cell: shown once, and then drawn anew in its place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, content: Child, text: str) -> None:
        """Draw it; `text` is for front ends that show no HTML."""
        data = {"text/html": str(join(content)), "text/plain": text}
        if self._handle is None:
            self._handle = importlib.import_module("IPython.display").display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
