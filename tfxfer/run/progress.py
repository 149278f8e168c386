"""A live line for long work on a terminal; nothing where there is none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Bar:
    """How far a work is, and what it has to say."""

    def __init__(self, progress: Progress, total: int, done: int, name: str) -> None:
        """Begin at `done` of `total`."""
        self._progress = progress
        self._task = progress.add_task(name, total=total, completed=done, loss="", validation="")

    def advance(self, count: int = 1, loss: float | None = None) -> None:
        """Count what was done, and show the mean loss of the epoch so far."""
        fields: dict[str, Any] = {} if loss is None else {"loss": f"loss {loss:.4f}"}
        self._progress.update(self._task, advance=count, **fields)

    def show(self, means: Mapping[str, float]) -> None:
        """Show what a validation gave."""
        self._progress.update(self._task, validation="  ".join(f"val {name} {v:.4f}" for name, v in means.items()))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextlib.contextmanager
def bar(total: int, done: int, name: str) -> Iterator[Bar]:
    """Show a bar with rate and time left on standard error for as long as the block lasts.

    Args:
      total: how much there is to do.
      done: how much of it was done before.
      name: what is being done, in a word.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}  {task.fields[validation]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, total, done, name)
