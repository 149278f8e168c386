"""What the README and the pages name is there; tests/test_code_blocks.py runs their code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_readme_is_short_and_its_script_too():
    [script] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert script.count("\n") <= 20
    assert len(README.splitlines()) <= 130


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("*.md")))
def test_every_file_that_a_page_links_to_is_there(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text("utf-8"))
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


# CHANGELOG.md may name files of earlier versions, and pages for those who come from other tools name theirs.
@pytest.mark.parametrize(
    "page", ["README.md", "BUILD.md", "docs/design.md", "docs/recipes.md", "docs/scale.md", "docs/weight_tools.md"]
)
def test_every_python_file_that_a_page_names_exists(page):
    paths = re.findall(r"`(?:[^`\n]* )?([^`\s]+\.py)`", (ROOT / page).read_text("utf-8"))
    folders = [ROOT, ROOT / "tfxfer", ROOT / "tests", ROOT / "tools"]
    assert not [path for path in paths if not any((folder / path).is_file() for folder in folders)]


def test_every_test_that_a_promise_names_exists():
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs/design.md").read_text("utf-8"))
    assert len(named) >= 30
    assert [name for path, name in named if f"\ndef {name}(" not in (ROOT / path).read_text("utf-8")] == []


def test_every_tool_is_in_the_readmes_table():
    tools = {path.stem for path in (ROOT / "tools").glob("*.py") if not path.stem.startswith("_")}
    assert {name for name in tools if f"`tfxfer {name}" not in README} == set()
