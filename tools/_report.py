"""What the tools print and draw of plans, runs and evaluations."""

from __future__ import annotations

import contextlib
import logging as python_logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfxfer import extras, names
from tfxfer.errors import DataError
from tfxfer.plots.confusion import MOST_NAMED, confused_pairs
from tfxfer.plots.png import check_free
from tfxfer.statistics import intervals
from tfxfer.tools import _flags, _pager

REPLACED = "A picture that tfxfer drew is replaced; any other file is refused."  # of each flag that names one
MOST_CLASSES = 20  # of more, the weakest alone are printed
MOST_CONFUSED = 10  # pairs of classes


def show_plans(plans: Sequence[Any], step: Any) -> None:
    """Print each plan's report, and what is trained and what is frozen."""
    from tfxfer.graph.partitioned import wholes

    for plan in plans:
        _pager.say(plan.report())
    if not plans:
        _pager.say("restore plan: nothing is restored; every variable is initialised")
    _pager.say(f"trained: {names.listed(wholes(step.trained))}")


def show_class_weights(step: Any, class_names: Sequence[str]) -> None:
    """Print how much an example of each class counts, where they do not count alike."""
    if step.class_weights:
        rows = zip(class_names, step.class_weights, strict=True)
        _pager.say(f"class weights: {names.listed(f'{name}: {weight:.4g}' for name, weight in rows)}")


class _Stderr(python_logging.StreamHandler):
    """Writes to what sys.stderr is at the time: a live bar puts itself in its place."""

    stream = property(lambda self: sys.stderr, lambda self, stream: None)  # type: ignore[assignment]


class _InFlags(python_logging.Formatter):
    """Says what the library logs in the flags of the tool that runs."""

    def format(self, record: python_logging.LogRecord) -> str:
        return _flags.in_flags(super().format(record))


def show_notes(examples: Any) -> None:
    """Print what somebody who uses the examples should know, as what was set aside."""
    for note in examples.notes:
        _pager.say(_flags.in_flags(note))


def show_misfits(notes: Iterable[str]) -> None:
    """Print which flags do not fit the length of the run."""
    for note in notes:
        _pager.say(f"note: {note}")


def check_top_k(settings: Any, classes: int) -> None:
    """Refuse a --top_k that was given and says nothing.

    Raises:
      DataError: the data has no more classes than that.
    """
    if settings["top_k"].present and settings.top_k >= classes:
        raise DataError(f"--top_k={settings.top_k}: there are {classes} classes, so that all are among them; lower it")


@contextlib.contextmanager
def logging() -> Iterator[None]:
    """Print what is logged: all of it, with the time, where standard error is not a terminal; else warnings."""
    logger = python_logging.getLogger("tfxfer")
    if sys.stderr.isatty():
        handler: python_logging.StreamHandler = _Stderr()
        handler.setLevel(python_logging.WARNING)
        handler.setFormatter(_InFlags())
    else:
        handler = python_logging.StreamHandler(sys.stdout)
        handler.setFormatter(_InFlags("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _table(columns: Iterable[tuple[str, Any]], rows: Iterable[Iterable[str | Text]]) -> Table:
    """Return a table with columns, pairs of heading and alignment, and rows of texts, in which nothing is markup."""
    table = Table(box=None)
    for heading, justify in columns:
        table.add_column(Text(heading), justify=justify)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def show_table(title: str, columns: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table of texts with a title above it; what is piped is not cut to a terminal's width."""
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    console.print(Text(title), soft_wrap=True)
    cells = ([names.printable(cell) for cell in row] for row in rows)
    console.print(_table([(heading, "left") for heading in columns], cells))


def show_run(fitted: Any, logdir: str) -> None:
    """Print a table of the last epochs, where the best checkpoint is, and how to look at the run."""
    console = Console()

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    say(f"{logdir}: {fitted.epochs} epochs, {fitted.steps} steps")
    metrics = [key for key in fitted.history[-1] if key not in ("step", "epoch", "split", "learning_rate")]
    best = int(fitted.best.rpartition("-")[2])
    rows = []
    for row in fitted.history[-6:]:
        style = "bold" if row["step"] == best and row["split"] == "validation" else ""
        cells = (str(row["epoch"]), str(row["step"]), row["split"], *(f"{row[metric]:.4f}" for metric in metrics))
        rows.append([Text(cell, style) for cell in cells])
    headings = ("epoch", "step", "split", *metrics)
    console.print(_table([(name, "left" if name == "split" else "right") for name in headings], rows))
    if fitted.frozen:
        say(f"frozen: {fitted.frozen} variables, bit-identical to the start")
    say(f"best by validation: {fitted.best}{'; stopped early' if fitted.stopped_early else ''}")
    say(f"look at it: tfxfer board {logdir}, or tfxfer report {logdir}")


def show_folds(folds: Any, logdir: str) -> None:
    """Print a table of the folds, where their runs are, and the mean accuracy with its spread."""
    console = Console()
    rows = zip(folds.runs, folds.accuracies, folds.right, folds.counts, strict=True)
    cells = [(name, f"{accuracy:.4f}", f"{right:,}", f"{count:,}") for name, accuracy, right, count in rows]
    headings = (("run", "left"), *((name, "right") for name in ("test accuracy", "right", "examples")))
    console.print(_table(headings, cells))
    right, count = sum(folds.right), sum(folds.counts)
    lines = [
        f"kept: {len(folds.runs)} runs in {logdir}, {folds.runs[0]} to {folds.runs[-1]}; look at one: tfxfer report "
        f"{logdir}/{folds.runs[0]}",
        f"{right:,} of {count:,} right; {intervals.shown(right, count)} of the accuracy (Wilson)",
        str(folds),
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def define_top_k(values: flags.FlagValues) -> None:
    """Define the flag that says what counts as nearly right."""
    flags.DEFINE_integer(
        "top_k",
        5,
        "Say too how often the true class is among so many of the most probable, where there are more classes.",
        1,
        flag_values=values,
    )


def define_picture(values: flags.FlagValues) -> None:
    """Define the flag that asks for the curves of a run."""
    flags.DEFINE_string(
        "picture",
        None,
        "PNG to draw the run's curves into: loss and accuracy by epoch, and the learning rate if it varies. "
        + REPLACED,
        flag_values=values,
    )


def check_picture(path: str | None) -> None:
    """Refuse a picture that could not be written in the end.

    Raises:
      DataError: its folder does not exist, or something is there that tfxfer did not draw.
      MissingPackageError: matplotlib, which draws it, is not installed.
    """
    if path and not Path(path).absolute().parent.is_dir():
        raise DataError(f"--picture={path}: its folder does not exist")
    if path:
        check_free(path)
        extras.load("matplotlib")


def draw_curves(path: str, run: str) -> None:
    """Draw the curves of a run into a PNG file.

    Raises:
      RunError: the run has no checkpoint yet.
    """
    from tfxfer import files
    from tfxfer.plots import curves
    from tfxfer.runs.state import history as read_history

    history, best = read_history(run)
    files.write_bytes(Path(path), curves.draw(history, best=best, title=Path(run).absolute().name))


def keep_test(run: str, result: Any, split: Any, checkpoint: str) -> str:
    """Write the run's test.json and the pictures of its worst mistakes; return what to print of it.

    Raises:
      RunError: they cannot be written.
    """
    from tfxfer.evaluation.test_results import FILE, FOLDER, record

    kept = record(run, result, split, checkpoint)["mistakes"]
    wrong = int((~result.right).sum())
    pictures = f", {Path(run, FOLDER)}" if any(mistake["picture"] for mistake in kept) else ""
    return f"{wrong:,} of {len(result.labels):,} test examples wrong: {Path(run, FILE)}{pictures}"


def show_evaluation(result: Any, title: str) -> None:
    """Print a confusion matrix, and a table of each class's precision and recall; of many classes the worst alone."""
    console = Console()
    console.print(Text(title), soft_wrap=True)
    tables = (_confusion(result, numbered) for numbered in (False, True) if len(result.class_names) <= MOST_NAMED)
    endless = console.options.update(max_width=10_000)  # else a table says that it can be squeezed
    fitting = (table for table in tables if console.measure(table, options=endless).maximum <= console.width)
    if table := next(fitting, None):
        console.print("confusion matrix: true class in rows, predicted in columns", table, sep="\n")
    else:
        console.print(f"the most frequent mistakes among {len(result.class_names):,} classes")
        console.print(_confused(result))
    rows = result.per_class()
    if len(rows) > MOST_CLASSES:
        console.print(f"the {MOST_CLASSES} of {len(rows):,} classes with the lowest f1-score")
        tested = (name for name in rows if rows[name]["support"])
        rows = {name: rows[name] for name in sorted(tested, key=lambda name: rows[name]["f1-score"])[:MOST_CLASSES]}
    figures = ("precision", "recall", "f1-score")
    cells = ((name, *(f"{row[key]:.4f}" for key in figures), f"{row['support']:.0f}") for name, row in rows.items())
    console.print(_table([(heading, "right") for heading in ("class", *figures, "examples")], cells))
    right, count = int(result.right.sum()), len(result.labels)
    console.print(f"{right:,} of {count:,} right; {intervals.shown(right, count)} of the accuracy (Wilson)")
    console.print(Text(str(result)))


def _confusion(result: Any, numbered: bool) -> Table:
    """Return the confusion matrix; `numbered`, its columns have the numbers of classes in place of names."""
    rows = [f"{name} {number}" if numbered else name for number, name in enumerate(result.class_names)]
    columns = map(str, range(len(rows))) if numbered else rows
    cells = []
    for true, counts in enumerate(result.confusion):
        styles = ["green" if true == taken else "bold red" if count else "dim" for taken, count in enumerate(counts)]
        cells.append([rows[true], *(Text(str(count), style) for count, style in zip(counts, styles, strict=True))])
    return _table([(heading, "right") for heading in ("", *columns)], cells)


def _confused(result: Any) -> Table:
    """Return which classes were taken for which others most often."""
    pairs = confused_pairs(result.confusion, MOST_CONFUSED)
    rows = [(result.class_names[true], result.class_names[taken], str(count)) for true, taken, count in pairs]
    return _table([("true class", "left"), ("taken for", "left"), ("times", "right")], rows)
