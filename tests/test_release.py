"""What a release states in several places, and what it tells contributors: the same, and there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import tfxfer as tx

ROOT = Path(__file__).resolve().parent.parent
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_the_citation_has_what_its_format_requires_and_names_the_licence_of_the_package():
    # https://github.com/citation-file-format/citation-file-format, schema-guide.md, version 1.2.0
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    assert CITATION["authors"] == [{"name": "The tfxfer authors"}]
    assert f'license="{CITATION["license"]}"' in (ROOT / "setup.py").read_text("utf-8")


def test_citation_and_changelog_state_the_version_and_its_date():
    [(version, date), *_] = re.findall(r"^## (\S+), (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert (version, date) == (tx.__version__, str(CITATION["date-released"]))
    assert str(CITATION["version"]) == tx.__version__


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:tools|tests|tfxfer)/[\w/.]*|[A-Z]+\.md", CONTRIBUTING))))
def test_what_contributors_are_pointed_to_is_there(path):
    assert (ROOT / path).exists()
