"""HTML and SVG from Python values: everything that is not `Markup` is escaped, so that no name can become markup."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable

# What HTML may not hold, also as a reference: controls, lone surrogates, non-characters.
_ILLEGAL = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_CONTENT = {"meta", "img", "circle", "rect", "path"}
Child = object  # Markup, text, a number, None, or an iterable of these


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Return a value as text in which nothing is markup; what HTML cannot hold becomes U+FFFD."""
    return Markup(html.escape(_ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", str(value))))


def join(*children: Child) -> Markup:
    """Put markup and text one after the other, each text escaped; None is nothing, iterables are opened."""
    return Markup("".join(_pieces(children)))


def _pieces(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, Iterable) and not isinstance(child, str):
            yield from _pieces(child)
        else:
            yield escape(child)


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """Return an element.

    Args:
      name: of the element.
      children: what is in it, as in `join`.
      attributes: `class_` is class, `aria_label` is aria-label; None and False are left out, True has no value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _NO_CONTENT:
        return Markup(f"<{name}{written}/>")  # with the slash, which shapes of SVG need
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def section(name: str, title: str, *children: Child) -> Markup:
    """Return a section of the page; its navigation leads to it by `name`."""
    return tag("section", tag("h2", title), *children, id=name)


def soft(text: Child) -> Markup:
    """Return a paragraph that explains what follows."""
    return tag("p", text, class_="soft")


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    written = key.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{escape(value)}"'


def data_uri(data: bytes) -> str:
    """Return the bytes of a PNG as an address that holds them itself."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
