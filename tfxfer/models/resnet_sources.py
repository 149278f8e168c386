"""Under which names, in which layout and with which input spec the weights of ResNet circulate.

No TensorFlow is loaded: tools that only read files recognise them by this.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from tfxfer.models import normalised_sources
from tfxfer.models.normalised_sources import TORCH_LAYOUT, Convolution
from tfxfer.models.sources import Shape, Source, torch_input_spec

# Table 1 of the paper: the sides of the kernels in a block, and how many blocks each stage has.
BASIC, BOTTLENECK = (3, 3), (1, 3, 1)
VERSIONS = {
    "resnet18": (BASIC, (2, 2, 2, 2)),
    "resnet34": (BASIC, (3, 4, 6, 3)),
    "resnet50": (BOTTLENECK, (3, 4, 6, 3)),
    "resnet101": (BOTTLENECK, (3, 4, 23, 3)),
    "resnet152": (BOTTLENECK, (3, 8, 36, 3)),
}
STEM, WIDTHS = 64, (64, 128, 256, 512)
EXPANSION = {BASIC: 1, BOTTLENECK: 4}  # of the last convolution in a block


class Block(NamedTuple):
    """A residual block: name, sides of its kernels, stride, and channels that come, are worked on and go."""

    name: str
    sizes: tuple[int, ...]
    strides: int
    incoming: int
    width: int
    outgoing: int

    @property
    def shortens(self) -> bool:
        """Whether a convolution `shortcut` brings the input to the shape of the output."""
        return self.strides > 1 or self.incoming != self.outgoing

    def convolutions(self) -> Iterator[Convolution]:
        """Yield its convolutions, in order."""
        if self.shortens:
            yield Convolution(f"{self.name}/shortcut", 1, self.incoming, self.outgoing)
        channels = [self.incoming, *[self.width] * (len(self.sizes) - 1), self.outgoing]
        for number, size in enumerate(self.sizes, 1):
            yield Convolution(f"{self.name}/conv{number}", size, channels[number - 1], channels[number])


@functools.cache
def blocks(model: str) -> tuple[Block, ...]:
    """Return the blocks of a version: `block1_1`, `block1_2`, ..."""
    sizes, counts = VERSIONS[model]
    made, incoming = [], STEM
    for stage, (width, count) in enumerate(zip(WIDTHS, counts, strict=True), 1):
        for number in range(1, count + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            outgoing = width * EXPANSION[sizes]
            made.append(Block(f"block{stage}_{number}", sizes, strides, incoming, width, outgoing))
            incoming = outgoing
    return tuple(made)


def convolutions(model: str) -> Iterator[Convolution]:
    """Yield every convolution of a version, in order."""
    yield Convolution("stem", 7, 3, STEM)
    for block in blocks(model):
        yield from block.convolutions()


def variables(model: str) -> dict[str, Shape]:
    """Return the shape of every variable of `resnet18` ... `resnet152`, for any number of classes."""
    return normalised_sources.variables(convolutions(model))


def endpoints(model: str) -> tuple[str, ...]:
    """Return the names of all endpoints, in order."""
    return ("input", "stem", "stem_pool", *(block.name for block in blocks(model)), "pool", "fc", "prob")


def _in_torch(name: str) -> tuple[str, str]:
    """Return how torchvision and timm call a convolution and its batch normalisation."""
    if name == "stem":
        return "conv1", "bn1"
    stage, number, kind, place = re.fullmatch(r"block(\d)_(\d+)/(shortcut|conv)(\d?)", name).groups()  # type: ignore[union-attr]
    scope = f"layer{stage}.{int(number) - 1}"
    if kind == "shortcut":
        return f"{scope}.downsample.0", f"{scope}.downsample.1"
    return f"{scope}.conv{place}", f"{scope}.bn{place}"


def _source(model: str) -> Source:
    # https://github.com/pytorch/vision, torchvision/models/resnet.py, and
    # https://github.com/huggingface/pytorch-image-models, timm/models/resnet.py, have one set of names.
    name, layers = f"{model}_torchvision", tuple(convolutions(model))
    theirs = {layer.name: _in_torch(layer.name) for layer in layers}
    renames = normalised_sources.in_torch(layers, theirs, "fc")
    words = "torchvision, timm"
    # timm's resnet26 is a resnet50 with fewer blocks in every stage.
    return Source(name, words, torch_input_spec(model, name), variables(model), renames, TORCH_LAYOUT, unbroken=True)


# Every form that is known, by version. `recognise(weights, SOURCES)` finds that of a file.
SOURCES: tuple[Source, ...] = tuple(map(_source, VERSIONS))
