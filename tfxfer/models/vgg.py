"""The VGG networks (Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556), and the files of their weights.

Layers are named as in the authors' Caffe models: `conv1_1` to `conv5_4`, `pool1` to `pool5`, `fc6`, `fc7`, `fc8`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import tensorflow.compat.v1 as tf

from tfxfer.contract import Contract
from tfxfer.errors import DataError
from tfxfer.graph import layers
from tfxfer.graph.preprocessing import preprocess
from tfxfer.models.sources import Shape, Source, check_last, named, torch_contract
from tfxfer.names import Rules

# Table 1 of the paper: the sizes of the kernels in each block. A block has one width, and ends in 2x2 max pooling.
FAMILY: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # A
    "vgg13": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),  # B
    "vgg16c": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),  # C
    "vgg16": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),  # D
    "vgg19": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),  # E
}
WIDTHS = (64, 128, 256, 512, 512)
UNITS = 4096
SMALLEST = 2 ** len(WIDTHS)
TOP = ("flatten", "fc6", "fc7", "fc8", "prob")
# What the authors subtracted, R, G, B: https://gist.github.com/ksimonyan/211839e770f7b538e2d8
MEAN = (123.68, 116.779, 103.939)
# What `[0, 0, :, 0]` of conv1_1/kernel is in the authors' VGG16, R, G, B.
PROBE = ("conv1_1/kernel", (0.4800154, 0.5503795, 0.4294706))


def vgg11(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    contract: Contract | None = None,
) -> dict[str, tf.Tensor]:
    """Build configuration A: 8 convolutions. See `vgg16`."""
    return _build("vgg11", images, classes, top, last, dropout, contract)


def vgg13(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    contract: Contract | None = None,
) -> dict[str, tf.Tensor]:
    """Build configuration B: 10 convolutions. See `vgg16`."""
    return _build("vgg13", images, classes, top, last, dropout, contract)


def vgg16c(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    contract: Contract | None = None,
) -> dict[str, tf.Tensor]:
    """Build configuration C: 13 convolutions, of which conv3_3, conv4_3 and conv5_3 are 1x1. See `vgg16`."""
    return _build("vgg16c", images, classes, top, last, dropout, contract)


def vgg16(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    contract: Contract | None = None,
) -> dict[str, tf.Tensor]:
    """Build configuration D, the one that is called VGG16: 13 convolutions and 3 fully connected layers.

    Args:
      images: uint8 RGB [n, h, w, 3], h and w at least 32. Of what size they are decides the size of `fc6/kernel`: the
        weights that circulate have it for 224x224. Without `top` any size will do, also an unknown one.
      classes: how many outputs `fc8` has.
      top: whether to build the fully connected layers.
      last: the last endpoint to be built, if not all are wanted; what follows it has no variables either.
      dropout: the share of fc6 and of fc7 that training drops, in [0, 1); the paper's is 0.5.
      contract: what the weights expect of their input, as the `Source` has it that `sources.recognise` finds; unless
        given, RGB minus the mean of ImageNet.

    Returns:
      Endpoints: `input` float32 [n, h, w, 3], `conv1_1` ... `pool5` [n, h/32, w/32, 512] (rounded down) and, with
      `top`, `flatten`, `fc6`, `fc7`, `fc8` (logits) and `prob`. All but `fc8` are after the activation and before
      dropout.

    Raises:
      DataError: images are too small, not uint8, not RGB, or with `top` of unknown size.
      GraphError: there is no endpoint `last`.
    """
    return _build("vgg16", images, classes, top, last, dropout, contract)


def vgg19(
    images: tf.Tensor,
    *,
    classes: int = 1000,
    top: bool = True,
    last: str | None = None,
    dropout: float = 0.5,
    contract: Contract | None = None,
) -> dict[str, tf.Tensor]:
    """Build configuration E: 16 convolutions. See `vgg16`."""
    return _build("vgg19", images, classes, top, last, dropout, contract)


def variables(model: str) -> dict[str, Shape]:
    """Return the shape of every variable of `vgg11` ... `vgg19`, for pictures of 224x224 and any number of classes."""
    shapes: dict[str, Shape] = {}
    channels = 3
    for layer, size, width in _convolutions(model):
        if size:
            shapes |= {f"{layer}/kernel": (size, size, channels, width), f"{layer}/bias": (width,)}
            channels = width
    for layer, rows, units in (("fc6", 7 * 7 * channels, UNITS), ("fc7", UNITS, UNITS), ("fc8", UNITS, None)):
        shapes |= {f"{layer}/kernel": (rows, units), f"{layer}/bias": (units,)}
    return shapes


def _build(
    model: str, images: tf.Tensor, classes: int, top: bool, last: str | None, dropout: float, contract: Contract | None
) -> dict[str, tf.Tensor]:
    names_of_all = [*(layer for layer, _, _ in _convolutions(model)), *(TOP if top else ())]
    check_last(model, last, names_of_all)
    top = top and (last is None or last in TOP)
    _check_size(model, images, top)
    with tf.name_scope(model.upper()):
        x = preprocess(images, contract or _rgb(model, "the authors' weights, RGB"))
        ends = {"input": x}
        for layer, size, width in _convolutions(model):
            x = layers.conv2d(x, width, size, layer) if size else layers.max_pool2d(x, 2, layer)
            ends[layer] = x
            if layer == last:
                break
        if top:
            _classify(x, ends, classes, dropout, last)
    return ends


def _convolutions(model: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, kernel size and filters of each convolution; poolings between them have the kernel size 0."""
    for block, (sizes, width) in enumerate(zip(FAMILY[model], WIDTHS, strict=True), 1):
        for number, size in enumerate(sizes, 1):
            yield f"conv{block}_{number}", size, width
        yield f"pool{block}", 0, width


def _classify(x: tf.Tensor, ends: dict[str, tf.Tensor], classes: int, dropout: float, last: str | None) -> None:
    x = ends["flatten"] = layers.flatten(x)
    for number in (6, 7):
        if last in ends:
            return
        x = ends[f"fc{number}"] = layers.dense(x, UNITS, f"fc{number}")
        if dropout and last != f"fc{number}":
            x = layers.dropout(x, dropout, f"dropout{number}")
    if last not in ends:
        ends["fc8"] = layers.dense(x, classes, "fc8", activation=None)
        ends["prob"] = tf.nn.softmax(ends["fc8"], name="prob")


def _check_size(model: str, images: tf.Tensor, top: bool) -> None:
    sides = images.shape.as_list()[1:3] if images.shape.rank == 4 else []
    if any(side is not None and side < SMALLEST for side in sides):
        raise DataError(
            f"images are {'x'.join(map(str, sides))}; {model} halves them five times and needs {SMALLEST}x{SMALLEST}"
        )
    if top and None in sides:
        raise DataError(
            f"images have the shape {images.shape}; the fully connected layers of {model} are made for one height and "
            "width: give the placeholder its size, or leave these layers out with top=False"
        )


def _rgb(model: str, source: str) -> Contract:
    return Contract(model, source, (224, 224), "RGB", MEAN, (1, 1, 1))


def _bgr(model: str, source: str) -> Contract:
    return Contract(model, source, (224, 224), "BGR", MEAN[::-1], (1, 1, 1))


# How files call our layers and their variables.
_LAYER = r"(conv\d_\d|fc\d)"
_LETTERS: Rules = ((rf"{_LAYER}_W", r"\1/kernel"), (rf"{_LAYER}_b", r"\1/bias"))
_LISTS: Rules = ((rf"{_LAYER}/0", r"\1/kernel"), (rf"{_LAYER}/1", r"\1/bias"))
_CAFFE: Rules = ((rf"{_LAYER}/weights", r"\1/kernel"), (rf"{_LAYER}/biases", r"\1/bias"))
# Keras 1 wrote `block1_conv1_W_1`, Keras since then `block1_conv1/kernel`; the name of an outer model may stand before.
_KERAS: Rules = tuple(
    (rf"(?:.*/)?{theirs}{variable}", f"{ours}/{name}")
    for theirs, ours in ((r"block(\d)_conv(\d)", r"conv\1_\2"), ("fc1", "fc6"), ("fc2", "fc7"), ("predictions", "fc8"))
    for variable, name in (("(?:/kernel|_W|_W_1)", "kernel"), ("(?:/bias|_b|_b_1)", "bias"))
)

# How arrays lie in files.
_CHW = "chw_fc:7,7,512"
_AS_CONV = (("fc6/kernel", "conv_fc:7,7,512"), ("fc./kernel", "conv_fc:1,1,4096"))
_THEANO = (("conv.*/kernel", "theano_conv"), ("fc6/kernel", _CHW))
_TORCH = (("conv.*/kernel", "oihw_conv"), ("fc6/kernel", f"transpose+{_CHW}"), ("fc./kernel", "transpose"))
_TIMM = (
    ("conv.*/kernel", "oihw_conv"),
    ("fc6/kernel", "oihw_conv+conv_fc:7,7,512"),
    ("fc7/kernel", "oihw_conv+conv_fc:1,1,4096"),
    ("fc8/kernel", "transpose"),
)


def _numbered(model: str, conv: str, first: int, dense: Sequence[str], kernel: str, bias: str) -> Rules:
    """Make rules for files that number the layers of a sequence.

    In it a convolution takes two places, with its ReLU or with the padding before it, and a pooling one.

    Args:
      model: one of the family.
      conv: what stands before the number of a convolution.
      first: the number of conv1_1.
      dense: how the file calls fc6, fc7 and fc8.
      kernel, bias: what the file writes behind the layer.
    """
    theirs: dict[str, str] = {}
    place = first
    for layer, size, _ in _convolutions(model):
        theirs |= {layer: f"{conv}{place}"} if size else {}
        place += 2 if size else 1
    theirs |= zip(("fc6", "fc7", "fc8"), dense, strict=True)
    ends = ((kernel, "kernel"), (bias, "bias"))
    return tuple((re.escape(name + end), f"{layer}/{ours}") for layer, name in theirs.items() for end, ours in ends)


def _keras0(model: str) -> Rules:
    flatten = sum(2 if size else 1 for _, size, _ in _convolutions(model))
    dense = [f"layer_{flatten + place}" for place in (1, 3, 5)]  # with dropout between them
    return _numbered(model, "layer_", 1, dense, "/param_0", "/param_1")


def _in_torch(model: str, *dense: str) -> Rules:
    return _numbered(model, "features.", 0, dense, ".weight", ".bias")


def _source(
    model: str,
    form: str,
    words: str,
    contract: Callable[[str, str], Contract],
    renames: Rules,
    layout: Rules = (),
    ignored: Sequence[str] = (),
) -> Source:
    name = f"{model}_{form}"
    probe = PROBE if model == "vgg16" and contract is not torch_contract else None
    return Source(name, words, contract(model, name), variables(model), renames, layout, ignored, probe)


def _of_authors(model: str) -> Iterator[Source]:
    """Yield the forms in which the authors' own weights circulate, but for those of TF-slim."""
    if model == "vgg16":
        # https://www.cs.toronto.edu/~frossard/post/vgg16/ is for RGB. The same names stand over Keras's kernels too.
        words = "vgg16_weights.npz, conv1_1_W and conv1_1_b"
        yield _source(model, "npz", words, _rgb, _LETTERS)
        yield _source(model, "npz_bgr", f"names as in {words}, kernels for BGR", _bgr, _LETTERS)
    # https://github.com/machrisaa/tensorflow-vgg
    yield _source(model, "npy", f"{model}.npy, a dict of lists", _bgr, _LISTS)
    # https://github.com/ethereon/caffe-tensorflow brings the rows of fc6 into the order height, width, channel.
    yield _source(model, "caffe", "caffe-tensorflow's .npy, a dict of dicts", _bgr, _CAFFE)
    # https://github.com/keras-team/keras, applications/imagenet_utils.py, mode "caffe".
    yield _source(model, "keras", "Keras, TensorFlow's kernels", _bgr, _KERAS)
    yield _source(model, "keras_th", "Keras, Theano's kernels", _bgr, _KERAS, _THEANO)
    # https://gist.github.com/baraldilorenzo/07d7802847aaad0a35d3
    yield _source(model, "keras0", "Keras 0.x, layer_1/param_0, Theano's kernels", _bgr, _keras0(model), _THEANO)


def _of_slim(model: str, scope: str) -> Source:
    # https://github.com/tensorflow/models, research/slim: nets/vgg.py, preprocessing/vgg_preprocessing.py.
    renames = tuple((rf"{scope}/(?:conv\d/)?{theirs}", ours) for theirs, ours in _CAFFE)
    return _source(model, "slim", "TF-slim's checkpoint", _rgb, renames, _AS_CONV, (f"{scope}/mean_rgb",))


def _of_torch(model: str) -> Iterator[Source]:
    # https://github.com/pytorch/vision, torchvision/models/vgg.py
    dense = _in_torch(model, "classifier.0", "classifier.3", "classifier.6")
    yield _source(model, "torchvision", "torchvision", torch_contract, dense, _TORCH)
    # https://github.com/huggingface/pytorch-image-models, timm/models/vgg.py
    convolutional = _in_torch(model, "pre_logits.fc1", "pre_logits.fc2", "head.fc")
    yield _source(model, "timm", "timm", torch_contract, convolutional, _TIMM)


# Every form that is known, by model. `recognise(weights, SOURCES)` finds that of a file.
SOURCES: tuple[Source, ...] = (
    *(source for model in ("vgg16", "vgg19") for source in _of_authors(model)),
    *(_of_slim(f"vgg{end}", scope) for end, scope in (("11", "vgg_a"), ("16", "vgg_16"), ("19", "vgg_19"))),
    *(source for model in ("vgg11", "vgg13", "vgg16", "vgg19") for source in _of_torch(model)),
)
# For `open_weights("vgg16_weights.npz", rename=RENAMES)`.
RENAMES = named(SOURCES, "vgg16_npz").rename
