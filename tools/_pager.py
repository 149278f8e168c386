"""How the tools print what may be long: through a pager, where the terminal is too small."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence


def width() -> int | None:
    """Return the width of the terminal; None where the output goes elsewhere, so that nothing is cut or folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show(lines: Sequence[str]) -> None:
    """Print lines, through a pager ($PAGER, else less) where they are more than a terminal shows."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that the terminal's coding has not
    text = "\n".join(lines)
    if sys.stdout.isatty() and len(lines) >= shutil.get_terminal_size().lines:
        import pydoc

        pydoc.pager(text)
    else:
        print(text)
