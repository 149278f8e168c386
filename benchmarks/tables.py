"""The output of the driver: progress, tables and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import figures
from benchmarks.case import Case
from benchmarks.measuring import LeftOutError, SideError

WIDTH = 160
COLOURS = {True: "green", False: "red", None: "default"}


class Shown:
    """The terminal or file that the driver prints to."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(highlight=False, soft_wrap=True)
        # A file has no width, and tables would be squeezed into 80 columns.
        self._console = console if console.is_terminal else Console(file=console.file, highlight=False, width=WIDTH)

    def cases(self, cases: Sequence[Case]) -> None:
        """Print the cases."""
        width = max(len(case.name) for case in cases)
        for case in cases:
            self._console.print(f"[bold]{case.name:{width}}[/bold]  {escape(case.title)}")
            if case.sizes:
                self._console.print(f"{'':{width}}  {listed(case.sizes)}; with --quick {listed(case.quick)}")

    def begin(self, case: Case, sizes: Mapping[str, int]) -> None:
        """Print the name of the next case."""
        self._console.print(f"\n[bold]{case.name}[/bold]: {escape(case.title)} ({listed(sizes) or 'one size'})")

    def run(self, number: int, pairs: int, name: str, outcome: Mapping[str, Any] | SideError) -> None:
        """Print the figures of one process, or its failure."""
        round_of = f"{number}/{pairs}" if number else "warm"
        if isinstance(outcome, SideError):
            how = "left out:" if isinstance(outcome, LeftOutError) else "[red]failed:[/red]"
            self._console.print(f"  {round_of:>5}  {escape(name):42} {how} {escape(str(outcome))}")
            return
        work = f"work {outcome['seconds']:8.2f} s, " if "seconds" in outcome else ""
        whole = f"process {outcome['wall']:7.2f} s, CPU {outcome['cpu']:7.2f} s, {outcome['peak']:6,.0f} MiB"
        self._console.print(f"  {round_of:>5}  {escape(name):42} {work}{whole}")

    def case(self, record: Mapping[str, Any]) -> None:
        """Print the results of a case: its sides, its comparisons, and its faults."""
        titles, lines = figures.table(record)
        table = Table("side", *titles, box=None)
        for name, values in lines:
            table.add_row(escape(name), *([escape(values)] if isinstance(values, str) else map(number, values)))
        self._console.print(table)
        for row in figures.rows(record):
            self._console.print(f"  [{COLOURS[row.met]}]{escape(f'{row.words}: {verdict(row)}')}[/]")
        for line in figures.left_out(record):
            self._console.print(f"  {escape(line)}")
        for fault in [*figures.faults(record), *failures(record)]:
            self._console.print(f"  [bold red]{escape(fault)}[/]")

    def summary(self, cases: Mapping[str, Any], path: Path) -> None:
        """Print the comparisons of all cases in one table, and the path of the figures."""
        table = Table("case", "compared", "result", box=None, title="medians, and in brackets the range")
        for name, record in cases.items():
            for row in figures.rows(record):
                table.add_row(name, escape(row.words), f"[{COLOURS[row.met]}]{escape(verdict(row))}[/]")
        self._console.print()
        self._console.print(table)
        missed = [row for record in cases.values() for row in figures.rows(record) if row.met is False]
        claimed = [row for record in cases.values() for row in figures.rows(record) if row.met is not None]
        self._console.print(f"{len(claimed) - len(missed)} of {len(claimed)} targets reached; figures in {path}")


def failures(record: Mapping[str, Any]) -> list[str]:
    """Return the sides of a case that failed, each with its reason."""
    return [
        f"{name} failed: {side['failed'].splitlines()[-1]}"
        for name, side in record["sides"].items()
        if "failed" in side
    ]


def verdict(row: figures.Row) -> str:
    """Return the result of a comparison: `target 40, got 42 (38-47)`."""
    got = f"{number(row.value.median)} ({number(row.value.low)}-{number(row.value.high)})"
    if row.target is not None:
        return f"target {number(row.target)}, got {got}"
    return f"at most {number(row.at_most)}, got {got}" if row.at_most is not None else f"got {got}"


def number(value: float | None) -> str:
    """Return a number with as many digits as a reader wants: three; empty for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def listed(sizes: Mapping[str, int]) -> str:
    """Return sizes for a line."""
    return ", ".join(f"{name}={value:,}" for name, value in sizes.items())
