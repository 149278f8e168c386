"""A live line for long work on a terminal; nothing where there is none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """How far a training is, its loss, and what the last validation gave."""

    def __init__(self, progress: Progress, total: int, done: int) -> None:
        """Begin at `done` of `total` steps."""
        self._progress = progress
        self._task = progress.add_task("train", total=total, completed=done, loss="", validation="")

    def advance(self, loss: float) -> None:
        """Count one step, and show the mean loss of the epoch so far."""
        self._progress.update(self._task, advance=1, loss=f"loss {loss:.4f}")

    def show(self, means: Mapping[str, float]) -> None:
        """Show what a validation gave."""
        self._progress.update(self._task, validation="  ".join(f"val {name} {v:.4f}" for name, v in means.items()))


@contextlib.contextmanager
def bar(total: int, done: int) -> Iterator[Bar]:
    """Show a bar on standard error for as long as the block lasts."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}  {task.fields[validation]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, total, done)
