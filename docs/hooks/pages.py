"""What MkDocs calls while it builds the site: it makes pages, and mends links.

The pages of the reference are made anew in each build. A name such as `tx.fit` in any text leads to the reference. A
page that includes a document of the checkout, such as CHANGELOG.md, has the links of that document, which are turned
into links between pages.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import reference
import tool_pages
from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import tfxfer

# Its warnings fail a strict build.
log = logging.getLogger("mkdocs.plugins.tfxfer")
ROOT = Path(__file__).resolve().parent.parent.parent
# The documents that a page includes, and the page.
INCLUDED = {"benchmarks/README.md": "benchmarks.md", "CHANGELOG.md": "changelog.md"}
# A name, an error or a command in a piece of code. Headings, links and blocks of code stay as they are.
NAMED = re.compile(
    r"<(?P<kept>h\d|a|pre|autoref)\b.*?</(?P=kept)>"
    r"|<code>(?:(?:tx|tfxfer)\.(?P<name>[\w.]+)(?:\([^<]*\))?|(?P<error>\w+Error)|tfxfer (?P<tool>\w+)[^<]*)</code>",
    re.DOTALL,
)
FLAG = re.compile(r"<code>(--[^\s<]{1,30})</code>")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


# --- events of MkDocs, in their order ---


def on_config(config: MkDocsConfig) -> None:
    """Complete the navigation, and look for public names that have no page."""
    for name in reference.missing(tfxfer._HOMES):
        log.warning("tx.%s is not in the reference; add it to docs/hooks/reference.py", name)
    config.markdown_extensions.append(_LinksExtension())  # type: ignore[arg-type]
    [section] = [entry for entry in config.nav or () if "Reference" in entry]
    tools: list[Any] = [
        "reference/tools/index.md",
        *({tool: f"reference/tools/{tool}.md"} for tool in tool_pages.TOOLS),
    ]
    section["Reference"] += [f"reference/{group.page}.md" for group in reference.GROUPS] + [{"Tools": tools}]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are made."""
    for path, text in (*reference.pages(), *tool_pages.pages()):
        files.append(File.generated(config, path, content=text))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> None:
    """Note which page the links belong to that are read next."""
    _Links.page = page.file.src_uri


def on_page_content(html: str, **_: Any) -> str:
    """Let names of tfxfer lead to the reference, and no line break within a flag."""
    return FLAG.sub(r'<code class="flag">\1</code>', NAMED.sub(_to_reference, html))


# --- links ---


def _to_reference(match: re.Match[str]) -> str:
    identifier = _identifier(match["name"] or f"errors.{match['error']}")
    if match["tool"] in tool_pages.TOOLS:
        identifier = tool_pages.anchor(match["tool"])
    return f'<autoref identifier="{identifier}">{match[0]}</autoref>' if identifier else match[0]


def _identifier(name: str) -> str:
    """Return the place of a name in the reference; of `Plan.report` that of `Plan`, of a module its first."""
    parts = name.split(".")
    prefixes = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    inside = [known for known in reference.NAMES if known.startswith(f"{name}.")]
    places = [prefix for prefix in prefixes if prefix in reference.NAMES] + inside
    return f"tfxfer.{places[0]}" if places else ""


class _Links(Preprocessor):
    """Turns links that lead out of docs/ into links between pages, once snippets are included."""

    page = ""

    def run(self, lines: list[str]) -> list[str]:
        return LINK.sub(_mended, "\n".join(lines)).split("\n")


class _LinksExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        # Snippets, 32, are included and fenced blocks, 25, set aside before.
        md.preprocessors.register(_Links(), "tfxfer_links", 24)


def _mended(match: re.Match[str]) -> str:
    image, text, target, anchor = match.groups(default="")
    source = next((source for source, page in INCLUDED.items() if page == _Links.page), f"docs/{_Links.page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path.startswith("docs/") and source.startswith("docs/"):
        return match[0]
    if page := INCLUDED.get(path, path.removeprefix("docs/") if path.startswith("docs/") else ""):
        return f"{image}[{text}]({posixpath.relpath(page, posixpath.dirname(_Links.page) or '.')}{anchor})"
    # The text of a file of the checkout that is not on the site; MkDocs finds what is not there at all.
    return text if (ROOT / path).exists() and not image else match[0]
