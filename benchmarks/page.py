"""The part of README.md that is made from the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import figures
from benchmarks.tables import failures, number, verdict

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
BY = {"seconds": "work", "wall": "process", "peak": "peak memory", "cpu": "CPU"}


def with_figures(text: str, document: Mapping[str, Any]) -> str:
    """Return the page with the cases of a document in it; a case that is not in the document stays as it is.

    Raises:
      SystemExit: the marks are missing, or a case was measured with `--quick`.
    """
    before, begin, rest = text.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the page has not both {BEGIN} and {END}")
    quick = [name for name, record in document["cases"].items() if record["quick"]]
    if quick:
        raise SystemExit(f"{', '.join(quick)}: measured with --quick, which does not measure; run them without")
    sections = {_name(section): section.strip() for section in re.split(r"^(?=### )", inside, flags=re.MULTILINE)[1:]}
    for name, record in document["cases"].items():
        sections[name] = "\n".join(_case(name, record, document["machine"]))
    return "\n\n".join([before + BEGIN, *sections.values(), END + after])


def _name(section: str) -> str:
    return section.split("`")[1]


def _measured(record: Mapping[str, Any], where: Mapping[str, Any]) -> str:
    units = "with" if where["bfloat16"] else "without"
    versions = ", ".join(f"{name} {where[name]}" for name in ("tensorflow", "keras", "scikit-learn"))
    return (
        f"Measured {record['date']} on {where['processor']}, {where['cores']} cores {units} units for bfloat16; "
        f"Python {where['python']}, {versions}."
    )


def _case(name: str, record: Mapping[str, Any], where: Mapping[str, Any]) -> Iterator[str]:
    sizes = ", ".join(f"{key} {value:,}" for key, value in record["sizes"].items())
    yield f"### `{name}`: {record['title']}"
    yield ""
    yield _measured(record, where)
    yield f"{record['pairs']} pairs{f'; {sizes}' if sizes else ''}."
    yield from record["notes"]
    titles, sides = figures.table(record)
    if sides:
        yield ""
        yield f"| side | {' | '.join(titles)} |"
        yield f"|{'---|' * (len(titles) + 1)}"
    for side, values in sides:
        cells = [values, *[""] * (len(titles) - 1)] if isinstance(values, str) else map(number, values)
        yield f"| {side} | {' | '.join(cells)} |"
    for line in figures.left_out(record):
        yield f"\n{line}"
    rows = figures.rows(record)
    if rows:
        yield ""
        yield "| compared | by | result |"
        yield "|---|---|---|"
        for row in rows:
            missed = " (missed)" if row.met is False else ""
            yield f"| {row.words} | {BY.get(row.by, row.by)} | {verdict(row)}{missed} |"
    for fault in [*figures.faults(record), *failures(record)]:
        yield f"\n**{fault}**"
