"""Under which names, in which layout and with which input spec the weights of the VGG networks circulate.

No TensorFlow is loaded: tools that only read files recognise them by this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from tfxfer.input_spec import InputSpec
from tfxfer.models.sources import Shape, Source, named, torch_input_spec
from tfxfer.names import Rules

# Table 1 of the paper: the sizes of the kernels in each block. A block has one width, and ends in 2x2 max pooling.
FAMILY: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((3,), (3,), (3, 3), (3, 3), (3, 3)),  # A
    "vgg13": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),  # B
    "vgg16c": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),  # C
    "vgg16": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),  # D
    "vgg19": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),  # E
}
# Torchvision's networks of this ending normalise each batch behind every convolution.
NORMALISED = "_bn"
MODELS = (*FAMILY, *(f"{model}{NORMALISED}" for model in FAMILY if model != "vgg16c"))
WIDTHS = (64, 128, 256, 512, 512)
DENSE = ("fc6", "fc7", "fc8")
TOP = ("flatten", *DENSE, "prob")  # the endpoints behind the convolutions
UNITS = 4096
AUTHORS = "the authors' weights, RGB"
# What the authors subtracted, R, G, B: https://gist.github.com/ksimonyan/211839e770f7b538e2d8
MEAN = (123.68, 116.779, 103.939)
# What `[0, 0, :, 0]` of conv1_1/kernel is in the authors' VGG16, R, G, B.
PROBE = ("conv1_1/kernel", (0.4800154, 0.5503795, 0.4294706))


def variables(model: str) -> dict[str, Shape]:
    """Return the shape of every variable of a model, for pictures of 224x224 and any number of classes."""
    shapes: dict[str, Shape] = {}
    channels = 3
    for layer, size, width in convolutions(model):
        if size:
            shapes |= {f"{layer}/kernel": (size, size, channels, width), f"{layer}/bias": (width,)}
            shapes |= {f"{layer}_bn/{name}": (width,) for name in _TORCH_NORM.values()} if is_normalised(model) else {}
            channels = width
    return shapes | dense_variables(7 * 7 * channels)


def dense_variables(rows: int) -> dict[str, Shape]:
    """Return the shapes of the fully connected layers behind so many values."""
    sizes = zip(DENSE, (rows, UNITS, UNITS), (UNITS, UNITS, None), strict=True)
    return {
        name: shape
        for layer, rows, units in sizes
        for name, shape in ((f"{layer}/kernel", (rows, units)), (f"{layer}/bias", (units,)))
    }


def is_normalised(model: str) -> bool:
    """Say whether batch normalisation follows every convolution of a model."""
    return model.endswith(NORMALISED)


def convolutions(model: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, kernel size and filters of each convolution; poolings between them have the kernel size 0."""
    for block, (sizes, width) in enumerate(zip(FAMILY[model.removesuffix(NORMALISED)], WIDTHS, strict=True), 1):
        for number, size in enumerate(sizes, 1):
            yield f"conv{block}_{number}", size, width
        yield f"pool{block}", 0, width


def rgb(model: str, source: str) -> InputSpec:
    """Return the input spec of weights for RGB pictures of 224x224."""
    return InputSpec(model, source, (224, 224), "RGB", MEAN, (1, 1, 1))


def bgr(model: str, source: str) -> InputSpec:
    """Return the same for BGR."""
    return InputSpec(model, source, (224, 224), "BGR", MEAN[::-1], (1, 1, 1))


def usual(model: str) -> InputSpec:
    """Return what the weights of a model usually expect: those with batch normalisation are torchvision's."""
    return torch_input_spec(model, f"{model}_torchvision") if is_normalised(model) else rgb(model, AUTHORS)


# How files call our layers and their variables.
_TORCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_LAYER = r"(conv\d(?:_\d)?|fc\d)"
_LETTERS: Rules = ((rf"{_LAYER}_W", r"\1/kernel"), (rf"{_LAYER}_b", r"\1/bias"))
# Of vgg16.npy, and of Caffe's own files, which number the blobs of a layer.
LISTS: Rules = ((rf"{_LAYER}/0", r"\1/kernel"), (rf"{_LAYER}/1", r"\1/bias"))
_CAFFE: Rules = ((rf"{_LAYER}/weights", r"\1/kernel"), (rf"{_LAYER}/biases", r"\1/bias"))
# MatConvNet's files have a cell `weights` of both, and old ones two fields.
MATCONVNET: Rules = (
    (rf"{_LAYER}/(?:weights/0|filters)", r"\1/kernel"),
    (rf"{_LAYER}/(?:weights/1|biases)", r"\1/bias"),
)
# Keras 1 wrote `block1_conv1_W_1`, Keras since then `block1_conv1/kernel`; the name of an outer model may stand before.
_KERAS: Rules = tuple(
    (rf"(?:.*/)?{theirs}{variable}", f"{ours}/{name}")
    for theirs, ours in ((r"block(\d)_conv(\d)", r"conv\1_\2"), ("fc1", "fc6"), ("fc2", "fc7"), ("predictions", "fc8"))
    for variable, name in (("(?:/kernel|_W|_W_1)", "kernel"), ("(?:/bias|_b|_b_1)", "bias"))
)

# How arrays lie in files.
_ROWS = "7,7,512"
_CHW = f"chw_fc:{_ROWS}"

_THEANO = (("conv.*/kernel", "theano_conv"), ("fc6/kernel", _CHW))
_TORCH = (("conv.*/kernel", "oihw_conv"), ("fc6/kernel", f"transpose+{_CHW}"), ("fc./kernel", "transpose"))
_TIMM = (
    ("conv.*/kernel", "oihw_conv"),
    ("fc6/kernel", f"oihw_conv+conv_fc:{_ROWS}"),
    ("fc7/kernel", "oihw_conv+conv_fc:1,1,4096"),
    ("fc8/kernel", "transpose"),
)


def as_convolutions(rows: str) -> Rules:
    """Return where the dense kernels of a file lie that has them as convolutions, fc6 over `height,width,channels`."""
    return (("fc6/kernel", f"conv_fc:{rows}"), ("fc./kernel", f"conv_fc:1,1,{UNITS}"))


def in_matconvnet(rows: str) -> Rules:
    """Return the layout of MatConvNet's files, whose biases are matrices as everything in MATLAB."""
    return (*as_convolutions(rows), (".*/bias", "vector"))


def in_caffe(rows: str) -> Rules:
    """Return the layout of Caffe's files, in the old form with four dimensions everywhere or in the new one."""
    return (
        ("conv.*/kernel", "oihw_conv"),
        ("fc6/kernel", f"matrix+transpose+chw_fc:{rows}"),
        ("fc./kernel", "matrix+transpose"),
        (".*/bias", "vector"),
    )


def _numbered(model: str, conv: str, first: int, dense: Sequence[str], kernel: str, bias: str) -> Rules:
    """Make rules for files that number the layers of a sequence.

    In it a convolution takes two places, with its ReLU or with the padding before it, or three with batch
    normalisation too, and a pooling one.

    Args:
      model: one of the family.
      conv: what stands before the number of a convolution.
      first: the number of conv1_1.
      dense: how the file calls fc6, fc7 and fc8.
      kernel, bias: what the file writes behind the layer.
    """
    theirs = {layer: f"{conv}{place}" for layer, place in _places(model, first).items()}
    theirs |= zip(DENSE, dense, strict=True)
    ends = ((kernel, "kernel"), (bias, "bias"))
    return tuple((re.escape(name + end), f"{layer}/{ours}") for layer, name in theirs.items() for end, ours in ends)


def _places(model: str, first: int) -> dict[str, int]:
    """Return the number of each convolution in such a sequence."""
    places: dict[str, int] = {}
    place = first
    for layer, size, _ in convolutions(model):
        places |= {layer: place} if size else {}
        place += (3 if is_normalised(model) else 2) if size else 1
    return places


def _keras0(model: str) -> Rules:
    flatten = sum(2 if size else 1 for _, size, _ in convolutions(model))
    dense = [f"layer_{flatten + place}" for place in (1, 3, 5)]  # with dropout between them
    return _numbered(model, "layer_", 1, dense, "/param_0", "/param_1")


def _in_torch(model: str, *dense: str) -> Rules:
    rules = _numbered(model, "features.", 0, dense, ".weight", ".bias")
    if not is_normalised(model):
        return rules
    normalised = (
        (rf"features\.{place + 1}\.{theirs}", f"{layer}_bn/{ours}")
        for layer, place in _places(model, 0).items()
        for theirs, ours in _TORCH_NORM.items()
    )
    return (*rules, *normalised)


def _source(
    model: str,
    form: str,
    words: str,
    input_spec: Callable[[str, str], InputSpec],
    renames: Rules,
    layout: Rules = (),
    ignored: Sequence[str] = (),
    whole: bool = False,
) -> Source:
    name = f"{model}_{form}"
    probe = PROBE if model == "vgg16" and input_spec is not torch_input_spec else None
    return Source(name, words, input_spec(model, name), variables(model), renames, layout, ignored, probe, whole)


def _of_authors(model: str) -> Iterator[Source]:
    """Yield the forms in which the authors' own weights circulate, but for those of TF-slim."""
    if model == "vgg16":
        # https://www.cs.toronto.edu/~frossard/post/vgg16/ is for RGB. The same names stand over Keras's kernels too.
        words = "vgg16_weights.npz, conv1_1_W and conv1_1_b"
        yield _source(model, "npz", words, rgb, _LETTERS)
        yield _source(model, "npz_bgr", f"names as in {words}, kernels for BGR", bgr, _LETTERS)
        # https://github.com/tensorlayer/TensorLayer, tensorlayer/models/vgg.py and files/utils.py, save_npz.
        numbered = tuple((f"params/{number}", name) for number, name in enumerate(variables(model)))
        yield _source(model, "tensorlayer", "TensorLayer's .npz, params/0", rgb, numbered, whole=True)
    # https://github.com/machrisaa/tensorflow-vgg
    yield _source(model, "npy", f"{model}.npy, a dict of lists", bgr, LISTS)
    # https://github.com/ethereon/caffe-tensorflow brings the rows of fc6 into the order height, width, channel.
    yield _source(model, "caffe", "caffe-tensorflow's .npy, a dict of dicts", bgr, _CAFFE)
    # https://gist.github.com/ksimonyan/211839e770f7b538e2d8
    words = "Caffe's own .caffemodel, conv1_1/0 and conv1_1/1"
    yield _source(model, "caffemodel", words, bgr, LISTS, in_caffe(_ROWS))
    # https://www.vlfeat.org/matconvnet/pretrained/; matconvnet/utils/import-caffe.py turned kernels to RGB.
    words = "MatConvNet's imagenet-vgg-verydeep, conv1_1/weights/0 or conv1_1/filters"
    yield _source(model, "matconvnet", words, rgb, MATCONVNET, in_matconvnet(_ROWS))
    # https://github.com/keras-team/keras, applications/imagenet_utils.py, mode "caffe".
    yield _source(model, "keras", "Keras, TensorFlow's kernels", bgr, _KERAS)
    yield _source(model, "keras_th", "Keras, Theano's kernels", bgr, _KERAS, _THEANO)
    # https://gist.github.com/baraldilorenzo/07d7802847aaad0a35d3
    yield _source(model, "keras0", "Keras 0.x, layer_1/param_0, Theano's kernels", bgr, _keras0(model), _THEANO)


def _of_slim(model: str, scope: str) -> Source:
    # https://github.com/tensorflow/models, research/slim: nets/vgg.py, preprocessing/vgg_preprocessing.py.
    renames = tuple((rf"{scope}/(?:conv\d/)?{theirs}", ours) for theirs, ours in _CAFFE)
    return _source(model, "slim", "TF-slim's checkpoint", rgb, renames, as_convolutions(_ROWS), (f"{scope}/mean_rgb",))


def _of_torch(model: str) -> Iterator[Source]:
    # https://github.com/pytorch/vision, torchvision/models/vgg.py
    dense = _in_torch(model, "classifier.0", "classifier.3", "classifier.6")
    yield _source(model, "torchvision", "torchvision", torch_input_spec, dense, _TORCH)
    # https://github.com/huggingface/pytorch-image-models, timm/models/vgg.py
    convolutional = _in_torch(model, "pre_logits.fc1", "pre_logits.fc2", "head.fc")
    yield _source(model, "timm", "timm", torch_input_spec, convolutional, _TIMM)


# Every form that is known, by model. `recognise(weights, SOURCES)` finds that of a file.
SOURCES: tuple[Source, ...] = (
    *(source for model in ("vgg16", "vgg19") for source in _of_authors(model)),
    *(_of_slim(f"vgg{end}", scope) for end, scope in (("11", "vgg_a"), ("16", "vgg_16"), ("19", "vgg_19"))),
    *(source for model in MODELS if model != "vgg16c" for source in _of_torch(model)),
)
# For `open_weights("vgg16_weights.npz", rename=RENAMES)`: names alone. Files for BGR have the same ones, which
# `recognise` tells from these.
RENAMES = named(SOURCES, "vgg16_npz").rename
