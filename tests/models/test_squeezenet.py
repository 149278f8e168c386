"""SqueezeNet: its names and shapes, plain loops as the oracle, and what it makes of real pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import DataError
from tfxfer.graph.preprocessing import input_specs
from tfxfer.models import squeezenet
from tfxfer.models.sources import named, recognise

BUILD = {"squeezenet1_0": squeezenet.squeezenet1_0, "squeezenet1_1": squeezenet.squeezenet1_1}
ENDS = {
    "squeezenet1_0": "input conv1 pool1 fire2 fire3 fire4 pool4 fire5 fire6 fire7 fire8 pool8 fire9 conv10 pool10 prob",
    "squeezenet1_1": "input conv1 pool1 fire2 fire3 pool3 fire4 fire5 pool5 fire6 fire7 fire8 fire9 conv10 pool10 prob",
}
FIRE = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}
LAYERS = [
    "conv1",
    *(f"{fire}/{layer}" for fire in FIRE for layer in ("squeeze1x1", "expand1x1", "expand3x3")),
    "conv10",
]
# torchvision's sequence `features`, by version.
TORCH = {
    "squeezenet1_0": dict(zip(FIRE, (3, 4, 5, 7, 8, 9, 10, 12), strict=True)),
    "squeezenet1_1": dict(zip(FIRE, (3, 4, 6, 7, 9, 10, 11, 12), strict=True)),
}
# The eight photographs beside the test data and what SqueezeNet 1.0 takes them for.
PICTURES = {
    "MMdnn_elephant.jpg": "tusker",
    "creative_commons_elephant.jpg": "African_elephant",
    "tensorflow-vgg_tiger.jpeg": "tiger",
    "tensorflow-vgg_puzzle.jpeg": "jigsaw_puzzle",
    "convnets-keras_dog.jpg": "Pembroke",
    "tfjs_dog.jpg": "Labrador_retriever",
    "keras-squeezenet_cat.jpeg": "tiger_cat",
    "tfjs-examples_cat.jpg": "Persian_cat",
}


def placeholder(side: int | None = 227) -> tf.Tensor:
    return tf.placeholder(tf.uint8, [None, side, side, 3], name="images")


@pytest.mark.parametrize("model", BUILD)
def test_endpoints_and_variables_have_their_names(model):
    with tf.Graph().as_default():
        ends = BUILD[model](placeholder())
        assert list(ends) == ENDS[model].split()
        variables = {variable.op.name: tuple(variable.shape) for variable in tx.select(".*")}
        assert list(variables) == [f"{layer}/{end}" for layer in LAYERS for end in ("kernel", "bias")]
        stated = squeezenet.variables(model)
        assert list(stated) == list(variables)
        assert {
            name: tuple(1000 if side is None else side for side in shape) for name, shape in stated.items()
        } == variables
        # https://pytorch.org/vision/stable/models.html counts the same.
        total = {"squeezenet1_0": 1_248_424, "squeezenet1_1": 1_235_496}[model]
        assert sum(int(np.prod(shape)) for shape in variables.values()) == total


def test_the_shapes_are_those_of_the_paper():
    with tf.Graph().as_default():
        ends = squeezenet.squeezenet1_0(placeholder())
        shapes = {name: end.shape.as_list()[1:] for name, end in ends.items()}
    assert shapes == {
        "input": [227, 227, 3],
        "conv1": [111, 111, 96],
        "pool1": [55, 55, 96],
        "fire2": [55, 55, 128],
        "fire3": [55, 55, 128],
        "fire4": [55, 55, 256],
        "pool4": [27, 27, 256],
        "fire5": [27, 27, 256],
        "fire6": [27, 27, 384],
        "fire7": [27, 27, 384],
        "fire8": [27, 27, 512],
        "pool8": [13, 13, 512],
        "fire9": [13, 13, 512],
        "conv10": [13, 13, 1000],
        "pool10": [1000],
        "prob": [1000],
    }


@pytest.mark.parametrize(
    ("model", "side", "last"),
    [("squeezenet1_0", 224, 13), ("squeezenet1_0", 21, 1), ("squeezenet1_1", 227, 14), ("squeezenet1_1", 17, 1)],
)
def test_poolings_round_up_as_caffe_and_torchvision_do(model, side, last):
    with tf.Graph().as_default():
        assert BUILD[model](placeholder(side))["fire9"].shape.as_list() == [None, last, last, 512]


def test_any_size_and_any_number_of_classes_will_do():
    with tf.Graph().as_default():
        ends = squeezenet.squeezenet1_1(
            placeholder(None), classes=4, input_spec=named(squeezenet.SOURCES, "squeezenet1_1_torchvision").input_spec
        )
        assert ends["prob"].shape.as_list() == [None, 4]
        assert [input_spec.source for input_spec in input_specs()] == ["squeezenet1_1_torchvision"]
    with tf.Graph().as_default():
        assert list(squeezenet.squeezenet1_1(placeholder(), top=False))[-1] == "fire9"
        (input_spec,) = input_specs()
        assert (input_spec.size, input_spec.channels, input_spec.mean) == ((227, 227), "BGR", (104, 117, 123))


@pytest.mark.parametrize(("model", "side"), [("squeezenet1_0", 20), ("squeezenet1_1", 16)])
def test_pictures_that_are_too_small_are_refused(model, side):
    with (
        tf.Graph().as_default(),
        pytest.raises(DataError, match=f"images are {side}x{side}; {model} needs at least {side + 1}x"),
    ):
        BUILD[model](placeholder(side))


def test_dropout_acts_only_when_switched_on():
    with tf.Graph().as_default():
        ends = squeezenet.squeezenet1_1(placeholder(33), classes=3)
        images = np.random.default_rng(0).integers(0, 256, (2, 33, 33, 3), np.uint8)
        with tx.session() as sess:
            off = sess.run([ends["fire9"], ends["conv10"]], {"images:0": images})
            on = sess.run(
                [ends["fire9"], ends["conv10"]], {"images:0": images, "SQUEEZENET1_1/dropout9/switch:0": True}
            )
    np.testing.assert_array_equal(off[0], on[0])
    assert np.abs(off[1] - on[1]).max() > 0


def oracle(model: str, x: np.ndarray, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute every endpoint from the names of the layers alone."""

    def convolve(x: np.ndarray, layer: str, stride: int = 1, padding: str = "SAME") -> np.ndarray:
        return np.maximum(
            tf.nn.conv2d(x, weights[f"{layer}/kernel"], stride, padding).numpy() + weights[f"{layer}/bias"], 0
        )

    def pool(x: np.ndarray) -> np.ndarray:
        sides = [-(-(side - 3) // 2) + 1 for side in x.shape[1:3]]
        result = np.empty((len(x), *sides, x.shape[3]), x.dtype)
        for row in range(sides[0]):
            for column in range(sides[1]):
                result[:, row, column] = x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max((1, 2))
        return result

    ends = {}
    for name in ENDS[model].split()[1:-1]:
        if name == "conv1":
            x = convolve(x, name, 2, "VALID")
        elif name == "pool10":
            x = x.mean((1, 2))
        elif name.startswith("pool"):
            x = pool(x)
        elif name.startswith("fire"):
            x = convolve(x, f"{name}/squeeze1x1")
            x = np.concatenate([convolve(x, f"{name}/expand1x1"), convolve(x, f"{name}/expand3x3")], -1)
        else:
            x = convolve(x, name)
        ends[name] = x
    return {**ends, "prob": np.exp(x) / np.exp(x).sum(1, keepdims=True)}


@pytest.mark.parametrize(("model", "side"), [("squeezenet1_0", 64), ("squeezenet1_1", 68)])
def test_every_endpoint_agrees_with_plain_loops(tmp_path, model, side):
    """And torchvision's names and layout are read: the weights come from such a file."""
    rng = np.random.default_rng(1)
    weights = {
        name: rng.normal(0, 0.1, [5 if size is None else size for size in shape]).astype(np.float32)
        for name, shape in squeezenet.variables(model).items()
    }
    tensors = {}
    for name, value in weights.items():
        layer, end = name.rsplit("/", 1)
        fire, _, kind = layer.partition("/")
        theirs = {"conv1": "features.0", "conv10": "classifier.1"}.get(layer)
        theirs = theirs or f"features.{TORCH[model][fire]}.{kind.replace('squeeze1x1', 'squeeze')}"
        value = np.ascontiguousarray(np.moveaxis(value, (3, 2), (0, 1))) if end == "kernel" else value
        tensors[f"{theirs}.{'weight' if end == 'kernel' else end}"] = value
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")

    file = tx.open_weights(tmp_path / "w.safetensors")
    source = recognise(file, squeezenet.SOURCES)
    assert source.name == f"{model}_torchvision"
    images = rng.integers(0, 256, (2, side, side, 3), np.uint8)
    with tf.Graph().as_default():
        ends = BUILD[model](placeholder(side), classes=5, input_spec=source.input_spec)
        with tx.session(tx.plan(tx.select(".*"), source.apply(file))) as sess:
            got = sess.run(ends, {"images:0": images})
    expected = oracle(model, np.float32((images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]), weights)
    for name, value in expected.items():
        assert got[name].shape == value.shape
        assert np.abs(got[name] - value).max() <= 1e-4 * np.abs(value).max(), name


@pytest.fixture(scope="module")
def classify(real_data):
    """Give a function from files of pictures to probabilities [n, 1000], by SqueezeNet 1.0 as it was trained."""
    file = tx.open_weights(real_data("weights/squeezenet1_0.npz"))
    source = recognise(file, squeezenet.SOURCES)
    assert source.name == "squeezenet1_0_npz"
    with tf.Graph().as_default():
        ends = squeezenet.squeezenet1_0(placeholder(), input_spec=source.input_spec)
        path = tf.placeholder(tf.string, [], "path")
        resized = {half: crop_and_resize(path, half) for half in (False, True)}
        plan = tx.plan(tx.select(".*"), source.apply(file))
        assert len(plan.variables) == 52
        with tx.session(plan) as sess:

            def run(paths: list, half_pixels: bool) -> np.ndarray:
                images = np.stack([sess.run(resized[half_pixels], {path: str(name)}) for name in paths])
                return sess.run(ends["prob"], {"images:0": images})

            yield run


def crop_and_resize(path: tf.Tensor, half_pixels: bool) -> tf.Tensor:
    """Decode a picture, crop the largest centred square and resize it bilinearly to 227x227 uint8."""
    picture = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    shape = tf.shape(picture)
    side = tf.minimum(shape[0], shape[1])
    square = tf.image.crop_to_bounding_box(picture, (shape[0] - side) // 2, (shape[1] - side) // 2, side, side)
    small = tf.compat.v1.image.resize_bilinear(square[None], [227, 227], half_pixel_centers=half_pixels)[0]
    return tf.cast(tf.round(small) if half_pixels else small, tf.uint8)


@pytest.fixture(scope="module")
def classes(real_data) -> list[list[str]]:
    table = json.loads(real_data("imagenet/imagenet_class_index.json").read_text())
    return [table[str(number)] for number in range(1000)]


def test_real_photographs_get_their_classes(real_data, classify, classes):
    folder = real_data("imagenet/pictures")
    prob = classify([folder / name for name in PICTURES], half_pixels=True)
    assert [classes[number][1] for number in prob.argmax(1)] == list(PICTURES.values())


@pytest.mark.parametrize(("half_pixels", "top1", "top5"), [(False, 0.62, 0.86), (True, 0.64, 0.86)])
def test_top1_and_top5_on_the_samples_of_imagenet(real_data, classify, classes, half_pixels, top1, top5):
    """The resizing of TensorFlow 1, whose pixels have their centres at whole numbers, and that of TensorFlow 2."""
    paths = sorted(real_data("imagenet/samples").iterdir())
    best = np.argsort(-classify(paths, half_pixels), axis=1)[:, :5]
    hits = np.array(
        [
            [classes[number][0] == path.name.split("_")[0] for number in row]
            for path, row in zip(paths, best, strict=True)
        ]
    )
    assert len(hits) == 50
    assert (hits[:, 0].mean(), hits.any(1).mean()) == (pytest.approx(top1), pytest.approx(top5))
