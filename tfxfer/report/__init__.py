"""A run as one page: everything that its directory holds, in one HTML file. TensorFlow is not loaded."""

from __future__ import annotations

import os
from pathlib import Path

from tfxfer import files
from tfxfer.report.page import document
from tfxfer.report.run_reader import Run, read
from tfxfer.report.summary_section import missing, result_line

FILE = "report.html"

__all__ = ["FILE", "Run", "document", "missing", "read", "result_line", "write"]


def write(run: Run, out: str | os.PathLike[str] | None = None, *, command: str | None = None) -> Path:
    """Write the page of a run, finished or not, and return where it is.

    Args:
      run: what `read` returned.
      out: the file, replaced in one step; default: `report.html` in the run directory.
      command: how to make such a run again.

    Raises:
      OSError: the file cannot be written.
    """
    path = run.path / FILE if out is None else Path(out)
    files.write_bytes(path, document(run, command).encode())
    return path
