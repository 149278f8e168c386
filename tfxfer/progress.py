"""How far a long task is: a live line on a terminal and in a notebook; elsewhere, as under nohup, a new line each half
minute."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping

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

from tfxfer import notebook
from tfxfer.markup import tag

LINE = 30.0  # seconds between two lines where the output is not a terminal
INTERVAL = 0.05  # seconds between two updates: drawing takes longer than a small step
CELL_INTERVAL = 0.25  # the same in a notebook, to which each update is a message
BRIEF = 0.5  # seconds; a task that takes less leaves nothing in a notebook


class Bar:
    """How far a task is. Something draws it, which is called now and then, and not at each step."""

    def __init__(self, total: int, done: int, name: str) -> None:
        """Begin at `done` of `total`."""
        self.name, self.total, self.done = name, total, done
        self.loss = self.validation = ""
        self._first, self._began, self._shown = done, time.monotonic(), 0.0
        self._draw: Callable[[], None] | None = None
        self._interval = INTERVAL

    def drawn_by(self, draw: Callable[[], None], interval: float = INTERVAL) -> None:
        """Set what draws it, at most once in so many seconds."""
        self._draw, self._interval = draw, interval

    def advance(self, count: int = 1, loss: float | None = None) -> None:
        """Count what was done, and show the mean loss of the epoch so far, if it is time to."""
        self.done += count
        if self._draw is None or (now := time.monotonic()) - self._shown < self._interval:
            return
        if loss is not None:
            self.loss = f"loss {loss:.4f}"
        self._shown = now
        self._draw()

    def show(self, means: Mapping[str, float]) -> None:
        """Show what a validation gave."""
        self.validation = "  ".join(f"val {name} {value:.4f}" for name, value in means.items())
        if self._draw is not None:
            self._draw()

    def position(self) -> str:
        """Say how far it is."""
        return f"{self.done} of {self.total}"

    @property
    def seconds(self) -> float:
        """For how long it has been going on."""
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        """How much of it is done in a second, on average."""
        return (self.done - self._first) / max(self.seconds, 1e-9)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextlib.contextmanager
def bar(total: int, done: int, name: str, tell: Callable[[], str] | None = None) -> Iterator[Bar]:
    """Show a bar with rate and time left for as long as the block lasts: on standard error, or below a notebook's cell.

    Where standard error is not a terminal, a line is written there each `LINE` seconds, also while one step takes long.
    A notebook keeps the last state of the bar, if the task was not brief.

    Args:
      total: how much there is to do.
      done: how much of it was done before.
      name: what is being done, in a word.
      tell: says how far it is, for such a line; it is called in a thread of its own.
    """
    made, console = Bar(total, done, name), Console(stderr=True)
    if notebook.is_running():
        drawn = _in_cell(made)
    elif console.is_terminal:
        drawn = _on_terminal(console, made)
    else:
        drawn = _lines(console, name, tell or made.position)
    with drawn:
        yield made


@contextlib.contextmanager
def _on_terminal(console: Console, made: Bar) -> Iterator[None]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}  {task.fields[validation]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(made.name, total=made.total, completed=made.done, loss="", validation="")
        made.drawn_by(lambda: progress.update(task, completed=made.done, loss=made.loss, validation=made.validation))
        yield


@contextlib.contextmanager
def _in_cell(made: Bar) -> Iterator[None]:
    line = notebook.Line()

    def draw(ended: bool = False) -> None:
        if made.seconds < BRIEF:
            return
        text = _told(made, ended)
        drawn = tag("progress", value=made.done, max=max(made.total, 1), style="vertical-align:middle;width:16em")
        line.show([drawn, tag("span", f" {text}", style="font-variant-numeric:tabular-nums")], text)

    made.drawn_by(draw, CELL_INTERVAL)
    try:
        yield
    finally:
        draw(ended=True)


def _told(made: Bar, ended: bool) -> str:
    """Say how far a task is, and how long it took or will take."""
    pace = ""
    if ended:
        pace = f"in {_clock(made.seconds)}"
    elif made.rate:
        pace = f"{made.rate:,.1f}/s  {_clock((made.total - made.done) / made.rate)} left"
    parts = (f"{made.name} {made.done:,} of {made.total:,}", pace, made.loss, made.validation)
    return "  ".join(filter(None, parts))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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
