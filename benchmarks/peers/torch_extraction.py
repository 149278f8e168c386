"""From a folder of JPEGs to the features of a network, by PyTorch on the processor, channels last in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import work
from benchmarks.peers import torch_networks


class Pictures(torch.utils.data.Dataset):
    """Pictures, the largest centred square of each resized bilinearly."""

    def __init__(self, paths: list[Path], side: int) -> None:
        self.paths, self.side = paths, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(self.paths[index]).convert("RGB")
        short = min(image.size)
        left, top = ((side - short) // 2 for side in image.size)
        image = image.resize((self.side, self.side), Image.BILINEAR, box=(left, top, left + short, top + short))
        return torch.from_numpy(np.array(image))


def codes(model: torch.nn.Module, paths: list[Path], options: Any) -> np.ndarray:
    """Return what a network makes of pictures, channels last."""
    dataset = Pictures(paths, options.side)
    loader = torch.utils.data.DataLoader(dataset, options.batch, num_workers=1, prefetch_factor=2)
    rows = torch.cat([model(batch).float() for batch in loader])
    return (rows.permute(0, 2, 3, 1) if rows.ndim == 4 else rows).numpy()


def main() -> None:
    """Extract, and report how long it took."""
    options, whole, computing = work.options(), work.Clock(), work.Clock()
    network = {"vgg16": torch_networks.vgg16, "squeezenet": torch_networks.squeezenet}[options.network]
    model = network(work.arrays(options), getattr(torch, options.precision))
    with whole.running(), torch.inference_mode():
        paths = sorted(work.pictures(options).rglob("*.jpg"))
        with computing.running():
            rows = codes(model, paths, options)
    work.report(whole.seconds, {"codes": work.sample(rows)}, computing=computing.seconds)


if __name__ == "__main__":
    main()
