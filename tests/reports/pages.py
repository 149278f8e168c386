"""Pages of made runs, taken apart for the tests."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

from tests import made_runs
from tests.made_runs import make
from tfxfer import reports


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its tags with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == name]

    def values(self, attribute: str) -> list[str | None]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def shown(run: Path, command: str | None = None) -> Parsed:
    return Parsed(reports.report(run, command=command).html)


def pictures(parsed: Parsed) -> list[bytes]:
    cards = [one for one in parsed.all("img") if str(one["alt"]).startswith("Picture of")]
    return [base64.b64decode(str(one["src"]).partition(",")[2]) for one in cards]


def own(folder: Path, **settings) -> Path:
    """Make a run as a program of somebody's own makes it: its settings are those that `fit` stores by itself."""
    run = make(folder)
    kept = {name: made_runs.SETTINGS[name] for name in ("stages", "epochs", "batch_size", "seed", "training_examples")}
    made_runs.write(run, "settings.json", {**kept, **settings})
    return run
