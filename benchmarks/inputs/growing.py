"""More and more of the same."""

from __future__ import annotations

from pathlib import Path

from benchmarks.case import Sizes
from benchmarks.inputs import many, photographs

STEPS = (100, 10, 1)


def pictures(inputs: Path, sizes: Sizes) -> None:
    """Write a hundredth, a tenth and all of so many small pictures."""
    for part in STEPS:
        photographs.small(inputs, sizes["pictures"] // part, sizes["side"])


def rows(inputs: Path, sizes: Sizes) -> None:
    """Write a hundredth, a tenth and all of so many tiny images."""
    for part in STEPS:
        many.pixels(inputs, {"rows": sizes["rows"] // part})
