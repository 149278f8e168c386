"""What a run prints while it runs and in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import figures
from benchmarks.case import Case
from benchmarks.measuring import SideError

WIDTH = 160
COLOURS = {True: "green", False: "red", None: "default"}


class Shown:
    """A terminal, or a file, to which all is printed."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(highlight=False, soft_wrap=True)
        # A file has no width, and tables would be squeezed into 80 columns.
        self._console = console if console.is_terminal else Console(file=console.file, highlight=False, width=WIDTH)

    def cases(self, cases: Sequence[Case]) -> None:
        """Print which cases there are."""
        width = max(len(case.name) for case in cases)
        for case in cases:
            self._console.print(f"[bold]{case.name:{width}}[/bold]  {escape(case.title)}")
            if case.sizes:
                self._console.print(f"{'':{width}}  {listed(case.sizes)}; with --quick {listed(case.quick)}")

    def begin(self, case: Case, sizes: Mapping[str, int]) -> None:
        """Say which case is next."""
        self._console.print(f"\n[bold]{case.name}[/bold]: {escape(case.title)} ({listed(sizes) or 'one size'})")

    def run(self, number: int, pairs: int, name: str, found: Mapping[str, Any] | SideError) -> None:
        """Say what one process took."""
        round_of = f"{number}/{pairs}" if number else "warm"
        if isinstance(found, SideError):
            self._console.print(f"  {round_of:>5}  {escape(name):42} [red]failed:[/red] {escape(str(found))}")
            return
        work = f"work {found['seconds']:8.2f} s, " if "seconds" in found else ""
        whole = f"process {found['wall']:7.2f} s, CPU {found['cpu']:7.2f} s, {found['peak']:6,.0f} MiB"
        self._console.print(f"  {round_of:>5}  {escape(name):42} {work}{whole}")

    def case(self, record: Mapping[str, Any]) -> None:
        """Print what came of a case: its sides, comparisons, and what is wrong with them."""
        titles, lines = figures.table(record)
        table = Table("side", *titles, box=None)
        for name, values in lines:
            table.add_row(escape(name), *([escape(values)] if isinstance(values, str) else map(number, values)))
        self._console.print(table)
        for row in figures.rows(record):
            self._console.print(f"  [{COLOURS[row.met]}]{escape(f'{row.words}: {verdict(row)}')}[/]")
        for fault in [*figures.faults(record), *failures(record)]:
            self._console.print(f"  [bold red]{escape(fault)}[/]")

    def summary(self, cases: Mapping[str, Any], path: Path) -> None:
        """Print the comparisons of all cases in one table, and where the figures are."""
        table = Table("case", "compared", "what came of it", box=None, title="medians, and in brackets the range")
        for name, record in cases.items():
            for row in figures.rows(record):
                table.add_row(name, escape(row.words), f"[{COLOURS[row.met]}]{escape(verdict(row))}[/]")
        self._console.print()
        self._console.print(table)
        missed = [row for record in cases.values() for row in figures.rows(record) if row.met is False]
        claimed = [row for record in cases.values() for row in figures.rows(record) if row.met is not None]
        self._console.print(f"{len(claimed) - len(missed)} of {len(claimed)} targets reached; figures in {path}")


def failures(record: Mapping[str, Any]) -> list[str]:
    """Return which sides of a case failed, and why."""
    return [
        f"{name} failed: {side['failed'].splitlines()[-1]}"
        for name, side in record["sides"].items()
        if "failed" in side
    ]


def verdict(row: figures.Row) -> str:
    """Say what came of a comparison: `target 40, got 42 (38-47)`."""
    got = f"{number(row.value.median)} ({number(row.value.low)}-{number(row.value.high)})"
    if row.target is not None:
        return f"target {number(row.target)}, got {got}"
    return f"at most {number(row.at_most)}, got {got}" if row.at_most is not None else f"got {got}"


def number(value: float | None) -> str:
    """Return a number with as many digits as a reader wants: three; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def listed(sizes: Mapping[str, int]) -> str:
    """Return sizes for a line."""
    return ", ".join(f"{name}={value:,}" for name, value in sizes.items())
