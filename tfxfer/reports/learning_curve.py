"""Whether more pictures would help: the learning curve of a run, its extrapolation and its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

from tfxfer.markup import Markup, join, section, soft, tag
from tfxfer.plots.curves import shown
from tfxfer.plots.learning_curve import NAMES, Panel, panel
from tfxfer.reports.tables import row, table
from tfxfer.statistics.learning_curve import LearningCurve

WIDTH, HEIGHT = 340, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 14, 38


def learning_curve_section(curve: LearningCurve) -> Markup:
    """Return the curve and what it says."""
    what = panel(curve)
    means = ", ".join(f"{examples:,.0f}: {accuracy:.3f}" for examples, accuracy in what.measured)
    picture = tag(
        "svg",
        tag("path", d=_area(what), class_="band"),
        _scales(what),
        tag("path", d=_path(what, what.curve), class_="line train"),
        [_dot(what, place, 2, "many") for place in what.each],
        [_dot(what, place, 4.5, "dot validation") for place in what.measured],
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"Validation accuracy by training examples, mean of the seeds: {means}.",
    )
    return section(
        "learning",
        "Would more pictures help?",
        soft(_summary(curve)),
        tag("figure", _keys(), picture, class_="few learning"),
        tag("details", tag("summary", "The numbers"), _table(curve)),
    )


def _summary(curve: LearningCurve) -> str:
    head = "" if curve.head is None else f" The run's own head has {curve.head:.4f} by all of them."
    line = str(curve)
    return (
        f"{line[0].upper()}{line[1:]}. Measured by {curve.classifier} on {curve.validation_examples:,} validation "
        f"examples, as a floor; the curve is {curve.limit:.3f} - {curve.factor:.3f} (n / {curve.examples:,})^-"
        f"{curve.exponent:.2f}.{head} What lies right of the dotted line is extrapolated: it holds if new pictures are "
        "like these."
    )


def _keys() -> Markup:
    samples = {
        "mean": tag("circle", cx=15, cy=5, r=4.5, class_="dot validation"),
        "each": tag("circle", cx=15, cy=5, r=2, class_="many"),
        "curve": tag("path", d="M1 5H29", class_="line train"),
        "band": tag("rect", x=1, y=0, width=28, height=10, class_="band"),
    }
    keys = [
        tag("span", tag("svg", sample, viewBox="0 0 30 10", aria_hidden="true"), tag("span", NAMES[name]), class_="key")
        for name, sample in samples.items()
    ]
    return tag("div", keys, class_="keys")


def _place(what: Panel, examples: float, accuracy: float) -> tuple[float, float]:
    x = LEFT + what.across.place(examples) * (WIDTH - RIGHT - LEFT)
    y = HEIGHT - BOTTOM - what.up.place(min(max(accuracy, what.up.low), what.up.high)) * (HEIGHT - BOTTOM - TOP)
    return round(x, 2), round(y, 2)


def _path(what: Panel, places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in (_place(what, *place) for place in places))


def _area(what: Panel) -> str:
    return f"{_path(what, [*what.low, *reversed(what.high)])}Z"


def _dot(what: Panel, place: tuple[float, float], radius: float, look: str) -> Markup:
    x, y = _place(what, *place)
    return tag("circle", cx=x, cy=y, r=radius, class_=look)


def _scales(what: Panel) -> list[Markup]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    drawn = []
    for accuracy in what.up.ticks:
        y = _place(what, what.across.low, accuracy)[1]
        drawn.append(tag("path", d=f"M{LEFT} {y:g}H{right}", class_="grid"))
        drawn.append(tag("text", shown(accuracy), x=LEFT - 7, y=y, text_anchor="end", dominant_baseline="middle"))
    for examples in what.across.ticks:
        x = _place(what, examples, 0)[0]
        drawn.append(tag("text", f"{examples:,.0f}", x=x, y=bottom + 15, text_anchor="middle"))
    x = _place(what, what.examples, 0)[0]
    drawn.append(tag("path", d=f"M{x:g} {TOP}V{bottom}", class_="best"))
    drawn.append(tag("path", d=f"M{LEFT} {bottom}H{right}", class_="axis"))
    drawn.append(tag("text", "training examples (logarithmic scale)", x=right, y=HEIGHT - 5, text_anchor="end"))
    return drawn


def _table(curve: LearningCurve) -> Markup:
    columns = ("training examples", "mean accuracy", "lowest", "highest", "seeds")
    rows = [
        row(
            f"{point.examples:,}",
            [],
            numbers=[
                f"{sum(point.accuracies) / len(point.accuracies):.4f}",
                f"{min(point.accuracies):.4f}",
                f"{max(point.accuracies):.4f}",
                len(point.accuracies),
            ],
        )
        for point in curve.points
    ]
    measured = table(columns, rows, label="Accuracies by training examples", numbers=columns[1:])
    expected = [
        row(f"{place.examples:,.0f}", [], numbers=[f"{place.accuracy:.4f}", f"{place.low:.4f}", f"{place.high:.4f}"])
        for place in curve.places[:: max(1, len(curve.places) // 8)]
    ]
    heads = ("training examples", "expected accuracy", "low", "high")
    return join(measured, table(heads, expected, label="Expected accuracies", numbers=heads[1:]))
