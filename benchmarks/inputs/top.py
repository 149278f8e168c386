"""Pictures of two classes, VGG16, and an fc8 for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.case import Sizes
from benchmarks.inputs import networks, once, photographs


def prepare(inputs: Path, sizes: Sizes) -> None:
    """Make pictures, VGG16, and a new fc8."""
    photographs.photographs(inputs, sizes)
    networks.vgg16(inputs, sizes)
    with once(inputs / "vgg16-fc8") as folder:
        if folder:
            np.savez(folder / "fc8.npz", **networks.random({"fc8/kernel": (4096, 2), "fc8/bias": (2,)}, {}, seed=1))
