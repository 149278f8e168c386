"""How the training went: curves of every metric and of the learning rate, over epochs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfxfer.markup import Markup, join, section, soft, tag
from tfxfer.plots.curves import SPLITS, Line, best_mark, chart, metric_lines
from tfxfer.reports import curves
from tfxfer.reports.run_reader import Row, Run, number
from tfxfer.reports.tables import table

MOST_ROWS = 600
LOOKS = ("third", "fourth", "train", "validation")
_NO_METRICS = {"step", "epoch", "split", "learning_rate"}


def curves_section(run: Run) -> Markup | None:
    """Return the curves, or None before the first epoch or validation has ended."""
    if not run.history:
        return None
    last, apart = _epoch(run, max(row["step"] for row in run.history)), parting(run)
    charts = [_metric_chart(run, name, last, apart if name == "loss" else None) for name in metrics(run)]
    charts += _rate_charts(run, last)
    return section(
        "curves",
        "How training went",
        soft(_summary(run, apart)),
        tag("div", charts, class_="charts" if len(charts) > 2 else "charts few"),
        tag("details", tag("summary", "The numbers"), _table(run)),
    )


def _epoch(run: Run, step: int) -> float:
    return step / run.steps_per_epoch


def metrics(run: Run) -> list[str]:
    """Return the names of what was measured, loss and accuracy first."""
    measured = [name for split in SPLITS for row in run.rows(split) for name in row if number(row[name]) is not None]
    others = dict.fromkeys(name for name in measured if name not in _NO_METRICS)
    return sorted(others, key=lambda name: ("loss accuracy".find(name) < 0, name != "loss"))


def lines(run: Run, name: str) -> list[Line]:
    """Return training and validation of a metric, those that there are."""
    return metric_lines([{**row, name: number(row.get(name))} for row in run.history], name, run.steps_per_epoch)


def _metric_chart(run: Run, name: str, last: float, apart: float | None) -> Markup:
    epoch = best_epoch(run)
    mark = None if epoch is None else best_mark(epoch, number((run.best or {}).get(name)))
    marked = "" if epoch is None else f"; the best checkpoint is of epoch {epoch:g}"
    drawn, title = lines(run, name), name.capitalize()
    shown = chart(title, drawn, last=last, best=mark, share=name == "accuracy")
    return curves.draw(shown, describe=f"{title} by epoch: {_described(drawn)}{marked}.", apart=apart)


def _described(drawn: Sequence[Line]) -> str:
    ends = {line.name: [y for _, y in line.points if y is not None] for line in drawn}
    return ", ".join(f"{name} from {values[0]:.4g} to {values[-1]:.4g}" for name, values in ends.items())


def best_epoch(run: Run) -> float | None:
    """Return the epoch after which the best checkpoint was saved; fractions of one are possible."""
    return round(_epoch(run, run.best["step"]), 2) if run.best else None


def parting(run: Run) -> float | None:
    """Return the epoch from which the training loss falls on and the validation loss does not, or None.

    It is that of the lowest validation loss, if the last one is at least 1 % higher, and the training loss has fallen
    since.
    """
    losses, trained = _noted(run, "validation", "loss"), _noted(run, "train", "loss")
    if not losses:
        return None
    step, lowest = min(losses, key=lambda pair: (pair[1], pair[0]))
    before = [loss for at, loss in trained if at <= step]
    if not before or losses[-1][1] < lowest + 0.01 * abs(lowest) or trained[-1][1] >= before[-1]:
        return None
    return round(_epoch(run, step), 2)


def _summary(run: Run, apart: float | None) -> str:
    losses = {split: [loss for _, loss in _noted(run, split, "loss")] for split in SPLITS}
    sentences = [f"{SPLITS[split].capitalize()} loss {_change(losses[split])}." for split in SPLITS if losses[split]]
    if apart is not None:
        sentences.append(
            f"From epoch {apart:g} on (shaded) the two part: training gets better and validation does not."
        )
    elif all(losses.values()) and run.finished:
        sentences.append("The two do not part.")
    if run.best:
        sentences.append("The dotted line is the best checkpoint by validation.")
    rates = _rates(run)
    if len(rates) == 1:
        # Noted at the end of each epoch. What it was in between is known of the tools' schedules, which never rise.
        known = run.settings.get("schedule") == "constant" or (run.tool and len(run.rows("train")) > 1)
        when = "throughout" if known else "at the end of each epoch"
        sentences.append(f"The learning rate was {rates.pop():g} {when}.")
    return " ".join(sentences)


def _noted(run: Run, split: str, metric: str) -> list[tuple[int, float]]:
    """Return (step, value) of a metric, wherever there is a number."""
    values = [(row["step"], number(row.get(metric))) for row in run.rows(split)]
    return [(step, value) for step, value in values if value is not None]


def _change(losses: Sequence[float]) -> str:
    change = f"went from {losses[0]:.4g} to {losses[-1]:.4g}" if len(losses) > 1 else f"is {losses[0]:.4g}"
    return f"{change}, lowest {min(losses):.4g}" if min(losses) < losses[-1] else change


def _table(run: Run) -> Markup:
    names = metrics(run)
    rows = [_table_row(run, row, names) for row in run.history[-MOST_ROWS:]]
    left_out = len(run.history) - len(rows)
    note = tag("p", f"The first {left_out:,} rows are left out.", class_="note small") if left_out else None
    columns = ("epoch", "step", "split", *names)
    numbers = [name for name in columns if name != "split"]
    return join(note, table(columns, rows, label="Numbers of epochs", numbers=numbers, tall=True))


def _table_row(run: Run, row: Row, names: Sequence[str]) -> Markup:
    best = bool(run.best) and row["split"] == "validation" and row["step"] == (run.best or {})["step"]
    split = join(SPLITS.get(row["split"], row["split"]), tag("b", " (best)") if best else None)
    values = (number(row.get(name)) for name in names)
    cells = [tag("td", "" if value is None else f"{value:.4f}", class_="number") for value in values]
    return tag("tr", [tag("td", row[name], class_="number") for name in ("epoch", "step")], tag("td", split), cells)


# --- learning rate ---


def _rate_charts(run: Run, last: float) -> list[Markup]:
    """Return a chart of the learning rate, if it varies: a line for each factor that some trained variable has."""
    if len(_rates(run)) < 2:
        return []
    drawn = [_rate_line(run, factor, begin, look) for look, (factor, begin) in zip(LOOKS, _factors(run), strict=False)]
    drawn = [line for line in drawn if line.points]
    description = f"Learning rate by epoch: {_described(drawn)}."
    return [curves.draw(chart("Learning rate", drawn, last=last), describe=description)]


def _rates(run: Run) -> set[float]:
    """Return the different learning rates that some trained variable had at the end of some epoch."""
    return {rate * factor for _, rate in _noted(run, "train", "learning_rate") for factor, _ in _factors(run)}


def _rate_line(run: Run, factor: float, begin: int, look: str) -> Line:
    noted = _noted(run, "train", "learning_rate")
    points = [(_epoch(run, step), rate * factor) for step, rate in noted if _epoch(run, step) > begin]
    times = "" if factor == 1 else f", times {factor:g}"
    since = f", from epoch {begin + 1}" if begin else ""
    return Line(f"learning rate{times}{since}", look, points)


def _factors(run: Run) -> list[tuple[float, int]]:
    """Return the pairs (factor, epoch from which on) that trained variables have, in order of epochs."""
    factors = {(_factor(name, epoch, run.settings), epoch) for name, epoch in run.trained().items()}
    return sorted(factors, key=lambda pair: (pair[1], -pair[0])) or [(1.0, 0)]


def _factor(name: str, epoch: int, settings: Mapping[str, Any]) -> float:
    multipliers, stages = settings.get("lr_multipliers"), settings.get("unfreeze")
    pairs = list(multipliers.items()) if isinstance(multipliers, dict) else []
    for stage in stages if isinstance(stages, list) else []:
        if isinstance(stage, list) and len(stage) == 3 and stage[0] == epoch:
            pairs.append((stage[1], stage[2]))
    return math.prod(number(factor) or 1.0 for pattern, factor in pairs if _matches(str(pattern), name))


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False
