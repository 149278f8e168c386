"""What a case is: sides that do the same work, what they are compared by, and how they prove that it is the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

Sizes = Mapping[str, int]


def figures_in(stdout: str) -> dict[str, Any]:
    """Return what a side said of itself: the JSON object that its last line is (see `work.report`)."""
    return json.loads(stdout.strip().splitlines()[-1])


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to do the work of a case, started as a process of its own.

    Attributes:
      name: what it is called in tables.
      words: what follows the interpreter; `{bench}` and the case's sizes in braces are filled in.
      environment: the virtual environment that it runs in, a key of `environments.ENVIRONMENTS`; default: the
        project's.
      left_out: why it does not run here; empty if it does.
      read: makes figures of what it printed.
    """

    name: str
    words: tuple[str, ...]
    environment: str = ""
    left_out: str = ""
    read: Callable[[str], dict[str, Any]] = figures_in


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What two sides are compared by, or one with a bound.

    Attributes:
      side: the one that is spoken of, in most cases tfxfer's.
      peer: the one that it is compared with; empty for a bound.
      by: the figure: `seconds` (of the work, as the side took them), `wall` and `cpu` (seconds of the process), `peak`
        (MiB), or another that both sides report.
      target: what the peer's figure divided by the side's is to be at least; None where nothing is claimed.
      at_most: what the side's figure is to be at most.
      words: what it says, where the names of the sides do not.
    """

    side: str
    peer: str = ""
    by: str = "seconds"
    target: float | None = None
    at_most: float | None = None
    words: str = ""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What the results of the sides must have in common.

    Attributes:
      key: the name of the result. Sides that have none of that name are not looked at.
      within: by how much it may differ from that of the first side that has it: the root of the mean square, as a share
        of that of the first.
      sides: whom it concerns; default: all.
      at_least: what it must reach, where it is one number.
    """

    key: str
    within: float
    sides: tuple[str, ...] = ()
    at_least: float | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """Sides that do the same work.

    Attributes:
      name: as `--case` takes it.
      title: what is done, in a few words.
      sides: in the order in which they run.
      comparisons: in the order in which they are shown.
      agreements: what makes the sides comparable.
      sizes, quick: how large the work is, and with `--quick`.
      warm: sizes that are other in the run that is not counted, where the work is long.
      prepare: the function in `benchmarks.inputs`, as `networks.vgg16`, that makes the inputs in a folder, once; it is
        called with the folder and the sizes in a process of its own.
      count: the size that is divided by the seconds of the work to give a rate; none where it is empty.
      notes: what whoever reads the figures must know.
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
    """Return a side that is a module of ours, `peers.keras_restore` say, with all sizes as flags."""
    return Side(name, ("-m", f"benchmarks.{where}", "{sizes}", *more), environment, left_out)
