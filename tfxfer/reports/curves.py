"""Line charts as SVG, drawn by hand so that they take the page's colours, light or dark."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tfxfer.markup import Markup, join, tag
from tfxfer.plots.curves import Chart, Line, Scale, shown

WIDTH, HEIGHT = 340, 225
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 22, 34


def draw(chart: Chart, *, describe: str, apart: float | None = None) -> Markup:
    """Return a figure of a chart, with its title, key and scales.

    Args:
      chart: what is drawn.
      describe: what it shows, for those who do not see it.
      apart: the epoch from which on training and validation part, to the end.
    """
    parts = [
        _grid(chart),
        _apart(chart.across, apart),
        _best(chart),
        *(_line(line, chart) for line in chart.lines),
    ]
    picture = tag("svg", parts, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=describe)
    scale = tag("span", " (logarithmic scale)", class_="soft small") if chart.up.log else None
    return tag("figure", tag("h3", chart.title, scale), _keys(chart.lines), picture)


def _x(across: Scale, epoch: float) -> float:
    return round(LEFT + across.place(epoch) * (WIDTH - RIGHT - LEFT), 2)


def _y(up: Scale, value: float) -> float:
    return round(HEIGHT - BOTTOM - up.place(value) * (HEIGHT - BOTTOM - TOP), 2)


def _keys(lines: Sequence[Line]) -> Markup:
    """Return what colour and dash each line has."""
    return tag("div", [_key(line) for line in lines], class_="keys")


def _key(line: Line) -> Markup:
    sample = join(tag("path", d="M1 5H29", class_=f"line {line.look}"), _dot(line, 15.0, 5.0) if line.dotted else None)
    return tag(
        "span", tag("svg", sample, viewBox="0 0 30 10", aria_hidden="true"), tag("span", line.name), class_="key"
    )


def _grid(chart: Chart) -> list[Markup]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    drawn = []
    for value in chart.up.ticks:
        y = _y(chart.up, value)
        drawn.append(tag("path", d=f"M{LEFT} {y}H{right}", class_="grid"))
        drawn.append(tag("text", shown(value), x=LEFT - 7, y=y, text_anchor="end", dominant_baseline="middle"))
    for epoch in chart.across.ticks:
        drawn.append(tag("text", f"{epoch:.0f}", x=_x(chart.across, epoch), y=bottom + 15, text_anchor="middle"))
    drawn.append(tag("path", d=f"M{LEFT} {bottom}H{right}", class_="axis"))
    drawn.append(tag("text", "epoch", x=right, y=HEIGHT - 4, text_anchor="end"))
    return drawn


def _apart(across: Scale, epoch: float | None) -> Markup | None:
    if epoch is None:
        return None
    x, end = _x(across, epoch), WIDTH - RIGHT
    return tag("rect", x=x, y=TOP, width=round(end - x, 2), height=HEIGHT - BOTTOM - TOP, class_="apart")


def _best(chart: Chart) -> list[Markup]:
    if chart.best is None:
        return []
    epoch, text = chart.best
    x, middle = _x(chart.across, epoch), (LEFT + WIDTH - RIGHT) / 2
    anchor = "start" if x < middle - 60 else "end" if x > middle + 60 else "middle"
    label = tag("text", text, x=x, y=TOP - 8, text_anchor=anchor, class_="mark")
    return [tag("path", d=f"M{x} {TOP - 3}V{HEIGHT - BOTTOM}", class_="best"), label]


def _line(line: Line, chart: Chart) -> Markup:
    places = [None if y is None else (_x(chart.across, x), _y(chart.up, y)) for x, y in line.points]
    # A new piece begins after each gap.
    path = "".join(
        f"{'L' if before else 'M'}{place[0]:g} {place[1]:g}"
        for before, place in itertools.pairwise([None, *places])
        if place
    )
    dots = [_dot(line, *place) for place in places if place] if line.dotted else []
    return tag("g", tag("path", d=path, class_=f"line {line.look}"), dots)


def _dot(line: Line, x: float, y: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=2.6, class_=f"dot {line.look}")
