"""Learning curves: accuracy by the number of training examples, for the page's SVG and for matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tfxfer.plots import figures
from tfxfer.plots.curves import Scale, shown, ticks
from tfxfer.plots.palette import LIGHT
from tfxfer.statistics.learning_curve import LearningCurve

NAMES = {"mean": "mean of the seeds", "each": "each seed", "curve": "power law", "band": "95 % interval"}


class Panel(NamedTuple):
    """What is drawn of a learning curve.

    Attributes:
      across: the scale of training examples, logarithmic.
      up: the scale of accuracies.
      measured: pairs (examples, mean accuracy).
      each: pairs (examples, accuracy), one for each seed.
      curve, low, high: pairs (examples, accuracy): what is expected, and the ends of its interval.
      examples: how many there are; the curve beyond is extrapolated.
    """

    across: Scale
    up: Scale
    measured: Sequence[tuple[float, float]]
    each: Sequence[tuple[float, float]]
    curve: Sequence[tuple[float, float]]
    low: Sequence[tuple[float, float]]
    high: Sequence[tuple[float, float]]
    examples: int


def panel(curve: LearningCurve) -> Panel:
    """Return what is drawn of a curve."""
    each = [(float(point.examples), accuracy) for point in curve.points for accuracy in point.accuracies]
    means = [(float(point.examples), sum(point.accuracies) / len(point.accuracies)) for point in curve.points]
    lows, highs = ([(place.examples, getattr(place, name)) for place in curve.places] for name in ("low", "high"))
    ends = [accuracy for _, accuracy in (*each, *lows, *highs)]
    marks = ticks(min(ends), max(1.0, *ends), 7)
    step = marks[1] - marks[0] if len(marks) > 1 else 0.1
    up = Scale(max(0.0, math.floor(min(ends) / step) * step), 1.0, marks)
    sizes = [point.examples for point in curve.points]
    last = curve.places[-1].examples
    # Every other size, so that their numbers stay apart; the last is among them.
    across = Scale(min(sizes[0], curve.places[0].examples), last, [*sizes[::-2][::-1], last], log=True)
    middle = [(place.examples, place.accuracy) for place in curve.places]
    return Panel(across, up, means, each, middle, lows, highs, curve.examples)


def draw(curve: LearningCurve, *, title: str = "") -> bytes:
    """Draw what was measured, the curve and its uncertainty; return a PNG."""
    what = panel(curve)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        sizes, low = zip(*what.low, strict=True)
        axes.fill_between(
            sizes, low, [y for _, y in what.high], color=LIGHT["blue"], alpha=0.15, lw=0, label=NAMES["band"]
        )
        axes.plot(*zip(*what.curve, strict=True), color=LIGHT["blue"], linewidth=1.8, label=NAMES["curve"])
        dots = {"marker": "o", "linestyle": "", "clip_on": False}
        axes.plot(*zip(*what.each, strict=True), color=LIGHT["soft"], markersize=3, label=NAMES["each"], **dots)
        axes.plot(*zip(*what.measured, strict=True), color=LIGHT["orange"], markersize=7, label=NAMES["mean"], **dots)
        axes.axvline(what.examples, color=LIGHT["ink"], linestyle=":", linewidth=1.4)
        axes.set(xscale="log", xlabel="training examples (log scale)", ylabel="validation accuracy")
        axes.set(xlim=(what.across.low, what.across.high), ylim=(what.up.low, what.up.high))
        axes.set_xticks(what.across.ticks, [f"{tick:,.0f}" for tick in what.across.ticks])
        axes.set_xticks([], minor=True)
        axes.set_yticks(what.up.ticks, [shown(tick) for tick in what.up.ticks])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title("dotted: all that there are", loc="right", fontsize="medium", color=LIGHT["soft"])
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle(title, weight="bold")

    return figures.draw(paint, 700, 460, constrained=True)
