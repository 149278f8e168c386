"""Words that a reader stumbles over, in code, messages and documents: each has a plain way to say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tfxfer", "tools", "examples", "docs", "benchmarks")
TEXTS = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".sh")
) + sorted(ROOT.glob("*.md"))
# Each with what says the same plainly. "is no longer" is fine.
AVOIDED = {
    r"unless\s+(?:told|given)\b": "default: ...",
    r"\s(?:is|are)\s+no\s+(?!longer\b)": "is not a ..., has no ...",
}


def occurrences(path: Path) -> Iterator[str]:
    text = path.read_text("utf-8")
    for words, plain in AVOIDED.items():
        for match in re.finditer(words, text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path.relative_to(ROOT)}:{line}: {' '.join(match[0].split())!r}; say {plain!r}"


@pytest.mark.parametrize("words", ["32 unless told", "all\nunless given", "it is no file", "they are no\nfiles"])
def test_what_is_to_be_avoided_is_found(words, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_words.ROOT", tmp_path)
    path = tmp_path / "text.md"
    path.write_text(f"{words}. It is no longer there, and has no end.")
    assert len(list(occurrences(path))) == 1


def test_no_text_has_words_to_be_avoided():
    places = [place for path in TEXTS for place in occurrences(path)]
    assert not places, "\n".join(places)
