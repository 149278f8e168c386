"""A case: sides that do the same work, the figures by which they are compared, and the results that must agree."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

Sizes = Mapping[str, int]


def figures_in(stdout: str) -> dict[str, Any]:
    """Return the figures that a side reports: its last line is a JSON object (see `work.report`)."""
    return json.loads(stdout.strip().splitlines()[-1])


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to do the work of a case, started as a process of its own.

    Attributes:
      name: its name in tables.
      words: the arguments of the interpreter, or a path and its arguments. The case's sizes in braces are filled in,
        and `{bench}`, `{root}` (the checkout), `{bin}` (the folder of the interpreter) and `{scratch}` (an empty folder
        for this run alone, removed after it).
      environment: the virtual environment, a key of `environments.ENVIRONMENTS`; empty for the project's.
      left_out: why it does not run here; empty if it does. A side can also say so itself: see `work.leave_out`.
      read: turns its output into figures.
    """

    name: str
    words: tuple[str, ...]
    environment: str = ""
    left_out: str = ""
    read: Callable[[str], dict[str, Any]] = figures_in


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of two sides by a figure, or of one side with a bound.

    Attributes:
      side: the subject, in most cases tfxfer.
      peer: the side that it is compared with; empty for a bound of the figure itself.
      by: the figure: `seconds` (of the work, measured by the side), `wall` and `cpu` (seconds of the process), `peak`
        (MiB), or another that both sides report.
      target: the least value of the peer's figure divided by the side's; None for a comparison without a claim.
      at_most: the bound of the side's figure; with a peer, of what the side's figure is above the peer's.
      words: the description; empty for `side against peer`.
    """

    side: str
    peer: str = ""
    by: str = "seconds"
    target: float | None = None
    at_most: float | None = None
    words: str = ""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """A result in which the sides must agree.

    Attributes:
      key: the name of the result. Sides without it are left out.
      within: the largest difference from the first side that has the result: its root mean square as a share of that of
        the first side's result.
      sides: the sides that are compared; empty for all.
      at_least: the least value of the result, if it is one number.
    """

    key: str
    within: float
    sides: tuple[str, ...] = ()
    at_least: float | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """Sides that do the same work.

    Attributes:
      name: the value of `--case`.
      title: the work in a few words.
      sides: in the order in which they run.
      comparisons: in the order in which they are shown.
      agreements: results that show that the sides do the same work.
      sizes, quick: sizes of the work, and those that differ with `--quick`.
      warm: sizes that differ in the warm-up run, if the work is long.
      prepare: the function in `benchmarks.inputs`, such as `networks.vgg16`, which makes the inputs once; it
        is called with a folder and the sizes in a process of its own.
      count: the size that is divided by the seconds of the work to give a rate; empty for no rate.
      notes: sentences that a reader of the figures needs.
    """

    name: str
    title: str
    sides: tuple[Side, ...]
    comparisons: tuple[Comparison, ...]
    agreements: tuple[Agreement, ...] = ()
    sizes: Sizes = dataclasses.field(default_factory=dict)
    quick: Sizes = dataclasses.field(default_factory=dict)
    warm: Sizes = dataclasses.field(default_factory=dict)
    prepare: str = ""
    count: str = ""
    notes: tuple[str, ...] = ()


def module(name: str, where: str, *more: str, environment: str = "", left_out: str = "") -> Side:
    """Return a side that is a module of benchmarks/, such as `peers.keras_restore`, with all sizes as flags."""
    return Side(name, ("-m", f"benchmarks.{where}", "{sizes}", *more), environment, left_out)
