"""Under which names, in which layout and with which input spec the weights of MobileNetV2 circulate.

No TensorFlow is loaded: tools that only read files recognise them by this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tfxfer.models import normalised_sources
from tfxfer.models.normalised_sources import TORCH_LAYOUT, Convolution
from tfxfer.models.sources import Shape, Source, torch_input_spec

STEM, HEAD = 32, 1280  # filters of the first and of the last convolution
# Table 2 of the paper: the side of the depthwise kernels in each stage, the stride of its first block, by how much a
# block expands its channels, the channels that it gives, and how many blocks there are.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (3, 2, 6, 32, 3),
    (3, 2, 6, 64, 4),
    (3, 1, 6, 96, 3),
    (3, 2, 6, 160, 3),
    (3, 1, 6, 320, 1),
)
NAME = "mobilenet_v2"


class Block(NamedTuple):
    """An inverted residual block: name, side of the depthwise kernel, stride, and channels on the way through."""

    name: str
    size: int
    strides: int
    incoming: int
    expanded: int
    outgoing: int

    @property
    def expands(self) -> bool:
        """Whether there is a convolution `expand`."""
        return self.expanded != self.incoming

    def convolutions(self) -> Iterator[Convolution]:
        """Yield its convolutions, in order."""
        if self.expands:
            yield Convolution(f"{self.name}/expand", 1, self.incoming, self.expanded)
        yield Convolution(f"{self.name}/depthwise", self.size, self.expanded, self.expanded, depthwise=True)
        yield Convolution(f"{self.name}/project", 1, self.expanded, self.outgoing)


def make_blocks(stages: Sequence[tuple[int, int, int, int, int]]) -> Iterator[Block]:
    """Yield the blocks of a table such as `STAGES`: `block1_1`, `block2_1`, `block2_2`, ..."""
    incoming = STEM
    for stage, (size, strides, expansion, outgoing, count) in enumerate(stages, 1):
        for number in range(1, count + 1):
            name = f"block{stage}_{number}"
            yield Block(name, size, strides if number == 1 else 1, incoming, expansion * incoming, outgoing)
            incoming = outgoing


def convolutions(blocks: Sequence[Block]) -> Iterator[Convolution]:
    """Yield every convolution of a network of these blocks, in order."""
    yield Convolution("stem", 3, 3, STEM)
    for block in blocks:
        yield from block.convolutions()
    yield Convolution("head", 1, blocks[-1].outgoing, HEAD)


def in_timm(blocks: Sequence[Block]) -> dict[str, tuple[str, str]]:
    """Return how timm calls each convolution and its batch normalisation, by our name."""
    theirs = {"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2")}
    for block in blocks:
        stage, number = map(int, block.name.removeprefix("block").split("_"))
        kinds = ("conv_pw", "conv_dw", "conv_pwl") if block.expands else ("conv_dw", "conv_pw")
        for place, (convolution, kind) in enumerate(zip(block.convolutions(), kinds, strict=True), 1):
            scope = f"blocks.{stage - 1}.{number - 1}"
            theirs[convolution.name] = (f"{scope}.{kind}", f"{scope}.bn{place}")
    return theirs


BLOCKS = tuple(make_blocks(STAGES))


def variables() -> dict[str, Shape]:
    """Return the shape of every variable, for any number of classes."""
    return normalised_sources.variables(convolutions(BLOCKS))


def endpoints() -> tuple[str, ...]:
    """Return the names of all endpoints, in order."""
    return ("input", "stem", *(block.name for block in BLOCKS), "head", "pool", "fc", "prob")


def _in_torchvision() -> dict[str, tuple[str, str]]:
    theirs = {"stem": ("features.0.0", "features.0.1"), "head": ("features.18.0", "features.18.1")}
    for place, block in enumerate(BLOCKS, 1):
        *activated, project = block.convolutions()
        scope = f"features.{place}.conv"
        for number, convolution in enumerate(activated):
            theirs[convolution.name] = (f"{scope}.{number}.0", f"{scope}.{number}.1")
        theirs[project.name] = (f"{scope}.{len(activated)}", f"{scope}.{len(activated) + 1}")
    return theirs


def _sources() -> Iterator[Source]:
    for form, words, theirs, fc in (
        # https://github.com/pytorch/vision, torchvision/models/mobilenetv2.py
        ("torchvision", "torchvision", _in_torchvision(), "classifier.1"),
        # https://github.com/huggingface/pytorch-image-models, timm/models/efficientnet.py
        ("timm", "timm's mobilenetv2_100", in_timm(BLOCKS), "classifier"),
    ):
        name = f"{NAME}_{form}"
        renames = normalised_sources.in_torch(convolutions(BLOCKS), theirs, fc)
        yield Source(name, words, torch_input_spec(NAME, name), variables(), renames, TORCH_LAYOUT)


# Every form that is known. `recognise(weights, SOURCES)` finds that of a file.
SOURCES: tuple[Source, ...] = tuple(_sources())
