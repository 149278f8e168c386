"""Inputs of the cases: made once from seeds, in folders that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REAL_DATA = Path(os.environ.get("TFXFER_TEST_DATA") or ROOT.parent / "shared" / "data")
FLOWERS, VGG16 = REAL_DATA / "flowers", REAL_DATA / "weights" / "vgg16_convolutions.npz"
# The pictures of whole jobs: of flowers where they and a network for them are, or else random ones, each with a tint.
FIVE = "flowers" if FLOWERS.exists() and VGG16.exists() else "tints"


@contextlib.contextmanager
def once(folder: Path) -> Iterator[Path | None]:
    """Yield a folder to fill that becomes this one when all is written; None if this one is there."""
    if folder.exists():
        yield None
        return
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    yield beside
    beside.rename(folder)
