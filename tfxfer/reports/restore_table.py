"""Where the variables came from, which of them were trained, and the proof that the others did not move."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from tfxfer import names
from tfxfer.markup import Markup, join, section, soft, tag
from tfxfer.reports.run_reader import Row, Run
from tfxfer.reports.tables import MOST_AT_ONCE, counted, row, table

MOST_UNUSED, MOST_CHECKS = 30, 50
NOTHING = "Nothing was restored: every variable began with new values."
UNKNOWN = (
    "Not known: the session that was trained in had no restore plan. What a program restored by other means, as by a "
    "Saver of its own, is not noted."
)


def plan_section(run: Run) -> Markup | None:
    """Return a table of all variables: where each came from, and whether it was trained."""
    if run.plans is None:
        return None
    title, rows = "Where the variables came from", merged(run.plans)
    if not rows:
        return section("plan", title, tag("p", NOTHING if run.tool else UNKNOWN))  # The tools restore by plans alone.
    unused = [_unused(plan) for plan in run.plans]
    return section("plan", title, soft(_sentence(run.plans, rows)), _parts(run, rows), _table(run, rows), unused)


def merged(plans: Sequence[Row]) -> list[Row]:
    """Return a row for each variable: where several plans name it, that of the plan which restored it."""
    rows: dict[str, Row] = {}
    for variable in (variable for plan in plans for variable in plan["variables"]):
        name = variable["variable"]
        if name not in rows or rows[name]["status"] != "restored":
            rows[name] = variable
    return list(rows.values())


def parameters(variable: Row) -> int:
    """Return how many numbers a variable has; 0 where a side is not known."""
    return math.prod(variable["shape"]) if min(variable["shape"], default=0) >= 0 else 0


def trained_parameters(run: Run, rows: Sequence[Row]) -> tuple[int, int]:
    """Return how many numbers of the variables are trained, and how many there are."""
    trained = run.trained()
    return sum(parameters(row) for row in rows if row["variable"] in trained), sum(map(parameters, rows))


def _sentence(plans: Sequence[Row], rows: Sequence[Row]) -> Markup:
    counts = Counter(variable["status"] for variable in rows)
    sources = [
        join(", " * bool(place), tag("code", plan["weights"], class_="name"), f" ({plan['kind']})" * bool(plan["kind"]))
        for place, plan in enumerate(plans)
    ]
    new = f". New: {counts['initialised']:,}" if counts["initialised"] else ""
    return join(f"Restored: {counts['restored']:,} of {counted(len(rows), 'variable')}, from ", sources, f"{new}.")


def _parts(run: Run, rows: Sequence[Row]) -> Markup:
    if not run.knows_trained:
        return tag("p", "What was trained is not known: the settings do not say.", class_="small")
    trained, total = trained_parameters(run, rows)
    share = trained / max(total, 1)
    text = f"{trained:,} of {total:,} parameters are trained ({share:.1%}), {total - trained:,} are frozen."
    bar = tag(
        "div",
        tag("i", class_="trained-part", style=f"width:{share:.2%}"),
        tag("i", class_="frozen-part", style=f"width:{1 - share:.2%}"),
        class_="split",
        aria_hidden="true",
    )
    return join(bar, tag("p", text, class_="small"))


def _table(run: Run, rows: Sequence[Row]) -> Markup:
    columns = ("variable", "began", "in training", "shape", "parameters", "from")
    body = [_row(variable, _fate(run, variable["variable"])) for variable in rows]
    tall = len(rows) > MOST_AT_ONCE
    return table(columns, body, label="Restore plan", numbers=["parameters"], tall=tall, look="wide")


def _row(variable: Row, fate: Markup) -> Markup:
    status = variable["status"]
    look = {"missing": "missing-state"}.get(status, status)
    return tag(
        "tr",
        tag("th", tag("code", variable["variable"]), scope="row", class_=f"edge {look}"),
        tag("td", tag("span", "new" if status == "initialised" else status, class_=f"state {look}")),
        tag("td", fate),
        tag("td", "x".join("?" if side < 0 else str(side) for side in variable["shape"]) or "scalar"),
        tag("td", f"{parameters(variable):,}", class_="number"),
        tag("td", tag("code", variable.get("source", ""))),
    )


def _fate(run: Run, name: str) -> Markup:
    """Say what became of a variable in training; proved is only what has a digest that was compared."""
    begin = run.trained().get(name)
    if not run.knows_trained:
        text = "not known"
    elif begin is None:
        proved = run.frozen is not None and run.frozen["checks"] and name in run.frozen["variables"]
        text = "frozen, proved" if proved else "not trained"
    elif begin and begin >= run.reached:
        text = f"to be trained from epoch {begin + 1}"
    else:
        return tag("span", "trained" + (f" from epoch {begin + 1}" if begin else ""), class_="trained")
    return tag("span", text, class_="frozen")


def _unused(plan: Row) -> Markup | None:
    if not plan["unused"]:
        return None
    arrays = f"{counted(len(plan['unused']), 'array')} of {plan['weights']}"
    return tag("p", f"Not used: {arrays} ({names.listed(plan['unused'], MOST_UNUSED)}).", class_="small soft name")


def frozen_section(run: Run) -> Markup | None:
    """Return what was compared, when, and with which result."""
    if run.frozen is None or not run.frozen["variables"]:
        return None
    checks, variables = run.frozen["checks"], run.frozen["variables"]
    if checks:
        last = checks[-1]
        text = (
            f"At step {last['step']:,}, what was not to move was compared with the start of the run: "
            f"{counted(last['unchanged'], 'variable')}, bit-identical ({run.frozen['method']})."
        )
    else:
        text = f"Not to move: {counted(len(variables), 'variable')}. They have not been compared with the start yet."
    return section(
        "frozen", "Proof that what is frozen did not move", tag("p", text), _checks(checks), _digests(variables)
    )


def _checks(checks: Sequence[Row]) -> Markup | None:
    if len(checks) < 2:
        return None
    shown = checks[-MOST_CHECKS:]
    rows = [row(f"{check['step']:,}", [check["when"]], numbers=[f"{check['unchanged']:,}"]) for check in shown]
    return table(("step", "compared", "unchanged"), rows, label="Comparisons", numbers=["unchanged"])


def _digests(variables: Mapping[str, str]) -> Markup:
    rows = [row(tag("code", name), [tag("code", value)]) for name, value in variables.items()]
    box = table(("variable", "SHA-256 at the start"), rows, label="Digests", tall=True)
    return tag("details", tag("summary", f"Digests of all {len(variables):,}"), box)
