"""Curves over epochs: which lines, scales and marks a chart has, for the page's SVG and for the PNG of matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tfxfer.errors import DataError
from tfxfer.plots import figures
from tfxfer.plots.palette import LIGHT, LINES

SPLITS = {"train": "training", "validation": "validation"}
MOST_POINTS, MOST_DOTS, MOST_TICKS = 600, 60, 6
WIDE = 20.0  # numbers further apart than by this factor get a logarithmic scale


class Line(NamedTuple):
    """One line of a chart.

    Attributes:
      name: as the key has it.
      look: one of `palette.LINES`: colour and dash.
      points: pairs (epoch, value), the value None where there is a gap.
    """

    name: str
    look: str
    points: Sequence[tuple[float, float | None]]

    @property
    def dotted(self) -> bool:
        """Whether each point is marked."""
        return len(self.points) <= MOST_DOTS


class Scale(NamedTuple):
    """A range of numbers.

    Attributes:
      low, high: its ends.
      ticks: the numbers that are written beside it.
      log: whether it is logarithmic.
    """

    low: float
    high: float
    ticks: Sequence[float]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a number lies, from 0 at `low` to 1 at `high`."""
        low, high, value = map(math.log10, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return (value - low) / (high - low)


class Chart(NamedTuple):
    """Lines over epochs, and how they are to be drawn.

    Attributes:
      title: above it.
      lines: at least one of them with a point.
      across, up: the scales of epochs and of values.
      best: the epoch of the best checkpoint, and what to say there; or None.
    """

    title: str
    lines: Sequence[Line]
    across: Scale
    up: Scale
    best: tuple[float, str] | None


def chart(
    title: str, lines: Sequence[Line], *, last: float = 1.0, best: tuple[float, str] | None = None, share: bool = False
) -> Chart:
    """Return a chart of lines.

    Args:
      title, lines, best: as `Chart` has them; what is not finite becomes a gap.
      last: the epoch that the scale ends with.
      share: whether the values are shares from 0 to 1, and 1 is to be shown.
    """
    lines = [line._replace(points=_thinned(line.points)) for line in lines]
    values = [y for line in lines for _, y in line.points if y is not None]
    end = max(last, *(x for line in lines for x, _ in line.points)) or 1
    across = Scale(0, end, [tick for tick in ticks(0, end, 7) if tick == int(tick)])
    return Chart(title, lines, across, _scale(values, share), best)


def steps_per_epoch(history: Sequence[Mapping[str, Any]]) -> float:
    """Return it by the end of the first epoch; without one, as if the last row were such an end."""
    row = next((row for row in history if row["split"] == "train"), history[-1])
    return row["step"] / row["epoch"]


def metric_lines(history: Sequence[Mapping[str, Any]], metric: str, steps: float) -> list[Line]:
    """Return a metric in training and in validation, where it was measured.

    Args:
      history: rows as `tfxfer.runs.state.history` and `Fitted.history` give them.
      metric: its name.
      steps: the number of steps per epoch; a validation within an epoch is at a part of one.
    """
    lines = [
        Line(name, split, [(row["step"] / steps, row.get(metric)) for row in history if row["split"] == split])
        for split, name in SPLITS.items()
    ]
    return [line for line in lines if any(y is not None for _, y in line.points)]


def best_mark(epoch: float, value: float | None) -> tuple[float, str]:
    """Return where the best checkpoint lies and what is said there, for `chart`."""
    return epoch, f"best: epoch {round(epoch, 2):g}" + ("" if value is None else f", {value:.4g}")


def _thinned(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Leave out points, evenly, where there are more than can be told apart; the last stays."""
    count = min(len(points), MOST_POINTS)
    kept = [points[round(place * (len(points) - 1) / max(count - 1, 1))] for place in range(count)]
    return [(x, y if y is not None and math.isfinite(y) else None) for x, y in kept]


# --- scales ---


def _scale(values: Sequence[float], share: bool) -> Scale:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low > 0 and high / low > WIDE and not share:
        low, high = (10 ** (round_(math.log10(end) * 2) / 2) for round_, end in ((math.floor, low), (math.ceil, high)))
        return Scale(low, high, _log_ticks(low, high), log=True)
    if share:
        high = 1.0
    elif low >= 0 and low < high / 2:
        low = 0.0
    if high <= low:
        high, low = high + (abs(high) or 1) * 0.1, low - (abs(low) or 1) * 0.1
    wide = next(_widths(low, high, MOST_TICKS - 1))
    low, high = math.floor(low / wide + 1e-9) * wide, math.ceil(high / wide - 1e-9) * wide
    return Scale(low, high, ticks(low, high))


def ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
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


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times each power of ten, or fewer of them where these are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        values = [factor * 10.0**power for power in powers for factor in factors]
        values = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(values) <= MOST_TICKS:
            break
    return values[:: math.ceil(len(values) / MOST_TICKS)]


def shown(value: float) -> str:
    """Return a number of a scale, short."""
    if value and not 1e-4 <= abs(value) < 1e5:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{value:g}"


# --- by matplotlib ---


def draw(history: Sequence[Mapping[str, Any]], *, best: int | None = None, title: str = "") -> bytes:
    """Draw loss and accuracy of training and validation by epoch, and the learning rate if it varies.

    Args:
      history: rows as `tfxfer.runs.state.history` and `Fitted.history` give them.
      best: the step of the best checkpoint, which is marked.
      title: above it all, as the name of the run.

    Returns:
      A PNG.

    Raises:
      DataError: the history is empty.
    """
    if not history:
        raise DataError("there is nothing to draw yet: no epoch has ended")
    charts = _charts(history, best)

    def paint(figure: Any) -> None:
        panels = figure.subplots(1, len(charts), squeeze=False)[0]
        for axes, panel in zip(panels, charts, strict=True):
            _paint(axes, panel)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.suptitle(title, weight="bold")

    return figures.draw(paint, 420 * len(charts), 360, constrained=True)


def _charts(history: Sequence[Mapping[str, Any]], best: int | None) -> list[Chart]:
    steps = steps_per_epoch(history)
    last = history[-1]["step"] / steps
    charts = []
    for metric in ("loss", "accuracy"):
        if lines := metric_lines(history, metric, steps):
            row = next((row for row in history if row["split"] == "validation" and row["step"] == best), {})
            mark = None if best is None else best_mark(best / steps, row.get(metric))
            charts.append(chart(metric, lines, last=last, best=mark, share=metric == "accuracy"))
    rates = [line._replace(look="third") for line in metric_lines(history, "learning_rate", steps)]
    if len({rate for line in rates for _, rate in line.points}) > 1:
        charts.append(chart("learning rate", rates, last=last))
    return charts


def _paint(axes: Any, panel: Chart) -> None:
    for line in panel.lines:
        colour, dashes = LINES[line.look]
        look = {"color": LIGHT[colour], "linestyle": (0, dashes) if dashes else "-", "linewidth": 1.6}
        places = [(x, math.nan if y is None else y) for x, y in line.points]
        marks = {"marker": "o", "markersize": 3.5} if line.dotted else {}
        axes.plot(*zip(*places, strict=True), label=line.name, clip_on=False, **look, **marks)
    across, up = panel.across, panel.up
    axes.set(yscale="log" if up.log else "linear", xlim=(0, across.high * 1.02), ylim=(up.low, up.high), xlabel="epoch")
    axes.set_xticks(across.ticks)
    axes.set_yticks(up.ticks, [shown(tick) for tick in up.ticks])
    axes.set_yticks([], minor=True)
    axes.set_title(panel.title + (" (log scale)" if up.log else ""), loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.best:
        axes.axvline(panel.best[0], color=LIGHT["ink"], linestyle=":", linewidth=1.4, zorder=0)
        axes.set_title(panel.best[1], loc="right", fontsize="medium", color=LIGHT["soft"])
