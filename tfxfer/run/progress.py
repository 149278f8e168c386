"""A live line for long work on a terminal; nothing where there is none."""

from __future__ import annotations

import contextlib
import time
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

EVERY = 0.05  # seconds: a line is drawn ten times a second, and a small step takes less than to tell of it


class Bar:
    """How far a work is, and what it has to say."""

    def __init__(self, progress: Progress, total: int, done: int, name: str) -> None:
        """Begin at `done` of `total`."""
        self._progress = progress
        self._task = progress.add_task(name, total=total, completed=done, loss="", validation="")
        self._more, self._shown = 0, 0.0

    def advance(self, count: int = 1, loss: float | None = None) -> None:
        """Count what was done, and show the mean loss of the epoch so far, if it is time to."""
        self._more += count
        if self._progress.disable or (now := time.monotonic()) - self._shown < EVERY:
            return
        fields: dict[str, Any] = {} if loss is None else {"loss": f"loss {loss:.4f}"}
        self._progress.update(self._task, advance=self._more, **fields)
        self._more, self._shown = 0, now

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
