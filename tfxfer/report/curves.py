"""Line charts as SVG, drawn by hand so that they take the page's colours, light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tfxfer.report.markup import Markup, join, tag

WIDTH, HEIGHT = 340, 225
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 22, 34
MOST_POINTS, MOST_DOTS, TICKS = 600, 60, 6
WIDE = 20.0  # numbers further apart than by this factor get a logarithmic scale
LOOKS = ("train", "validation", "third", "fourth")


class Line(NamedTuple):
    """One line of a chart.

    Attributes:
      name: as the key under the title has it.
      look: one of `LOOKS`: colour and dash.
      points: pairs (x, y), y None or not finite where there is a gap.
      dots: whether to mark each point.
    """

    name: str
    look: str
    points: Sequence[tuple[float, float | None]]
    dots: bool = False


class Axis(NamedTuple):
    """A range of numbers and where it lies in the picture.

    Attributes:
      low, high: the range, in what is drawn: logarithms where `log` is set.
      start, end: where they lie.
      log: whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a number lies."""
        drawn = math.log10(value) if self.log else value
        share = (drawn - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    describe: str,
    share: bool = False,
    last: float = 1.0,
    best: tuple[float, str] | None = None,
    apart: float | None = None,
) -> Markup:
    """Return a figure of lines over epochs, with its title, key and scales.

    Args:
      title: above it.
      lines: at least one of them with a point.
      describe: what is to be seen in it, for those who do not see it.
      share: whether the numbers are shares from 0 to 1, and 1 is to be shown.
      last: the epoch that the scale ends with.
      best: an epoch to mark as the best, and what to say there.
      apart: the epoch from which training and validation part, to the end.
    """
    lines = [_prepared(line) for line in lines]
    values = [y for line in lines for _, y in line.points if y is not None]
    across = Axis(0, max(last, *(x for line in lines for x, _ in line.points)) or 1, LEFT, WIDTH - RIGHT)
    up = _vertical(values, share)
    parts = [
        _grid(across, up),
        _apart(across, apart),
        _best(across, best),
        *(_line(line, across, up) for line in lines),
    ]
    picture = tag("svg", parts, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=describe)
    scale = tag("span", " (logarithmic scale)", class_="soft small") if up.log else None
    return tag("figure", tag("h3", title, scale), key(lines), picture)


def key(lines: Sequence[Line]) -> Markup:
    """Return what colour and dash each line has."""
    return tag("div", [_key(line) for line in lines], class_="keys")


def _key(line: Line) -> Markup:
    sample = join(tag("path", d="M1 5H29", class_=f"line {line.look}"), _dot(line, 15.0, 5.0) if line.dots else None)
    return tag(
        "span", tag("svg", sample, viewBox="0 0 30 10", aria_hidden="true"), tag("span", line.name), class_="key"
    )


def _prepared(line: Line) -> Line:
    points = _thinned(_finite(line.points))
    return line._replace(points=points, dots=(line.dots and len(points) <= MOST_DOTS) or len(points) == 1)


def _finite(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    return [(x, y if y is not None and math.isfinite(y) else None) for x, y in points]


def _thinned(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Leave out points, evenly, where there are more than can be told apart; the last stays."""
    if len(points) <= MOST_POINTS:
        return points
    kept = [round(place * (len(points) - 1) / (MOST_POINTS - 1)) for place in range(MOST_POINTS)]
    return [points[place] for place in kept]


def _vertical(values: Sequence[float], share: bool) -> Axis:
    low, high = min(values, default=0.0), max(values, default=1.0)
    bottom, top = HEIGHT - BOTTOM, TOP
    if low > 0 and high / low > WIDE and not share:
        ends = math.floor(math.log10(low) * 2) / 2, math.ceil(math.log10(high) * 2) / 2
        return Axis(*ends, bottom, top, log=True)
    if share:
        high = 1.0
    elif low >= 0 and low < high / 2:
        low = 0.0
    if high <= low:
        high, low = high + (abs(high) or 1) * 0.1, low - (abs(low) or 1) * 0.1
    wide = next(_widths(low, high, TICKS - 1))
    return Axis(math.floor(low / wide + 1e-9) * wide, math.ceil(high / wide - 1e-9) * wide, bottom, top)


def steps(low: float, high: float, most: int = TICKS) -> list[float]:
    """Return round numbers from low to high, at most so many, 1, 2 or 5 times a power of ten apart."""
    for wide in _widths(low, high, most + 1):
        first, last = math.ceil(low / wide - 1e-9), math.floor(high / wide + 1e-9)
        if last - first < most:
            break
    return [float(f"{index * wide:.12g}") for index in range(first, last + 1)]


def _widths(low: float, high: float, parts: int) -> Iterator[float]:
    """Yield round numbers, from the least of which no more than so many parts make up what is between low and high."""
    rough = high / parts - low / parts
    power = 10.0 ** math.floor(math.log10(rough))
    yield from (wide for factor in (1, 2, 5, 10, 20) if (wide := factor * power) >= rough * (1 - 1e-9))


def _decades(axis: Axis) -> list[float]:
    powers = range(math.ceil(axis.low - 1e-9), math.floor(axis.high + 1e-9) + 1)
    stride = max(1, math.ceil(len(powers) / 6))
    return [10.0**power for power in powers if power % stride == 0]


def _grid(across: Axis, up: Axis) -> list[Markup]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    drawn = []
    for value in _decades(up) if up.log else steps(up.low, up.high):
        y = up.place(value)
        drawn.append(tag("path", d=f"M{LEFT} {y}H{right}", class_="grid"))
        drawn.append(tag("text", shown(value), x=LEFT - 7, y=y, text_anchor="end", dominant_baseline="middle"))
    for value in steps(0, across.high, 7):
        if value == int(value):
            x = across.place(value)
            drawn.append(tag("text", f"{value:.0f}", x=x, y=bottom + 15, text_anchor="middle"))
    drawn.append(tag("path", d=f"M{LEFT} {bottom}H{right}", class_="axis"))
    drawn.append(tag("text", "epoch", x=right, y=HEIGHT - 4, text_anchor="end"))
    return drawn


def shown(value: float) -> str:
    """Return a number of a scale, short."""
    if value and not 1e-4 <= abs(value) < 1e5:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:g}"


def _apart(across: Axis, epoch: float | None) -> list[Markup]:
    if epoch is None:
        return []
    x, end = across.place(epoch), across.end
    return [tag("rect", x=x, y=TOP, width=round(end - x, 2), height=HEIGHT - BOTTOM - TOP, class_="apart")]


def _best(across: Axis, best: tuple[float, str] | None) -> list[Markup]:
    if best is None:
        return []
    x, middle = across.place(best[0]), (LEFT + WIDTH - RIGHT) / 2
    anchor = "start" if x < middle - 60 else "end" if x > middle + 60 else "middle"
    label = tag("text", best[1], x=x, y=TOP - 8, text_anchor=anchor, class_="mark")
    return [tag("path", d=f"M{x} {TOP - 3}V{HEIGHT - BOTTOM}", class_="best"), label]


def _line(line: Line, across: Axis, up: Axis) -> Markup:
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in line.points:
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append((across.place(x), up.place(y)))
    path = "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in piece) for piece in pieces if piece)
    places = [place for piece in pieces for place in piece]
    dots = [_dot(line, x, y) for x, y in places] if line.dots else []
    return tag("g", tag("path", d=path, class_=f"line {line.look}"), dots)


def _dot(line: Line, x: float, y: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=2.6, class_=f"dot {line.look}")
