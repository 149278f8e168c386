"""What the tools print and draw of plans, runs and evaluations."""

from __future__ import annotations

import contextlib
import logging as python_logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfxfer import extras, names
from tfxfer.errors import DataError
from tfxfer.tools import _flags

MOST_CLASSES = 20  # of more, no table has a row or column for each
MOST_CONFUSED = 10  # pairs of classes


def show_plans(plans: Sequence[Any], step: Any) -> None:
    """Print each plan's report, and what is trained and what is frozen."""
    from tfxfer.graph.partitioned import wholes

    for plan in plans:
        print(plan.report())
    if not plans:
        print("restore plan: nothing is restored; every variable is initialised")
    print(f"trained: {names.listed(wholes(step.trained))}", flush=True)


def show_class_weights(step: Any, class_names: Sequence[str]) -> None:
    """Print how much an example of each class counts, where they do not count alike."""
    if step.class_weights:
        rows = zip(class_names, step.class_weights, strict=True)
        print(f"class weights: {names.listed(f'{name}: {weight:.4g}' for name, weight in rows)}", flush=True)


class _Stderr(python_logging.StreamHandler):
    """Writes to what sys.stderr is at the time: a live bar puts itself in its place."""

    stream = property(lambda self: sys.stderr, lambda self, stream: None)  # type: ignore[assignment]


class _InFlags(python_logging.Formatter):
    """Says what the library logs in the flags of the tool that runs."""

    def format(self, record: python_logging.LogRecord) -> str:
        return _flags.in_flags(super().format(record))


def show_notes(examples: Any) -> None:
    """Print what whoever uses the examples should be told: what was set aside, say."""
    for note in examples.notes:
        print(_flags.in_flags(note))


def show_misfits(notes: Iterable[str]) -> None:
    """Print which flags do not fit the length of the run."""
    for note in notes:
        print(f"note: {note}", flush=True)


def check_top_k(settings: Any, classes: int) -> None:
    """Refuse a --top_k that was given and says nothing.

    Raises:
      DataError: there are no more classes than that.
    """
    if settings["top_k"].present and settings.top_k >= classes:
        raise DataError(f"--top_k={settings.top_k}: there are {classes} classes, so that all are among them; lower it")


@contextlib.contextmanager
def logging() -> Iterator[None]:
    """Print what is logged: all of it, with the time, where standard error is no terminal; else what must be known."""
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


def show_run(fitted: Any, logdir: str) -> None:
    """Print a table of the last epochs, where the best checkpoint is, and how to look at the run."""
    console = Console()
    console.print(Text(f"{logdir}: {fitted.epochs} epochs, {fitted.steps} steps"), soft_wrap=True)
    table = Table(box=None)
    for heading in ("epoch", "step", "split"):
        table.add_column(heading, justify="right" if heading != "split" else "left")
    metrics = [key for key in fitted.history[-1] if key not in ("step", "epoch", "split", "learning_rate")]
    for metric in metrics:
        table.add_column(metric, justify="right")
    best = int(fitted.best.rpartition("-")[2])
    for row in fitted.history[-6:]:
        style = "bold" if row["step"] == best and row["split"] == "validation" else ""
        table.add_row(
            str(row["epoch"]), str(row["step"]), row["split"], *(f"{row[m]:.4f}" for m in metrics), style=style
        )
    console.print(table)
    early = "; stopped early" if fitted.stopped_early else ""
    if fitted.frozen:
        console.print(Text(f"frozen: {fitted.frozen} variables, bit-identical to the start"), soft_wrap=True)
    console.print(Text(f"best by validation: {fitted.best}{early}"), soft_wrap=True)
    console.print(Text(f"look at it: tfxfer board {logdir}, or tfxfer report {logdir}"), soft_wrap=True)


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
        "PNG to draw the run's curves into: loss and accuracy by epoch, and the learning rate if it varies.",
        flag_values=values,
    )


def check_picture(path: str | None) -> None:
    """Refuse a picture that could not be written in the end.

    Raises:
      DataError: its folder is not there.
      MissingPackageError: matplotlib, which draws it, is not installed.
    """
    if path and not Path(path).absolute().parent.is_dir():
        raise DataError(f"--picture={path}: there is no such folder")
    if path:
        extras.load("matplotlib")


def draw_curves(path: str, run: str) -> None:
    """Draw the curves of a run into a PNG file.

    Raises:
      RunError: the run has no checkpoint yet.
    """
    from tfxfer import files
    from tfxfer.plots import curves as pictures
    from tfxfer.train import run_directory

    history, best = run_directory.history(run)
    files.write_bytes(Path(path), pictures.curves(history, best=best, title=Path(run).absolute().name))


def keep_test(run: str, result: Any, split: Any, checkpoint: str) -> str:
    """Write the run's test.json and the pictures of its worst mistakes; return what to print of it.

    Raises:
      RunError: they cannot be written.
    """
    from tfxfer.evaluation.test_results import FILE, FOLDER, record

    kept = record(run, result, split, checkpoint)["mistakes"]
    wrong = int((result.predictions != result.labels).sum())
    pictures = f", {Path(run, FOLDER)}" if any(one["picture"] for one in kept) else ""
    return f"{wrong:,} of {len(result.labels):,} test examples wrong: {Path(run, FILE)}{pictures}"


def show_evaluation(result: Any, title: str) -> None:
    """Print a confusion matrix, and a table of each class's precision and recall; of many classes the worst alone."""
    console = Console()
    console.print(Text(title), soft_wrap=True)
    tables = (_confusion(result, numbered) for numbered in (False, True) if len(result.class_names) <= MOST_CLASSES)
    endless = console.options.update(max_width=10_000)  # else a table says that it can be squeezed
    fitting = (table for table in tables if console.measure(table, options=endless).maximum <= console.width)
    if table := next(fitting, None):
        console.print("confusion matrix: true class in rows, predicted in columns", table, sep="\n")
    else:
        _show_confused(console, result)
    rows = result.per_class()
    if len(rows) > MOST_CLASSES:
        console.print(f"the {MOST_CLASSES} of {len(rows):,} classes with the lowest f1-score")
        tested = (name for name in rows if rows[name]["support"])
        rows = {name: rows[name] for name in sorted(tested, key=lambda name: rows[name]["f1-score"])[:MOST_CLASSES]}
    classes = Table(box=None)
    for heading in ("class", "precision", "recall", "f1-score", "examples"):
        classes.add_column(heading, justify="right")
    for name, row in rows.items():
        figures = (f"{row[key]:.4f}" for key in ("precision", "recall", "f1-score"))
        classes.add_row(Text(name), *figures, f"{row['support']:.0f}")
    console.print(classes)
    console.print(Text(str(result)))


def _confusion(result: Any, numbered: bool) -> Table:
    """Return the confusion matrix; `numbered`, its columns have the numbers of classes in place of names."""
    names_of_rows, names_of_columns = list(result.class_names), list(result.class_names)
    if numbered:
        names_of_columns = [str(number) for number in range(len(names_of_rows))]
        names_of_rows = [f"{name} {number}" for number, name in enumerate(names_of_rows)]
    table = Table(box=None)
    for heading in ("", *names_of_columns):
        table.add_column(Text(heading), justify="right")
    for number, (name, row) in enumerate(zip(names_of_rows, result.confusion, strict=True)):
        table.add_row(Text(name), *(_cell(count, number == column) for column, count in enumerate(row)))
    return table


def _show_confused(console: Console, result: Any) -> None:
    """Print which classes were taken for which others most often."""
    wrong = result.confusion.copy()
    np.fill_diagonal(wrong, 0)
    places = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    table = Table(box=None)
    for heading, justify in (("true class", "left"), ("taken for", "left"), ("times", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for true, predicted in zip(*np.unravel_index(places, wrong.shape), strict=True):
        if wrong[true, predicted]:
            named = (Text(result.class_names[place]) for place in (true, predicted))
            table.add_row(*named, str(wrong[true, predicted]))
    console.print(f"the most frequent mistakes among {len(wrong):,} classes")
    console.print(table)


def _cell(count: int, right: bool) -> Text:
    return Text(str(count), style="green" if right else "bold red" if count else "dim")
