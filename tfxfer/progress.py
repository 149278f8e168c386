"""How far a long task is: a live line on a terminal; elsewhere, as under nohup, a new line each half minute."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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

LINE = 30.0  # seconds between two lines where the output is not a terminal
INTERVAL = 0.05  # seconds between two updates: drawing takes longer than a small step


class Bar:
    """A line that shows how far a task is."""

    def __init__(self, progress: Progress, total: int, done: int, name: str) -> None:
        """Begin at `done` of `total`."""
        self._progress = progress
        self._task = progress.add_task(name, total=total, completed=done, loss="", validation="")
        self._more, self._shown = 0, 0.0
        self._name, self._total, self._done = name, total, done

    def advance(self, count: int = 1, loss: float | None = None) -> None:
        """Count what was done, and show the mean loss of the epoch so far, if it is time to."""
        self._more += count
        self._done += count
        if self._progress.disable or (now := time.monotonic()) - self._shown < INTERVAL:
            return
        fields: dict[str, Any] = {} if loss is None else {"loss": f"loss {loss:.4f}"}
        self._progress.update(self._task, advance=self._more, **fields)
        self._more, self._shown = 0, now

    def position(self) -> str:
        """Say how far it is."""
        return f"{self._done} of {self._total}"

    def show(self, means: Mapping[str, float]) -> None:
        """Show what a validation gave."""
        self._progress.update(self._task, validation="  ".join(f"val {name} {v:.4f}" for name, v in means.items()))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextlib.contextmanager
def bar(total: int, done: int, name: str, tell: Callable[[], str] | None = None) -> Iterator[Bar]:
    """Show a bar with rate and time left on standard error for as long as the block lasts.

    Where standard error is not a terminal, a line is written there each `LINE` seconds, also while one step takes long.

    Args:
      total: how much there is to do.
      done: how much of it was done before.
      name: what is being done, in a word.
      tell: says how far it is, for such a line; it is called in a thread of its own.
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
        shown = Bar(progress, total, done, name)
        with contextlib.nullcontext() if console.is_terminal else _lines(console, name, tell or shown.position):
            yield shown


@contextlib.contextmanager
def _lines(console: Console, name: str, tell: Callable[[], str]) -> Iterator[None]:
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(LINE):
            clock = time.strftime("%H:%M:%S")
            with contextlib.suppress(OSError, ValueError):  # whoever read it has gone
                console.print(f"{clock} {name}: {tell()}", markup=False, highlight=False, soft_wrap=True)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
