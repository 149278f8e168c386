"""The head of the page: what the run is, how good it is, and what is not there yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfxfer.markup import Markup, join, tag
from tfxfer.reports.folds import fold_name
from tfxfer.reports.restore_table import merged, trained_parameters
from tfxfer.reports.run_reader import Run, Test, number
from tfxfer.reports.training_curves import best_epoch
from tfxfer.statistics import intervals

# What a loss is, where the settings say which.
LOSSES = dict.fromkeys(("softmax", "sigmoid"), "mean cross-entropy of an example, in nats")


def header(run: Run) -> Markup:
    """Return title, key figures, and a note of what is missing."""
    notes = missing(run)
    return tag(
        "header",
        tag("p", ", ".join(filter(None, ("tfxfer run", fold_name(run.settings)))), class_="kicker"),
        tag("h1", run.name),
        tag("p", _lead(run), class_="lead"),
        tag("div", tag("ul", [tag("li", note) for note in notes]), class_="banner", role="note") if notes else None,
        tag("div", *_test(run), _best(run), _trained(run), _frozen(run), class_="figures"),
    )


def result_line(run: Run) -> str:
    """Return the result in a few words."""
    if run.test is not None:
        right, count, accuracy = _score(run.test)
        return f"test accuracy {accuracy:.4f}, {right:,} of {count:,}"
    if run.best is not None:
        values = [(name, number(run.best.get(name))) for name in ("accuracy", "loss")]
        return next((f"validation {name} {value:.4f}" for name, value in values if value is not None), "")
    return "no result yet"


def _score(test: Test) -> tuple[int, int, float]:
    """Return how many test examples are right, how many there are, and the share."""
    right, count = int(np.trace(test.confusion)), int(test.confusion.sum())
    return right, count, right / max(count, 1)


def _lead(run: Run) -> Markup:
    model, weights, hidden = (run.settings.get(name) for name in ("model", "weights", "hidden"))
    if not model:
        return join(result_line(run))
    head = ""
    if isinstance(hidden, list):
        head = f" with a head of {', '.join(map(str, hidden))} units" if hidden else " with a linear head"
    source = join(", restored from ", tag("b", str(weights).rpartition("/")[2])) if weights and run.plans else None
    return join(tag("b", model), head, source, _examples(run), ".")


def _examples(run: Run) -> str:
    counts = {
        "trained on": number(run.settings.get("training_examples")),
        "validated on": number(run.settings.get("validation_examples")),
        "tested on": float(run.test.confusion.sum()) if run.test else None,
    }
    shown = [f"{verb} {value:,.0f}" for verb, value in counts.items() if value is not None]
    classes = f", {len(run.test.class_names):,} classes" if run.test is not None else ""
    return classes + (f"; {', '.join(shown)} examples" if shown else "")


def missing(run: Run) -> list[str]:
    """Return what the page cannot show, and why."""
    notes = []
    if not run.history:
        notes.append("No epoch has ended yet, or no checkpoint was written: curves are missing.")
    elif not run.finished:
        epochs = run.settings.get("epochs", "an unknown number of")
        notes.append(f"Training has come to epoch {run.reached} of {epochs}: it is going on, or was stopped.")
    if run.test is None and "test.json cannot" not in " ".join(run.faults):
        cure = "`tfxfer.evaluation.test_results.record` of a test's result"
        cure = "`tfxfer evaluate` on the run" if run.tool == "train" else cure
        notes.append(f"It was not tested: {cure} adds the test's part of this page.")
    return notes + run.faults


# --- key figures ---


def _figure(label: str, value: str, *details: object, first: bool = False) -> Markup:
    shown = [detail if isinstance(detail, Markup) else tag("span", detail, class_="detail") for detail in details]
    head = tag("span", label, class_="label"), tag("span", value, class_="value")
    return tag("div", head, shown, class_="figure first" if first else "figure")


def _test(run: Run) -> Sequence[Markup]:
    """Return accuracy, top-k accuracies and loss of the test."""
    if run.test is None:
        return []
    right, count, share = _score(run.test)
    low, high = intervals.wilson(right, count)
    bar = tag(
        "div",
        tag("i", style=f"left:{low:.2%};width:{high - low:.2%}"),
        tag("b", style=f"left:{share:.2%}"),
        class_="interval",
        aria_hidden="true",
    )
    details: list[object] = [bar, f"{right:,} of {count:,} right; {intervals.shown(right, count)}"]
    if run.test.checkpoint:
        details.append(f"of {run.test.checkpoint}")
    figures = [_figure("Test accuracy", f"{share:.4f}", *details, first=True)]
    figures += [
        _figure(f"Top-{k} accuracy", f"{share:.4f}", f"the class is among the {k} most probable")
        for k, share in sorted(run.test.top_k.items())
        if k > 1
    ]
    loss = run.test.metrics.get("loss")
    if loss is not None:
        meaning = LOSSES.get(str(run.settings.get("loss")), "mean of an example")
        figures.append(_figure("Test loss", f"{loss:.4f}", meaning))
    return figures


def _best(run: Run) -> Markup | None:
    epoch = best_epoch(run)
    if run.best is None or epoch is None:
        return None
    values = {name: number(run.best.get(name)) for name in ("accuracy", "loss")}
    name = "accuracy" if values["accuracy"] is not None else "loss"
    early = "; stopped early" if run.stopped else ""
    value = "" if values[name] is None else f"{values[name]:.4f}"
    return _figure(f"Best validation {name}", value, f"at epoch {epoch:g} of {run.reached}{early}")


def _trained(run: Run) -> Markup | None:
    trained, total = trained_parameters(run, merged(run.plans or []))
    if not total or not run.knows_trained:
        return None
    return _figure("Trained", f"{trained / total:.1%}", f"{trained:,} of {total:,} parameters")


def _frozen(run: Run) -> Markup | None:
    if run.frozen is None or not run.frozen["variables"]:
        return None
    if not run.frozen["checks"]:
        return _figure("Frozen variables", f"{len(run.frozen['variables']):,}", "not compared yet")
    last = run.frozen["checks"][-1]
    later = max((row["step"] for row in run.history), default=0) > last["step"]
    when = f" at step {last['step']:,}; not compared since" if later else ""
    return _figure("Frozen variables", f"{last['unchanged']:,}", f"\N{CHECK MARK} bit-identical to the start{when}")
