"""The tools and all their flags, as pages of the reference, from the flags themselves."""

from __future__ import annotations

import html
import importlib
import re
from collections.abc import Iterator

from absl import flags

from tfxfer.tools import _flags, _main

TOOLS = tuple(_main.tools())


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path of each page, and its Markdown."""
    tools = {tool: importlib.import_module(f"tfxfer.tools.{tool}") for tool in TOOLS}
    rows = "\n".join(f"| [`{tool}`]({tool}.md) | {_first_line(module.__doc__)} |" for tool, module in tools.items())
    yield (
        "reference/tools/index.md",
        "# Tools\n\n`tfxfer TOOL --help` shows the same in a terminal. From a checkout, `python tools/train.py` is the "
        f"same as `tfxfer train`.\n\n| tool | what it does |\n|---|---|\n{rows}\n",
    )
    for tool, module in tools.items():
        yield f"reference/tools/{tool}.md", _page(tool, module.__doc__, module.define_flags())


def anchor(tool: str) -> str:
    """Return the id of the heading of a tool's page, which no other page has."""
    return f"tool-{tool}"


def _first_line(doc: str | None) -> str:
    return (doc or "").partition("\n")[0]


def _page(tool: str, doc: str | None, values: flags.FlagValues) -> str:
    sections = "\n\n".join(
        f'## {title[:1].upper()}{title[1:] or "Flags"}\n\n<dl class="flags">\n{"".join(map(_entry, entries))}</dl>'
        for title, entries in _flags.by_title(values).items()
    )
    return f"# tfxfer {tool} {{ #{anchor(tool)} }}\n\n{_described(doc or '', values)}\n\n{sections}\n"


def _described(doc: str, values: flags.FlagValues) -> str:
    """Make links of the flags and pages that a text names; commands, which are indented, stay as they are."""

    def linked(match: re.Match[str]) -> str:
        _, flag, page = match.groups()
        if page:
            return f"[{match[0]}](../../{page})"
        return f"[`{match[0]}`](#{match[0]})" if flag and flag in values else match[0]

    named = re.compile(r"(`[^`]*`)|--(\w+)|\bdocs/(\w+\.md)")
    return "\n".join(line if line.startswith(" ") else named.sub(linked, line) for line in doc.split("\n"))


def _entry(flag: flags.Flag) -> str:
    """Show a flag; its id is what links to it end in, as `train.md#--weights`."""
    usage, default = html.escape(_flags.usage(flag)), html.escape(_flags.shown(flag.default))
    return (
        f'<dt id="--{flag.name}"><code>{usage}</code></dt>\n'
        f"<dd>{_marked(_flags.purpose(flag))} <span>Default: <code>{default}</code></span></dd>\n"
    )


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`|(--\w+)", r"<code>\1\2</code>", html.escape(text, quote=False))
