"""How sure the network is of itself, and how often it is right: reliability diagrams without and with temperature."""

from __future__ import annotations

from tfxfer.markup import Markup, section, soft, tag
from tfxfer.plots.reliability import TITLES, Bar, bars
from tfxfer.reports.tables import table
from tfxfer.statistics.calibration import Bin, Calibration, Reliability

WIDTH, HEIGHT = 340, 290
LEFT, RIGHT, TOP, BOTTOM, STRIP = 44, 10, 10, 34, 44  # the strip below shows how many examples there are


def calibration_section(calibration: Calibration) -> Markup:
    """Return the temperature and what it does."""
    before, after = calibration.shown
    charts = [_diagram(title, measured) for title, measured in zip(TITLES, (before, after), strict=True)]
    return section(
        "calibration",
        "Do its probabilities mean what they say?",
        soft(_summary(calibration)),
        tag("div", charts, class_="charts few"),
        tag("details", tag("summary", "The numbers"), _table(before, after)),
    )


def _summary(calibration: Calibration) -> str:
    before, after = calibration.shown
    split = "test" if calibration.test else "validation"
    fitted = calibration.validation[0].examples
    sentences = [
        f"Divided by a temperature of {calibration.temperature:.3g}, which {fitted:,} validation examples give, the "
        f"logits have an expected calibration error of {after.ece:.4f} on the {split} examples, and without it of "
        f"{before.ece:.4f}. That is how far, on average, the share that is right lies from what the network says (Guo "
        "et al., 2017). No prediction changes."
    ]
    if calibration.at_bound:
        sentences.append(f"The temperature is a bound: {calibration.why_at_bound}.")
    use = "divide" if calibration.used else "do not divide"
    sentences.append(f"Predictions and exports of this run {use} by it.")
    return " ".join(sentences)


def _diagram(title: str, measured: Reliability) -> Markup:
    drawn = bars(measured)
    described = ", ".join(f"{bar.confidence:.2f}: {bar.accuracy:.2f}" for bar in drawn)
    picture = tag(
        "svg",
        _scales(),
        [_bar(bar) for bar in drawn],
        tag("path", d=f"M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}", class_="best"),
        [_diamond(bar) for bar in drawn],
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: mean confidence and share that is right of each bin: {described}.",
    )
    return tag("figure", tag("h3", title), _keys(measured), picture)


def _keys(measured: Reliability) -> Markup:
    samples = {
        "right": tag("rect", x=8, y=0, width=14, height=10, class_="reliable"),
        "mean confidence": tag("path", d="M15 0L20 5L15 10L10 5Z", class_="sure"),
        "as sure as right": tag("path", d="M1 5H29", class_="best"),
    }
    keys = [
        tag(
            "span",
            tag("svg", sample, viewBox="0 0 30 10", class_="chart-key", aria_hidden="true"),
            tag("span", name),
            class_="key",
        )
        for name, sample in samples.items()
    ]
    return tag("div", keys, tag("span", f"error {measured.ece:.4f}"), class_="keys")


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - RIGHT - LEFT), 2)


def _y(share: float) -> float:
    bottom = HEIGHT - BOTTOM - STRIP
    return round(bottom - share * (bottom - TOP), 2)


def _scales() -> list[Markup]:
    drawn = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        drawn.append(tag("path", d=f"M{LEFT} {y}H{WIDTH - RIGHT}", class_="axis" if share == 0 else "grid"))
        drawn.append(tag("text", f"{share:g}", x=LEFT - 7, y=y, text_anchor="end", dominant_baseline="middle"))
        drawn.append(tag("text", f"{share:g}", x=_x(share), y=HEIGHT - BOTTOM + 15, text_anchor="middle"))
    drawn.append(tag("path", d=f"M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}", class_="axis"))
    drawn.append(tag("text", "confidence; below, how many have it", x=WIDTH - RIGHT, y=HEIGHT - 4, text_anchor="end"))
    return drawn


def _bar(bar: Bar) -> list[Markup]:
    x, width = _x(bar.low) + 1, round(_x(bar.high) - _x(bar.low) - 2, 2)
    tall = round(bar.share * (STRIP - 8), 2)
    title = tag("title", f"{bar.examples:,} examples: confidence {bar.confidence:.3f}, right {bar.accuracy:.3f}")
    y = _y(bar.accuracy)
    place = {"x": x, "width": width}
    return [
        tag("g", tag("rect", y=y, height=round(_y(0) - y, 2), class_="reliable", **place), title),
        tag("rect", y=round(HEIGHT - BOTTOM - tall, 2), height=tall, class_="many", **place),
    ]


def _diamond(bar: Bar) -> Markup:
    x, y = _x((bar.low + bar.high) / 2), _y(bar.confidence)
    return tag("path", d=f"M{x:g} {y - 5:g}L{x + 5:g} {y:g}L{x:g} {y + 5:g}L{x - 5:g} {y:g}Z", class_="sure")


def _table(before: Reliability, after: Reliability) -> Markup:
    columns = (
        "confidence",
        "examples",
        "mean confidence",
        "right",
        "examples after",
        "confidence after",
        "right after",
    )
    width = 1 / len(before.bins)
    rows = []
    for place, pair in enumerate(zip(before.bins, after.bins, strict=True)):
        cells = [cell for part in pair for cell in _cells(part)]
        head = tag("th", f"{place * width:.2f} to {(place + 1) * width:.2f}", scope="row")
        rows.append(tag("tr", head, [tag("td", cell, class_="number") for cell in cells]))
    return table(columns, rows, label="Examples by confidence", numbers=columns[1:], tall=True)


def _cells(part: Bin) -> tuple[str, str, str]:
    return (f"{part.examples:,}", f"{part.confidence:.3f}", f"{part.accuracy:.3f}") if part.examples else ("0", "", "")
