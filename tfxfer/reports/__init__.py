"""A run as one page: everything that its directory holds, in one HTML file. TensorFlow is not loaded."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tfxfer import files, notebook
from tfxfer._lazy import attach
from tfxfer.errors import DataError
from tfxfer.reports.page import document, is_document
from tfxfer.reports.run_reader import Run, read
from tfxfer.reports.summary_section import missing, result_line

FILE = "report.html"

__all__ = ["FILE", "Report", "Run", "read", "report"]

if TYPE_CHECKING:
    from tfxfer.reports import calibration as calibration
    from tfxfer.reports import confusion as confusion
    from tfxfer.reports import curves as curves
    from tfxfer.reports import environment as environment
    from tfxfer.reports import examples as examples
    from tfxfer.reports import filters as filters
    from tfxfer.reports import folds as folds
    from tfxfer.reports import learning_curve as learning_curve
    from tfxfer.reports import page as page
    from tfxfer.reports import restore_table as restore_table
    from tfxfer.reports import run_reader as run_reader
    from tfxfer.reports import style as style
    from tfxfer.reports import summary_section as summary_section
    from tfxfer.reports import suspects as suspects
    from tfxfer.reports import tables as tables
    from tfxfer.reports import training_curves as training_curves
else:
    __getattr__, __dir__ = attach(__name__)


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """A run as one page, which Jupyter shows below the cell; `str` gives the result in a few words.

    Attributes:
      run: what the run directory held when it was read.
      command: how to make such a run again, which the page ends with; None where nobody knows.

    Example:
      >>> images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(tf.cast(images, tf.float32) / 255, classes=10)
      >>> step = tx.train_step(images, labels, logits, train=".*")
      >>> with tx.session() as sess:
      ...     fitted = tx.fit(sess, step, tx.data.digits(), epochs=1, logdir="runs/digits")
      >>> page = tx.report("runs/digits")
      >>> page.html[:15], page.run.reached, page.write("digits.html").name
      ('<!DOCTYPE html>', 1, 'digits.html')
    """

    run: Run
    command: str | None = None

    @property
    def html(self) -> str:
        """The whole page, the same text for the same run."""
        return document(self.run, self.command)

    @property
    def missing(self) -> list[str]:
        """What the page cannot show, and why."""
        return missing(self.run)

    def write(self, out: str | os.PathLike[str] | None = None) -> Path:
        """Write the page as one file, and return where it is.

        Args:
          out: the file; default: `report.html` in the run directory. A report is replaced, in one step.

        Raises:
          DataError: something is there that is not a report.
          OSError: the file cannot be written.
        """
        path = self.run.path / FILE if out is None else Path(out)
        if os.path.lexists(path) and not is_document(path):
            raise DataError(f"{path} exists and is not a report of tfxfer; take another name, or move it away")
        files.write_bytes(path, self.html.encode())
        return path

    def __str__(self) -> str:
        return result_line(self.run)

    def __repr__(self) -> str:
        return f"<Report {self.run.path}: {self}>"

    def _repr_html_(self) -> str:
        return notebook.frame(self.html, title=f"{self.run.name}: {self}")


def report(run: str | os.PathLike[str], *, command: str | None = None) -> Report:
    """Read a run, finished or not, as one page: curves, confusion, mistakes, filters, restore plan, proof of freezing.

    In Jupyter, `tx.report(run)` as the last line of a cell shows the page. TensorFlow is not loaded.

    Args:
      run: the run directory, or what `open_run` returned.
      command: how to make such a run again, which the page ends with.

    Raises:
      RunError: the directory holds no run, or its settings cannot be read. What else cannot be read, the page says.

    Example:
      >>> images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(tf.cast(images, tf.float32) / 255, classes=10)
      >>> step = tx.train_step(images, labels, logits, train=".*")
      >>> with tx.session() as sess:
      ...     fitted = tx.fit(sess, step, tx.data.digits(), epochs=1, logdir="runs/digits")
      >>> str(tx.report("runs/digits")).startswith("validation accuracy 0.")
      True
    """
    return Report(read(run), command)
