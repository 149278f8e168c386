"""The page: all sections one below the other in one HTML file, which refers to nothing outside itself."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tfxfer._version import __version__
from tfxfer.report import confusion, examples, filters, restore_table, training_curves
from tfxfer.report.markup import Markup, tag
from tfxfer.report.run_reader import Run
from tfxfer.report.style import STYLE
from tfxfer.report.summary_section import header, result_line

# Whatever a run holds, a browser loads nothing for this page and runs no script in it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
TITLES = {
    "curves": "Curves",
    "confusion": "Confusion",
    "classes": "Classes",
    "mistakes": "Mistakes",
    "filters": "Filters",
    "plan": "Restore plan",
    "frozen": "Frozen",
    "settings": "Settings",
    "environment": "Environment",
    "repeat": "Repeat it",
}
_NOT_SETTINGS = {"stages"}


def document(run: Run, command: str | None = None) -> str:
    """Return the whole page, the same text for the same run.

    Args:
      run: what `read` returned.
      command: how to make such a run again, shown at the end.
    """
    sections = [section for section in _sections(run, command) if section]
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        header(run),
        tag("main", _navigation(sections), sections, id="content"),
        tag("footer", tag("p", f"Written by tfxfer {__version__} from the run's own files.")),
    )
    return f"<!DOCTYPE html>\n{tag('html', _head(run), body, lang='en')}\n"


def _head(run: Run) -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{run.name}: {result_line(run)}"),
        tag("style", Markup(STYLE)),
    )


def _sections(run: Run, command: str | None) -> list[Markup | None]:
    test = run.test
    return [
        training_curves.section(run),
        confusion.section(test) if test else None,
        examples.classes_section(test) if test else None,
        examples.mistakes_section(test) if test else None,
        filters.section(run),
        restore_table.plan_section(run),
        restore_table.frozen_section(run),
        _settings(run),
        _environment(run),
        _repeat(command),
    ]


def _navigation(sections: list[Markup]) -> Markup:
    there = [name for name in TITLES if any(part.startswith(f'<section id="{name}"') for part in sections)]
    links = [tag("li", tag("a", TITLES[name], href=f"#{name}")) for name in there]
    return tag("nav", tag("ul", links), aria_label="Sections")


def _settings(run: Run) -> Markup:
    told = {
        name: value
        for name, value in run.settings.items()
        if name not in _NOT_SETTINGS and value not in (None, [], {}, "")
    }
    rest = [name for name in run.settings if name not in told and name not in _NOT_SETTINGS]
    note = tag("p", f"Not set: {', '.join(rest)}.", class_="small soft") if rest else None
    return tag("section", tag("h2", "Settings"), _grid(told), note, id="settings")


def _environment(run: Run) -> Markup | None:
    if not run.environment:
        return None
    return tag("section", tag("h2", "Environment"), _grid(run.environment), id="environment")


def _grid(values: Mapping[str, object]) -> Markup:
    return tag("dl", [tag("div", tag("dt", name), _value(value)) for name, value in values.items()], class_="grid")


def _value(value: object) -> Markup:
    return tag(
        "dd", tag("code", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), class_="name")
    )


def _repeat(command: str | None) -> Markup:
    if command is None:
        text = (
            "This run was made by a program of its own through the library, so that there is no command to repeat it."
        )
        return tag("section", tag("h2", "Do it again"), tag("p", text), id="repeat")
    text = (
        "From the directory it was started in; the same command on the same files and the same kind of machine, by one "
        "process, ends with the same bits."
    )
    return tag(
        "section",
        tag("h2", "Do it again"),
        tag("p", text, class_="soft"),
        tag("pre", command, tabindex=0, role="region", aria_label="Command"),
        id="repeat",
    )
