"""The arithmetic of comparisons, on what a run left in its JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Some figures: the median, the least and the largest."""

    median: float
    low: float
    high: float


class Row(NamedTuple):
    """What came of one comparison.

    Attributes:
      words: what is compared.
      value: the ratio, or the figure that has a bound.
      target, at_most: what was to be reached; None for both where nothing is claimed.
      by: the figure.
      side, peer: the two; the peer is empty for a bound.
    """

    words: str
    value: Spread
    target: float | None
    at_most: float | None
    by: str
    side: str
    peer: str

    @property
    def met(self) -> bool | None:
        """Whether the median reaches what was to be reached; None where nothing is claimed."""
        if self.target is not None:
            return self.value.median >= self.target
        return None if self.at_most is None else self.value.median <= self.at_most


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and largest of one or more figures."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(side: Sequence[Mapping[str, Any]], peer: Sequence[Mapping[str, Any]], by: str) -> list[float]:
    """Return what the peer took divided by what the side took, pair by pair: above 1 the side is the better one."""
    return [theirs[by] / ours[by] for ours, theirs in zip(side, peer, strict=False)]


def rows(case: Mapping[str, Any]) -> list[Row]:
    """Return what came of a case's comparisons, as far as their sides ran.

    Args:
      case: of the JSON: `sides` with the runs of each, and `comparisons`.
    """
    found = []
    for one in case["comparisons"]:
        runs = [case["sides"][name].get("runs", []) for name in (one["side"], one["peer"]) if name]
        if not all(runs):
            continue
        values = ratios(*runs, one["by"]) if one["peer"] else [run[one["by"]] for run in runs[0]]
        words = one["words"] or " against ".join(name for name in (one["side"], one["peer"]) if name)
        limits = one["target"], one["at_most"]
        found.append(Row(words, spread(values), *limits, one["by"], one["side"], one["peer"]))
    return found


STANDARD = ("seconds", "wall", "cpu", "peak")
TITLES = {
    "seconds": "work, s",
    "wall": "process, s",
    "cpu": "CPU, s",
    "peak": "peak, MiB",
    "gflops": "GFLOP/s",
    "thousand": "1,000 pictures, s",
    "filling": "1,000 rows filled, s",
    "training": "1,000 rows trained on, s",
}


def table(case: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[float | None] | str]]]:
    """Return the titles of the columns, and for each side its medians, or why there are none."""
    reported = {by for side in case["sides"].values() for run in side.get("runs", []) for by in run}
    further = [one["by"] for one in case["comparisons"]] + ["gflops"]
    columns = [by for by in dict.fromkeys([*STANDARD, *further]) if by in reported]
    titles = [TITLES.get(by, f"{by}, s") for by in columns]
    rate = case["count"]
    lines: list[tuple[str, list[float | None] | str]] = []
    for name, side in case["sides"].items():
        runs = side.get("runs")
        if not runs:
            lines.append((name, side.get("left_out") or "failed"))
            continue
        values = [statistics.median(run[by] for run in runs) if by in runs[0] else None for by in columns]
        lines.append((name, [*values, case["sizes"][rate] / statistics.median(run["seconds"] for run in runs)]
                      if rate else values))  # fmt: skip
    return titles + ([f"{rate}/s"] if rate else []), lines


def apart(values: Sequence[float] | float, expected: Sequence[float] | float) -> float:
    """Return the root of the mean square of the differences, as a share of that of what is expected.

    Either is one number or a list; lists of different lengths are infinitely far apart, and so is NaN.
    """
    a, b = (each if isinstance(each, list) else [each] for each in (values, expected))
    if len(a) != len(b):
        return math.inf
    difference = math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
    whole = math.sqrt(sum(y**2 for y in b))
    if math.isnan(difference):
        return math.inf
    return difference / whole if whole else (math.inf if difference else 0.0)


def faults(case: Mapping[str, Any]) -> list[str]:
    """Return in what the sides of a case do not agree, so that they cannot have done the same work."""
    return [fault for one in case["agreements"] for fault in _faults(case, one)]


def _faults(case: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
    key, found = one["key"], []
    results = {
        name: run["results"][key]
        for name, side in case["sides"].items()
        if not one["sides"] or name in one["sides"]
        for run in side.get("runs", [])
        if key in run.get("results", {})
    }
    for name, value in results.items():
        first, expected = next(iter(results.items()))
        if (off := apart(value, expected)) > one["within"]:
            found.append(f"{key}: that of {name} differs from that of {first} by {off:.1e}, more than {one['within']}")
        if one["at_least"] is not None and not value >= one["at_least"]:
            found.append(f"{key}: {name} reached {value:.4f} and not {one['at_least']}")
    return found
