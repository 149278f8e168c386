"""The page: all sections one below the other in one HTML file, which refers to nothing outside itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfxfer._version import __version__
from tfxfer.markup import Markup, section, soft, tag
from tfxfer.reports import (
    calibration,
    confusion,
    examples,
    filters,
    folds,
    learning_curve,
    restore_table,
    suspects,
    training_curves,
)
from tfxfer.reports.run_reader import Run
from tfxfer.reports.style import head
from tfxfer.reports.summary_section import header, result_line

TITLES = {"plan": "Restore plan", "repeat": "Repeat it"}  # in the navigation, where a section's name does not do
_NOT_SETTINGS = {"stages"}
_END = re.compile(rb"<footer><p>Written by tfxfer [^<]*</p></footer></body></html>\n\Z")
LONGEST_END = 400  # bytes of a page that hold it


def document(run: Run, command: str | None = None) -> str:
    """Return the whole page, the same text for the same run.

    Args:
      run: what `read` returned.
      command: how to make such a run again, shown at the end.
    """
    sections = {name: part for name, part in _sections(run, command).items() if part}
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        header(run),
        tag("main", _navigation(sections), sections.values(), id="content"),
        tag("footer", tag("p", f"Written by tfxfer {__version__} from the run's own files.")),
    )
    title = f"{run.name}: {result_line(run)}"
    return f"<!DOCTYPE html>\n{tag('html', head(title), body, lang='en')}\n"


def is_document(path: Path) -> bool:
    """Say whether a file is a page of `document`, of whatever version."""
    if not path.is_file():
        return False
    text = path.read_bytes()
    return text.startswith(b"<!DOCTYPE html>\n<html") and bool(_END.search(text[-LONGEST_END:]))


def _sections(run: Run, command: str | None) -> dict[str, Markup | None]:
    """Return the sections by their names, in order."""
    test = run.test
    return {
        "curves": training_curves.curves_section(run),
        "confusion": confusion.confusion_section(test) if test else None,
        "classes": examples.classes_section(test) if test else None,
        "mistakes": examples.mistakes_section(test) if test else None,
        "folds": folds.folds_section(run.folds, run.name) if run.folds else None,
        "suspects": suspects.suspects_section(run.suspects) if run.suspects else None,
        "calibration": calibration.calibration_section(run.calibration) if run.calibration else None,
        "learning": learning_curve.learning_curve_section(run.learning_curve) if run.learning_curve else None,
        "filters": filters.filters_section(run),
        "plan": restore_table.plan_section(run),
        "frozen": restore_table.frozen_section(run),
        "settings": _settings(run),
        "environment": _environment(run),
        "repeat": _repeat(command),
    }


def _navigation(names: Iterable[str]) -> Markup:
    links = [tag("li", tag("a", TITLES.get(name, name.capitalize()), href=f"#{name}")) for name in names]
    return tag("nav", tag("ul", links), aria_label="Sections")


def _settings(run: Run) -> Markup:
    settings = {name: value for name, value in run.settings.items() if name not in _NOT_SETTINGS}
    values = {name: value for name, value in settings.items() if value not in (None, [], {}, "")}
    rest = [name for name in settings if name not in values]
    note = tag("p", f"Not set: {', '.join(rest)}.", class_="small soft") if rest else None
    return section("settings", "Settings", _grid(values), note)


def _environment(run: Run) -> Markup | None:
    return section("environment", "Environment", _grid(run.environment)) if run.environment else None


def _grid(values: Mapping[str, object]) -> Markup:
    return tag("dl", [tag("div", tag("dt", name), _value(value)) for name, value in values.items()], class_="grid")


def _value(value: object) -> Markup:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return tag("dd", tag("code", text, class_="name"))


def _repeat(command: str | None) -> Markup:
    title = "Do it again"
    if command is None:
        text = "This run was made by a program of its own through the library: no command repeats it."
        return section("repeat", title, tag("p", text))
    text = (
        "From the directory it was started in; the same command on the same files and the same kind of machine, by one "
        "process, ends with the same bits."
    )
    return section("repeat", title, soft(text), tag("pre", command, tabindex=0, role="region", aria_label="Command"))
