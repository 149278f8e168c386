"""The colours of all pictures: the page, light and dark, what matplotlib draws, and tiles.

They come from Okabe and Ito's palette (Color Universal Design, 2008), whose pairs stay apart in the common kinds of
colour blindness; those of the page are darker or lighter, so that text in them is readable. No meaning hangs on colour
alone.
"""

from __future__ import annotations

import numpy as np

LIGHT = {
    "page": "#f6f7f9", "card": "#ffffff", "ink": "#171a1f", "soft": "#59616d", "line": "#dfe3e8", "grid": "#e9ecf0",
    "wash": "#f0f2f5", "blue": "#0072b2", "orange": "#b84a00", "green": "#007a5c", "violet": "#9a4f80", "on": "#ffffff",
    "shade": "rgba(213,94,0,.09)",
}  # fmt: skip
DARK = {
    "page": "#101317", "card": "#181c22", "ink": "#e9ecf0", "soft": "#a0a9b6", "line": "#2b313a", "grid": "#252b33",
    "wash": "#20252c", "blue": "#56b4e9", "orange": "#f0932e", "green": "#2fc498", "violet": "#dd95bf", "on": "#0b0e12",
    "shade": "rgba(240,147,46,.1)",
}  # fmt: skip
# The colour of each line of a chart, and its dashes: lengths of strokes and gaps by turns.
LINES: dict[str, tuple[str, tuple[int, ...]]] = {
    "train": ("blue", ()),
    "validation": ("orange", (6, 3)),
    "third": ("green", (2, 4)),
    "fourth": ("violet", (9, 3, 2, 3)),
}
# Okabe and Ito's own, for points on white that have a dark edge.
CLASSES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#444444")
# Anchors of viridis (van der Walt and Smith, 2015), by which any colour vision tells more from less.
VIRIDIS = np.array(
    [(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
     (170, 220, 50), (253, 231, 37)], np.float64
)  # fmt: skip


def rgb(colour: str) -> np.ndarray:
    """Return red, green and blue of `#rrggbb`, float64 [3], from 0 to 255."""
    return np.array(list(bytes.fromhex(colour.lstrip("#"))), np.float64)
