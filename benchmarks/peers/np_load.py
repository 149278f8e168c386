"""The arrays of VGG16 into memory by NumPy alone: what no way of restoring can do without."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import work


def main() -> None:
    """Load, and report how long it took."""
    options, clock = work.options(), work.Clock()
    with clock.running():
        file = np.load(Path(options.folder, f"vgg16-{options.side}", "vgg16_weights.npz"))
        arrays = {key: file[key] for key in file.files if options.part == "all" or key.startswith("conv")}
    work.report(clock.seconds, {f"{n}/kernel": work.sample(arrays[f"{n}_W"]) for n in ("conv1_2", "conv5_3")})


if __name__ == "__main__":
    main()
