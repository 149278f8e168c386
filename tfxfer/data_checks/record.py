"""What was found, as a file for pages: JSON with small pictures of the first findings of each kind."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfxfer.data.splits import Images
from tfxfer.data_checks.findings import KINDS, DataCheck
from tfxfer.plots import tiles
from tfxfer.plots.png import png

FILE = "suspects.json"  # in a run directory
SHOWN = 24  # findings of a kind that have a picture
SIDE = 112
BLOCK = 64


def with_pictures(check: DataCheck, images: Images | None, *, most: int = SHOWN) -> dict[str, Any]:
    """Return what `DataCheck.to_json` does with the first findings of each kind alone, and pictures of these.

    Args:
      check: what `check_data` found.
      images: what it was given as images; without them, it has none.
      most: findings of a kind.

    Returns:
      The same keys, and `pictures`: PNG files in base64, by the row of the example, as text.
    """
    value = check.to_json()
    shown = [finding for kind in KINDS for finding in check.of_kind(kind)[:most]]
    value["findings"] = [row for row, finding in zip(value["findings"], check.findings, strict=True)
                         if finding in shown]  # fmt: skip
    rows = sorted({index for finding in shown for index in (finding.index, finding.other_index) if index >= 0})
    value["pictures"] = _pictures(images, rows) if images is not None and tiles.are_pictures(images) else {}
    return value


def _pictures(images: Images, rows: list[int]) -> Mapping[str, str]:
    texts: dict[str, str] = {}
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        small = tiles.thumbnails(images, np.array(part), SIDE)
        texts |= {str(row): base64.b64encode(png(pixels)).decode() for row, pixels in zip(part, small, strict=True)}
    return texts
