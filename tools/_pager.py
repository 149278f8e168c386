"""How the tools print: names as they are fit to be shown, and what is long through a pager."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from tfxfer.names import printable


def width() -> int | None:
    """Return the width of the terminal; None where the output goes elsewhere, so that nothing is cut or folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say(text: object) -> None:
    """Print a text of one line or several, at once. What a terminal would obey is escaped: names come from files."""
    print("\n".join(map(printable, str(text).split("\n"))), flush=True)


def show(lines: Sequence[str]) -> None:
    """Print lines, through a pager ($PAGER, else less) where they are more than a terminal shows."""
    text = "\n".join(map(printable, lines))
    if sys.stdout.isatty() and len(lines) >= shutil.get_terminal_size().lines:
        import pydoc

        pydoc.pager(text)
    else:
        print(text)
