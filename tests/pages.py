"""The code blocks of a page of Markdown, and whether an output is what a page shows."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

FENCE = re.compile(r" *(`{3,}) *(\S*)\s*$")
REASON = re.compile(r"\s*<!-- fragment: (\S.*) -->\s*$")
INCLUDED = re.compile(r'--8<-- "([^"]+)"')
# What may have indented lines below it that are not code: items of lists, admonitions, tabs.
HOLDER = re.compile(r"([-*+]|\d+\.|!!!|\?\?\?\+?|===) ")


class Block(NamedTuple):
    """A fenced or an indented block: the line that it begins in, its language, its text, and why it is not run."""

    line: int
    language: str
    text: str
    fragment: str

    @property
    def included(self) -> list[str]:
        """The files whose text is the block's."""
        return INCLUDED.findall(self.text)


def blocks(page: str) -> Iterator[Block]:
    """Yield the code blocks of a page in their order."""
    lines = page.splitlines()
    number, held = 0, False
    while number < len(lines):
        line = lines[number]
        fence = FENCE.match(line)
        if fence:
            end = next(at for at in range(number + 1, len(lines)) if lines[at].strip() == fence[1])
            yield Block(number + 2, fence[2], _dedented(lines[number + 1 : end]), _reason(lines[:number]))
            number = end + 1
        elif line.startswith("    ") and not held and not lines[number - 1].strip():
            end = _end_of_indented(lines, number)
            yield Block(number + 1, "", _dedented(lines[number:end]), _reason(lines[:number]))
            number = end
        else:
            held = bool(HOLDER.match(line)) if line.strip() and line[0] != " " else held
            number += 1


def _end_of_indented(lines: Sequence[str], start: int) -> int:
    end = start
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
        end += 1
    return end


def _dedented(lines: Sequence[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n") + "\n"


def _reason(above: Sequence[str]) -> str:
    """Return the reason in the last line above a block that is not empty; the empty string where it has none."""
    last = next((line for line in reversed(above) if line.strip()), "")
    match = REASON.match(last)
    return match[1] if match else ""


def shows(text: str, output: str) -> bool:
    """Say whether an output ends as a page shows it; `...` stands for anything, and blanks count as one."""
    words = [re.escape(word).replace(r"\.\.\.", ".*") for word in text.split()]
    return re.search(r"(^|\s)" + r"\s+".join(words) + r"\s*$", output, re.DOTALL) is not None
