"""What a whole job begins with: a folder of JPEGs of five classes, VGG16's convolutions, and a run to predict with."""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.case import Sizes
from benchmarks.inputs import FIVE, FLOWERS, VGG16, networks, once, photographs

SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}
TINTS = {
    "blue": (-40, -20, 60),
    "green": (-40, 50, -30),
    "grey": (0, 0, 0),
    "red": (60, -30, -30),
    "yellow": (40, 30, -60),
}


def training(inputs: Path, sizes: Sizes) -> None:
    """Write pictures and VGG16's convolutions."""
    pictures(inputs, sizes["pictures"])
    with once(inputs / f"vgg16-{FIVE}") as folder:
        if folder and FIVE == "flowers":
            shutil.copy(VGG16, folder / "vgg16_weights.npz")
        elif folder:
            arrays = networks.random_vgg16(224)
            networks.write_npz(folder / "vgg16_weights.npz", {n: a for n, a in arrays.items() if n.startswith("conv")})


def predicting(inputs: Path, sizes: Sizes) -> None:
    """Write a run of SqueezeNet and a short training of its head."""
    from tfxfer.tools import train

    pictures(inputs, sizes["pictures"])
    networks.squeezenet(inputs, sizes)
    with once(inputs / f"run-{FIVE}-{sizes['pictures']}") as folder, contextlib.redirect_stdout(io.StringIO()):
        if folder:
            flags = {
                "model": "squeezenet1_0",
                "weights": inputs / "squeezenet" / "squeezenet.npz",
                "data_dir": inputs / f"{FIVE}-{sizes['pictures']}",
                "epochs": 1,
                "logdir": folder / "run",
            }
            train.main(["train", *(f"--{name}={value}" for name, value in flags.items())])
            shutil.copy(next(flags["data_dir"].rglob("test/*/*.jpg")), folder / "picture.jpg")


def pictures(inputs: Path, count: int) -> None:
    """Write so many pictures of five classes, divided into training, validation and test examples."""
    with once(inputs / f"{FIVE}-{count}") as folder:
        if folder:
            generator = np.random.default_rng(0)
            for name, files in (_of_flowers() if FIVE == "flowers" else _tinted(generator)).items():
                _divide(folder, name, files, count // len(TINTS), generator)


def _divide(folder: Path, name: str, files: Iterator[bytes], count: int, generator: np.random.Generator) -> None:
    ends = np.rint(np.cumsum(list(SPLITS.values())) * count)
    chosen = list(itertools.islice(files, count))
    if len(chosen) < count:
        raise ValueError(f"{FLOWERS} has {len(chosen)} pictures of {name}; take --size=pictures={5 * len(chosen)}")
    for number, place in enumerate(generator.permutation(count)):
        split = list(SPLITS)[int(np.searchsorted(ends, place, side="right"))]
        (folder / split / name).mkdir(parents=True, exist_ok=True)
        (folder / split / name / f"{number:04}.jpg").write_bytes(chosen[number])


def _of_flowers() -> dict[str, Iterator[bytes]]:
    return {each.name: (path.read_bytes() for path in sorted(each.glob("*.jpg"))) for each in sorted(FLOWERS.iterdir())}


def _tinted(generator: np.random.Generator) -> dict[str, Iterator[bytes]]:
    return {name: photographs.tinted(generator, tint) for name, tint in TINTS.items()}
