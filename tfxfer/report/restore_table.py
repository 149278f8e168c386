"""Where the variables came from, which of them were trained, and the proof that the others did not move."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from tfxfer import names
from tfxfer.report.markup import Markup, join, tag
from tfxfer.report.run_reader import Row, Run
from tfxfer.report.tables import counted, row, table

MOST_UNUSED, MOST_CHECKS = 30, 50
MOST_AT_ONCE = 14  # rows without a box that scrolls
NOTHING = "Nothing was restored: every variable began with new values."
UNKNOWN = (
    "Not known: the session that was trained in had no restore plan. What a program restored by other means, as by a "
    "Saver of its own, is not noted."
)
WORDS = {
    "restored": "restored",
    "initialised": "new",
    "missing": "missing",
    "mismatched": "mismatched",
}


def plan_section(run: Run) -> Markup | None:
    """Return a table of all variables: where each came from, and whether it was trained."""
    if run.plans is None:
        return None
    rows = merged(run.plans)
    if not rows:
        said = NOTHING if run.tool else UNKNOWN  # The tools restore by plans alone.
        return tag("section", tag("h2", "Where the variables came from"), tag("p", said), id="plan")
    return tag(
        "section",
        tag("h2", "Where the variables came from"),
        tag("p", _sentence(run, rows), class_="soft"),
        _parts(run, rows),
        _table(run, rows),
        [_unused(plan) for plan in run.plans],
        id="plan",
    )


def merged(plans: Sequence[Row]) -> list[Row]:
    """Return one row a variable: where several plans name it, that of the plan which restored it."""
    found: dict[str, Row] = {}
    for plan in plans:
        for one in plan["variables"]:
            if one["variable"] not in found or found[one["variable"]]["status"] != "restored":
                found[one["variable"]] = one
    return list(found.values())


def parameters(variable: Row) -> int:
    """Return how many numbers a variable has; 0 where a side is not known."""
    return math.prod(variable["shape"]) if min(variable["shape"], default=0) >= 0 else 0


def _sentence(run: Run, rows: Sequence[Row]) -> Markup:
    counts = Counter(one["status"] for one in rows)
    plans = run.plans or []
    sources = [
        join(
            ", " if place else "",
            tag("code", plan["weights"], class_="name"),
            f" ({plan['kind']})" * bool(plan["kind"]),
        )
        for place, plan in enumerate(plans)
    ]
    new = f". New: {counts['initialised']:,}" if counts["initialised"] else ""
    return join(f"Restored: {counts['restored']:,} of {counted(len(rows), 'variable')}, from ", sources, f"{new}.")


def _parts(run: Run, rows: Sequence[Row]) -> Markup:
    if not run.knows_trained:
        return tag("p", "What was trained is not known: the settings do not say.", class_="small")
    trained = run.trained()
    ours = sum(parameters(one) for one in rows if one["variable"] in trained)
    every = sum(map(parameters, rows))
    share = ours / every if every else 0.0
    said = f"{ours:,} of {every:,} parameters are trained ({share:.1%}), {every - ours:,} are frozen."
    bar = tag(
        "div",
        tag("i", class_="trained-part", style=f"width:{share:.2%}"),
        tag("i", class_="frozen-part", style=f"width:{1 - share:.2%}"),
        class_="split",
        aria_hidden="true",
    )
    return join(bar, tag("p", said, class_="small"))


def _table(run: Run, rows: Sequence[Row]) -> Markup:
    columns = ("variable", "began", "in training", "shape", "parameters", "from")
    body = [_row(one, _fate(run, one["variable"])) for one in rows]
    tall = len(rows) > MOST_AT_ONCE
    return table(columns, body, label="Restore plan", numbers=["parameters"], tall=tall, look="wide")


def _row(one: Row, fate: Markup) -> Markup:
    look = {"missing": "missing-state"}.get(one["status"], one["status"])
    return tag(
        "tr",
        tag("th", tag("code", one["variable"]), scope="row", class_=f"edge {look}"),
        tag("td", tag("span", WORDS.get(one["status"], one["status"]), class_=f"state {look}")),
        tag("td", fate),
        tag("td", "x".join("?" if side < 0 else str(side) for side in one["shape"]) or "scalar"),
        tag("td", f"{parameters(one):,}", class_="number"),
        tag("td", tag("code", one.get("source", ""))),
    )


def _fate(run: Run, name: str) -> Markup:
    """Say what became of a variable in training; proved is only what has a digest that was compared."""
    trained = run.trained()
    if not run.knows_trained:
        return tag("span", "not known", class_="frozen")
    if name not in trained:
        proved = run.frozen is not None and run.frozen["checks"] and name in run.frozen["variables"]
        return tag("span", "frozen, proved" if proved else "not trained", class_="frozen")
    if trained[name] and trained[name] >= run.reached:
        return tag("span", f"to be trained from epoch {trained[name] + 1}", class_="frozen")
    since = f" from epoch {trained[name] + 1}" if trained[name] else ""
    return tag("span", f"trained{since}", class_="trained")


def _unused(plan: Row) -> Markup | None:
    unused = [str(name) for name in plan["unused"]]
    if not unused:
        return None
    arrays = counted(len(unused), "array")
    text = f"Not used: {arrays} of {plan['weights']} ({names.listed(unused, MOST_UNUSED)})."
    return tag("p", text, class_="small soft name")


def frozen_section(run: Run) -> Markup | None:
    """Return what was compared, when, and with which result."""
    if run.frozen is None or not run.frozen["variables"]:
        return None
    checks, count = run.frozen["checks"], len(run.frozen["variables"])
    if checks:
        last = checks[-1]
        text = (
            f"At step {last['step']:,}, what was not to move was compared with the start of the run: "
            f"{counted(last['unchanged'], 'variable')}, bit-identical ({run.frozen['method']})."
        )
    else:
        text = f"Not to move: {counted(count, 'variable')}. They have not been compared with the start yet."
    return tag(
        "section",
        tag("h2", "Proof that what is frozen did not move"),
        tag("p", text),
        _checks(checks),
        _digests(run.frozen["variables"]),
        id="frozen",
    )


def _checks(checks: Sequence[Row]) -> Markup | None:
    if len(checks) < 2:
        return None
    rows = [row(f"{one['step']:,}", [one["when"]], numbers=[f"{one['unchanged']:,}"]) for one in checks[-MOST_CHECKS:]]
    return table(("step", "compared", "unchanged"), rows, label="Comparisons", numbers=["unchanged"])


def _digests(variables: Mapping[str, str]) -> Markup:
    rows = [row(tag("code", name), [tag("code", value)]) for name, value in variables.items()]
    box = table(("variable", "SHA-256 at the start"), rows, label="Digests", tall=True)
    return tag("details", tag("summary", f"Digests of all {len(variables):,}"), box)
