"""The head of the page: what the run is, how good it is, and what is not there yet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tfxfer.report.markup import Markup, join, tag
from tfxfer.report.restore_table import merged, parameters
from tfxfer.report.run_reader import Run, Test, number
from tfxfer.report.training_curves import best_epoch

# What a loss is, where the settings say which.
LOSSES = dict.fromkeys(("softmax", "sigmoid"), "mean cross-entropy of an example, in nats")
Z = 1.959964  # of the normal distribution, for 95 %


def header(run: Run) -> Markup:
    """Return title, key figures, and a note of what is missing."""
    figures = [_result(run), _best(run), *_tops(run), _trained(run), _frozen(run)]
    return tag(
        "header",
        tag("p", "tfxfer run", class_="kicker"),
        tag("h1", run.name),
        _lead(run),
        _banner(run),
        tag("div", figures, class_="figures"),
    )


def interval(right: int, every: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (Journal of the American Statistical Association 22, 1927)."""
    if not every:
        return 0.0, 1.0
    share = right / every
    middle = (share + Z**2 / (2 * every)) / (1 + Z**2 / every)
    half = Z * math.sqrt(share * (1 - share) / every + Z**2 / (4 * every**2)) / (1 + Z**2 / every)
    return max(0.0, middle - half), min(1.0, middle + half)


def result_line(run: Run) -> str:
    """Return the result in a few words."""
    if run.test is not None:
        right, every = int(np.trace(run.test.confusion)), int(run.test.confusion.sum())
        return f"test accuracy {_accuracy(run.test):.4f}, {right:,} of {every:,}"
    if run.best is not None:
        found = [(name, number(run.best.get(name))) for name in ("accuracy", "loss")]
        return next((f"validation {name} {value:.4f}" for name, value in found if value is not None), "")
    return "no result yet"


def _accuracy(test: Test) -> float:
    return float(np.trace(test.confusion) / max(int(test.confusion.sum()), 1))


def _lead(run: Run) -> Markup:
    settings = run.settings
    model, weights = settings.get("model"), settings.get("weights")
    pieces: list[object] = [tag("b", model)] if model else []
    hidden = settings.get("hidden")
    if isinstance(hidden, list) and model:
        layers = ", ".join(str(units) for units in hidden)
        pieces.append(f" with a head of {layers} units" if layers else " with a linear head")
    if weights and run.plans:
        pieces.append(join(", restored from ", tag("b", str(weights).rpartition("/")[2])))
    pieces.append(_examples(run))
    return tag("p", pieces, ".", class_="lead") if model else tag("p", result_line(run), class_="lead")


def _examples(run: Run) -> str:
    counts = {
        "trained on": number(run.settings.get("training_examples")),
        "validated on": number(run.settings.get("validation_examples")),
        "tested on": float(run.test.confusion.sum()) if run.test else None,
    }
    shown = [f"{verb} {value:,.0f}" for verb, value in counts.items() if value is not None]
    classes = f", {len(run.test.class_names):,} classes" if run.test is not None else ""
    return classes + (f"; {', '.join(shown)} examples" if shown else "")


def _banner(run: Run) -> Markup | None:
    said = missing(run)
    return tag("div", tag("ul", [tag("li", one) for one in said]), class_="banner", role="note") if said else None


def missing(run: Run) -> list[str]:
    """Return what the page cannot show, and why."""
    said = []
    if not run.history:
        said.append("No epoch has ended yet, or no checkpoint was written: there are no curves.")
    elif not run.finished:
        done = max(row["epoch"] for row in run.history)
        asked = run.settings.get("epochs", "an unknown number of")
        said.append(f"Training has come to epoch {done} of {asked}: it is going on, or was stopped.")
    if run.test is None and "test.json cannot" not in " ".join(run.faults):
        said.append(f"It was not tested: {_cure(run)} adds the test's part of this page.")
    return said + run.faults


def _cure(run: Run) -> str:
    """Say what keeps the result of a test in the run's directory."""
    return (
        "`tfxfer evaluate` on the run"
        if run.tool == "train"
        else "`tfxfer.evaluation.test_results.record` of a test's result"
    )


def _figure(label: str, value: str, *details: object, first: bool = False) -> Markup:
    return tag(
        "div",
        tag("span", label, class_="label"),
        tag("span", value, class_="value"),
        [
            detail if isinstance(detail, Markup) else tag("span", detail, class_="detail")
            for detail in details
            if detail
        ],
        class_="figure first" if first else "figure",
    )


def _result(run: Run) -> Markup | None:
    if run.test is None:
        return None
    right, every = int(np.trace(run.test.confusion)), int(run.test.confusion.sum())
    share, (low, high) = _accuracy(run.test), interval(right, every)
    bar = tag(
        "div",
        tag("i", style=f"left:{low:.2%};width:{high - low:.2%}"),
        tag("b", style=f"left:{share:.2%}"),
        class_="interval",
        aria_hidden="true",
    )
    said = f"{right:,} of {every:,} right; 95 % interval {low:.3f} to {high:.3f}"
    of = f"of {run.test.checkpoint}" if run.test.checkpoint else ""
    return _figure("Test accuracy", f"{share:.4f}", bar, said, of, first=True)


def _best(run: Run) -> Markup | None:
    if run.best is None:
        return None
    name = "accuracy" if number(run.best.get("accuracy")) is not None else "loss"
    value = number(run.best.get(name))
    epoch = best_epoch(run)
    of = f"at epoch {epoch:g} of {_epochs(run)}" if epoch is not None else ""
    early = "; stopped early" if run.stopped else ""
    return _figure(f"Best validation {name}", "" if value is None else f"{value:.4f}", f"{of}{early}")


def _epochs(run: Run) -> str:
    made = max((row["epoch"] for row in run.history), default=0)
    return str(made)


def _tops(run: Run) -> Sequence[Markup]:
    if run.test is None:
        return []
    found = [
        _figure(f"Top-{k} accuracy", f"{share:.4f}", f"the class is among the {k} most probable")
        for k, share in sorted(run.test.top_k.items())
        if k > 1
    ]
    loss = run.test.metrics.get("loss")
    return (
        [*found, _figure("Test loss", f"{loss:.4f}", LOSSES.get(str(run.settings.get("loss")), "mean of an example"))]
        if loss is not None
        else found
    )


def _trained(run: Run) -> Markup | None:
    rows, trained = merged(run.plans or []), run.trained()
    every = sum(map(parameters, rows))
    if not every or not run.knows_trained:
        return None
    ours = sum(parameters(row) for row in rows if row["variable"] in trained)
    return _figure("Trained", f"{ours / every:.1%}", f"{ours:,} of {every:,} parameters")


def _frozen(run: Run) -> Markup | None:
    if run.frozen is None or not run.frozen["variables"]:
        return None
    if not run.frozen["checks"]:
        return _figure("Frozen variables", f"{len(run.frozen['variables']):,}", "not compared yet")
    last = run.frozen["checks"][-1]
    later = max((row["step"] for row in run.history), default=0) > last["step"]
    when = f" at step {last['step']:,}; not compared since" if later else ""
    said = f"\N{CHECK MARK} bit-identical to the start{when}"
    return _figure("Frozen variables", f"{last['unchanged']:,}", said)
