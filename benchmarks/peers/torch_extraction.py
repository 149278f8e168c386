"""From a folder of JPEGs to the features of a network, by PyTorch on the processor, channels last in memory."""

from __future__ import annotations

from pathlib import Path

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


def well_known(path: Path) -> dict[str, np.ndarray]:
    """Return the convolutions in `vgg16_weights.npz`: conv1_1_W is conv1_1/kernel."""
    with np.load(path) as file:
        names = [name for name in file.files if name.startswith("conv")]
        return {name.replace("_W", "/kernel").replace("_b", "/bias"): file[name] for name in names}


def main() -> None:
    """Extract, and report how long it took."""
    options, whole, computing = work.options(), work.Clock(), work.Clock()
    folder, dtype = Path(options.folder), getattr(torch, options.precision)
    if options.network == "vgg16":
        model = torch_networks.vgg16(well_known(folder / f"vgg16-{options.side}" / "vgg16_weights.npz"), dtype)
    else:
        model = torch_networks.squeezenet(dict(np.load(folder / "squeezenet" / "squeezenet.npz")), dtype)
    with whole.running(), torch.inference_mode():
        paths = sorted((folder / f"photographs-{options.pictures}").rglob("*.jpg"))
        with computing.running():
            dataset = Pictures(paths, options.side)
            loader = torch.utils.data.DataLoader(dataset, options.batch, num_workers=1, prefetch_factor=2)
            codes = torch.cat([model(batch).float() for batch in loader])
            rows = (codes.permute(0, 2, 3, 1) if codes.ndim == 4 else codes).numpy()
    work.report(whole.seconds, {"codes": work.sample(rows)}, computing=computing.seconds)


if __name__ == "__main__":
    main()
