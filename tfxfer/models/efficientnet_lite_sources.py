"""Under which names, in which layout and with which input spec the weights of EfficientNet-Lite circulate.

No TensorFlow is loaded: tools that only read files recognise them by this.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

from tfxfer.input_spec import InputSpec
from tfxfer.models import normalised_sources
from tfxfer.models.mobilenet_v2_sources import Block, convolutions, in_timm, make_blocks
from tfxfer.models.normalised_sources import TORCH_LAYOUT
from tfxfer.models.sources import Shape, Source

# https://github.com/tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py: by how much a
# version is wider and deeper than Lite0, and the side of its pictures.
VERSIONS = {
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
    "efficientnet_lite3": (1.2, 1.4, 280),
    "efficientnet_lite4": (1.4, 1.8, 300),
}
# There too, as `mobilenet_v2_sources.STAGES`, of Lite0.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
MEAN, SCALE = 127.0, 1 / 128  # MEAN_RGB and STDDEV_RGB there


@functools.cache
def blocks(model: str) -> tuple[Block, ...]:
    """Return the blocks of a version. Neither stem nor head is scaled, nor the depth of the first and last stage."""
    width, depth, _ = VERSIONS[model]
    scaled = []
    for number, (size, strides, expansion, channels, count) in enumerate(STAGES, 1):
        deeper = count if number in (1, len(STAGES)) else math.ceil(depth * count)
        scaled.append((size, strides, expansion, _round_channels(width * channels), deeper))
    return tuple(make_blocks(scaled))


def _round_channels(channels: float) -> int:
    """Round to a multiple of 8, by at most a tenth down."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def variables(model: str) -> dict[str, Shape]:
    """Return the shape of every variable of `efficientnet_lite0` to `efficientnet_lite4`, for any number of classes."""
    return normalised_sources.variables(convolutions(blocks(model)))


def endpoints(model: str) -> tuple[str, ...]:
    """Return the names of all endpoints, in order."""
    return ("input", "stem", *(block.name for block in blocks(model)), "head", "pool", "fc", "prob")


def authors(model: str, source: str) -> InputSpec:
    """Return the input spec of the authors' weights."""
    return _input_spec(model, source, MEAN, SCALE)


def _halves(model: str, source: str) -> InputSpec:
    # timm/models/efficientnet.py, tf_efficientnet_lite0: IMAGENET_INCEPTION_MEAN and _STD of pixels in 0..1.
    return _input_spec(model, source, 127.5, 1 / 127.5)


def _input_spec(model: str, source: str, mean: float, scale: float) -> InputSpec:
    side = VERSIONS[model][2]
    return InputSpec(model, source, (side, side), "RGB", (mean,) * 3, (scale,) * 3)


def _in_pytorch(model: str) -> dict[str, tuple[str, str]]:
    theirs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for place, block in enumerate(blocks(model)):
        for convolution in block.convolutions():
            kind = convolution.name.rpartition("/")[2]
            norm = ("expand", "depthwise", "project").index(kind)
            theirs[convolution.name] = (f"_blocks.{place}._{kind}_conv", f"_blocks.{place}._bn{norm}")
    return theirs


def _in_tensorflow(model: str, scope: str) -> dict[str, tuple[str, str]]:
    theirs = {part: (f"{scope}/{part}/conv2d", f"{scope}/{part}/tpu_batch_normalization") for part in ("stem", "head")}
    for place, block in enumerate(blocks(model)):
        # TensorFlow numbers the layers of a kind within each block.
        kernels = ("conv2d", "depthwise_conv2d", "conv2d_1") if block.expands else ("depthwise_conv2d", "conv2d")
        for number, (convolution, kernel) in enumerate(zip(block.convolutions(), kernels, strict=True)):
            norm = f"tpu_batch_normalization_{number}" if number else "tpu_batch_normalization"
            theirs[convolution.name] = (f"{scope}/blocks_{place}/{kernel}", f"{scope}/blocks_{place}/{norm}")
    return theirs


def _sources(model: str) -> Iterator[Source]:
    shapes, layers = variables(model), tuple(convolutions(blocks(model)))
    # PyPI: efficientnet-lite-pytorch
    name = f"{model}_pytorch"
    renames = normalised_sources.in_torch(layers, _in_pytorch(model), "_fc")
    yield Source(name, "efficientnet-lite-pytorch", authors(model, name), shapes, renames, TORCH_LAYOUT)
    # https://github.com/huggingface/pytorch-image-models, timm/models/efficientnet.py
    name = f"{model}_timm"
    renames = normalised_sources.in_torch(layers, in_timm(blocks(model)), "classifier")
    yield Source(name, f"timm's tf_{model}", _halves(model, name), shapes, renames, TORCH_LAYOUT)
    # https://github.com/tensorflow/tpu, models/official/efficientnet: efficientnet_model.py. The averages are what the
    # authors evaluate.
    scope = model.replace("_", "-")
    theirs = _in_tensorflow(model, scope)
    for form, words, end in (("tf", "as trained", ""), ("tf_ema", "averages", "/ExponentialMovingAverage")):
        name, renames = f"{model}_{form}", normalised_sources.in_tensorflow(layers, theirs, f"{scope}/head/dense", end)
        ignored = (f"{scope}/.*",) if end else ()
        words = f"TensorFlow's checkpoint, {words}"
        yield Source(name, words, authors(model, name), shapes, renames, ignored=ignored)


# Every form that is known, by version. `recognise(weights, SOURCES)` finds that of a file.
SOURCES: tuple[Source, ...] = tuple(source for model in VERSIONS for source in _sources(model))
