"""The arithmetic of comparisons, on the JSON that a run has written."""

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
    """The result of one comparison.

    Attributes:
      words: its description.
      value: the ratio, or the figure or difference that has a bound.
      target, at_most: the claim; None for both without one.
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
        """Whether the median reaches the claim; None without one."""
        if self.target is not None:
            return self.value.median >= self.target
        return None if self.at_most is None else self.value.median <= self.at_most


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and largest of one or more figures."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(side: Sequence[Mapping[str, Any]], peer: Sequence[Mapping[str, Any]], by: str) -> list[float]:
    """Return the peer's figure divided by the side's, pair by pair: above 1 the side is better."""
    return [theirs[by] / ours[by] for ours, theirs in zip(side, peer, strict=False)]


def differences(side: Sequence[Mapping[str, Any]], peer: Sequence[Mapping[str, Any]], by: str) -> list[float]:
    """Return the side's figure minus the peer's, pair by pair: above 0 the side takes more."""
    return [ours[by] - theirs[by] for ours, theirs in zip(side, peer, strict=False)]


def rows(case: Mapping[str, Any]) -> list[Row]:
    """Return the results of those comparisons of a case whose sides ran.

    Args:
      case: of the JSON: `sides` with the runs of each, and `comparisons`.
    """
    results = []
    for comparison in case["comparisons"]:
        side, peer, by = comparison["side"], comparison["peer"], comparison["by"]
        runs = [case["sides"][name].get("runs", []) for name in (side, peer) if name]
        if not all(runs):
            continue
        values = _values(runs, by, differ=comparison["at_most"] is not None)
        words = comparison["words"] or (f"{side} against {peer}" if peer else side)
        results.append(Row(words, spread(values), comparison["target"], comparison["at_most"], by, side, peer))
    return results


def _values(runs: Sequence[Sequence[Mapping[str, Any]]], by: str, *, differ: bool) -> list[float]:
    if len(runs) == 1:
        return [run[by] for run in runs[0]]
    return differences(*runs, by) if differ else ratios(*runs, by)


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


def left_out(case: Mapping[str, Any]) -> list[str]:
    """Return a line for each reason why sides of a case did not run here."""
    reasons: dict[str, list[str]] = {}
    for name, side in case["sides"].items():
        if "left_out" in side:
            reasons.setdefault(side["left_out"], []).append(name)
    return [f"Not measured: {'; '.join(names)}: {reason}." for reason, names in reasons.items()]


def table(case: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[float | None] | str]]]:
    """Return the titles of the columns, and for each side that was to run its medians, or that it failed."""
    reported = {by for side in case["sides"].values() for run in side.get("runs", []) for by in run}
    further = [comparison["by"] for comparison in case["comparisons"]] + ["gflops"]
    columns = [by for by in dict.fromkeys([*STANDARD, *further]) if by in reported]
    titles = [TITLES.get(by, f"{by}, s") for by in columns]
    rate = case["count"]
    lines: list[tuple[str, list[float | None] | str]] = []
    for name, side in case["sides"].items():
        runs = side.get("runs")
        if not runs:
            lines += [] if "left_out" in side else [(name, "failed")]
            continue
        values = [statistics.median(run[by] for run in runs) if by in runs[0] else None for by in columns]
        lines.append((name, [*values, case["sizes"][rate] / statistics.median(run["seconds"] for run in runs)]
                      if rate else values))  # fmt: skip
    return titles + ([f"{rate}/s"] if rate else []), lines


def apart(values: Sequence[float] | float, expected: Sequence[float] | float) -> float:
    """Return the root mean square of the differences as a share of that of the expected values.

    Either is one number or a list. The result is infinite for lists of different lengths and for NaN.
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
    """Return the results in which the sides of a case disagree, so that they cannot have done the same work."""
    return [fault for agreement in case["agreements"] for fault in _faults(case, agreement)]


def _faults(case: Mapping[str, Any], agreement: Mapping[str, Any]) -> list[str]:
    key, within, at_least = agreement["key"], agreement["within"], agreement["at_least"]
    faults = []
    results = {
        name: run["results"][key]
        for name, side in case["sides"].items()
        if not agreement["sides"] or name in agreement["sides"]
        for run in side.get("runs", [])
        if key in run.get("results", {})
    }
    for name, value in results.items():
        first, expected = next(iter(results.items()))
        if (off := apart(value, expected)) > within:
            faults.append(f"{key}: that of {name} differs from that of {first} by {off:.1e}, more than {within}")
        if at_least is not None and not value >= at_least:
            faults.append(f"{key}: {name} reached {value:.4f} and not {at_least}")
    return faults
