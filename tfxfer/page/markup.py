"""HTML and SVG from Python values: everything that is not `Markup` is escaped, so that no name can become markup."""

from __future__ import annotations

import base64
import html
import re
import struct
import zlib
from collections.abc import Iterable

import numpy as np

PNG = b"\x89PNG\r\n\x1a\n"
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


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    written = key.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{escape(value)}"'


def png(pixels: np.ndarray) -> bytes:
    """Return a PNG file, the same bytes for the same pixels.

    Args:
      pixels: uint8 [height, width, channels], of 1 (grey), 3 (RGB) or 4 (RGBA) channels.
    """
    height, width, channels = pixels.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    # A zero before each row: the row is not filtered.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def data_uri(data: bytes) -> str:
    """Return the bytes of a PNG as an address that holds them itself."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
