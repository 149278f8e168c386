"""A run as one page: everything that its directory holds, in one HTML file. TensorFlow is not loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tfxfer import files
from tfxfer._lazy import attach
from tfxfer.report.page import document
from tfxfer.report.run_reader import Run, read
from tfxfer.report.summary_section import missing, result_line

FILE = "report.html"

__all__ = ["FILE", "Run", "document", "missing", "read", "result_line", "write"]

if TYPE_CHECKING:
    from tfxfer.report import calibration as calibration
    from tfxfer.report import confusion as confusion
    from tfxfer.report import curves as curves
    from tfxfer.report import environment as environment
    from tfxfer.report import examples as examples
    from tfxfer.report import filters as filters
    from tfxfer.report import folds as folds
    from tfxfer.report import learning_curve as learning_curve
    from tfxfer.report import markup as markup
    from tfxfer.report import page as page
    from tfxfer.report import restore_table as restore_table
    from tfxfer.report import run_reader as run_reader
    from tfxfer.report import style as style
    from tfxfer.report import summary_section as summary_section
    from tfxfer.report import suspects as suspects
    from tfxfer.report import tables as tables
    from tfxfer.report import training_curves as training_curves
else:
    __getattr__, __dir__ = attach(__name__)


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
