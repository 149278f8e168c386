"""Reliability diagrams: how often examples of each confidence are right, for the page's SVG and for matplotlib."""

from __future__ import annotations

from typing import Any, NamedTuple

from tfxfer.plots import figures
from tfxfer.plots.palette import LIGHT
from tfxfer.statistics.calibration import Reliability

TITLES = ("As the network gives them", "With the temperature")


class Bar(NamedTuple):
    """One bin that has examples.

    Attributes:
      low, high: its ends, from 0 to 1.
      accuracy, confidence: of its examples.
      share: of all examples that are in it.
      examples: how many these are.
    """

    low: float
    high: float
    accuracy: float
    confidence: float
    share: float
    examples: int


def bars(measured: Reliability) -> list[Bar]:
    """Return the bins that have examples, in order."""
    parts = len(measured.bins)
    return [
        Bar(
            place / parts,
            (place + 1) / parts,
            part.accuracy,
            part.confidence,
            part.examples / measured.examples,
            part.examples,
        )
        for place, part in enumerate(measured.bins)
        if part.examples
    ]


def draw(before: Reliability, after: Reliability) -> bytes:
    """Draw both diagrams, before and after, and below each how many examples have which confidence; return a PNG."""

    def paint(figure: Any) -> None:
        grid = figure.subplots(2, 2, sharex=True, height_ratios=[4, 1])
        for column, (title, measured) in enumerate(zip(TITLES, (before, after), strict=True)):
            _paint(grid[0][column], grid[1][column], title, measured)
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)

    return figures.draw(paint, 2 * figures.CARD, 460, constrained=True)


def _paint(axes: Any, shares: Any, title: str, measured: Reliability) -> None:
    shown = bars(measured)
    lows, widths = [bar.low for bar in shown], [bar.high - bar.low for bar in shown]
    look = {"width": widths, "align": "edge", "edgecolor": "white"}
    axes.bar(lows, [bar.accuracy for bar in shown], color=LIGHT["blue"], label="share that is right", **look)
    places = [bar.low + width / 2 for bar, width in zip(shown, widths, strict=True)]
    points = {"color": LIGHT["orange"], "marker": "D", "linestyle": "", "markersize": 4, "clip_on": False}
    axes.plot(places, [bar.confidence for bar in shown], label="mean confidence", **points)
    axes.plot([0, 1], [0, 1], color=LIGHT["ink"], linestyle=":", linewidth=1.2, label="as sure as right")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"{title}\nexpected calibration error {measured.ece:.4f}", loc="left", fontsize="medium")
    shares.bar(lows, [bar.share for bar in shown], color=LIGHT["soft"], **look)
    shares.set(xlabel="confidence", ylabel="examples", ylim=(0, 1))
    for one in (axes, shares):
        one.spines[["top", "right"]].set_visible(False)
