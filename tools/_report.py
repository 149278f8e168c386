"""What the tools print of plans, runs and evaluations."""

from __future__ import annotations

import contextlib
import logging as python_logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfxfer import names


def show_plans(plans: Sequence[Any], step: Any) -> None:
    """Print each plan's report, and what is trained and what is frozen."""
    for plan in plans:
        print(plan.report())
    if not plans:
        print("restore plan: nothing is restored; every variable is initialised")
    trained = [variable.op.name for variable in step.trained]
    print(f"trained: {names.listed(trained)}", flush=True)


class _Stderr(python_logging.StreamHandler):
    """Writes to what sys.stderr is at the time: a live bar puts itself in its place."""

    stream = property(lambda self: sys.stderr, lambda self, stream: None)  # type: ignore[assignment]


def show_notes(examples: Any) -> None:
    """Print what whoever uses the examples should be told, and what was set aside."""
    for note in examples.notes:
        print(note)
    for path, reason in list(examples.set_aside.items())[:20]:
        print(f"  set aside: {path}: {reason}")


@contextlib.contextmanager
def logging() -> Iterator[None]:
    """Print what is logged: all of it, with the time, where standard error is no terminal; else what must be known."""
    logger = python_logging.getLogger("tfxfer")
    if sys.stderr.isatty():
        handler: python_logging.StreamHandler = _Stderr()
        handler.setLevel(python_logging.WARNING)
    else:
        handler = python_logging.StreamHandler(sys.stdout)
        handler.setFormatter(python_logging.Formatter("%(asctime)s %(message)s"))
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
    metrics = [key for key in fitted.history[-1] if key not in ("step", "epoch", "split")]
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
    console.print(Text(f"look at it: tensorboard --logdir {logdir}"), soft_wrap=True)


def show_evaluation(result: Any, title: str) -> None:
    """Print a confusion matrix, and a table of each class's precision and recall."""
    console = Console()
    console.print(Text(f"{title}\nconfusion matrix: true class in rows, predicted in columns"), soft_wrap=True)
    confusion = Table(box=None)
    for heading in ("", *result.class_names):
        confusion.add_column(heading, justify="right")
    for number, (name, row) in enumerate(zip(result.class_names, result.confusion, strict=True)):
        confusion.add_row(name, *(_cell(count, number == column) for column, count in enumerate(row)))
    console.print(confusion)
    classes = Table(box=None)
    for heading in ("class", "precision", "recall", "f1-score", "examples"):
        classes.add_column(heading, justify="right")
    for name, row in result.per_class().items():
        figures = (f"{row[key]:.4f}" for key in ("precision", "recall", "f1-score"))
        classes.add_row(name, *figures, f"{row['support']:.0f}")
    console.print(classes)
    console.print(Text(str(result)))


def _cell(count: int, right: bool) -> Text:
    return Text(str(count), style="green" if right else "bold red" if count else "dim")
