"""MobileNetV2: its names and shapes, and every endpoint against plain ops by the names of torchvision's files."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.models import torch_networks
from tests.models.torch_networks import Arrays, classify, convolve, normalise, relu6
from tfxfer.errors import GraphError
from tfxfer.models import mobilenet_v2
from tfxfer.models.sources import named

# The channels that a block gives, and its stride: table 2 of the paper.
BLOCKS = {
    "block1_1": (16, 1),
    "block2_1": (24, 2), "block2_2": (24, 1),
    "block3_1": (32, 2), "block3_2": (32, 1), "block3_3": (32, 1),
    "block4_1": (64, 2), "block4_2": (64, 1), "block4_3": (64, 1), "block4_4": (64, 1),
    "block5_1": (96, 1), "block5_2": (96, 1), "block5_3": (96, 1),
    "block6_1": (160, 2), "block6_2": (160, 1), "block6_3": (160, 1),
    "block7_1": (320, 1),
}  # fmt: skip
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def layer_names(blocks) -> list[str]:
    """Return the names of the variables of a network of inverted residual blocks."""
    names = []
    for block in ("stem", *blocks, "head"):
        kinds = ("expand", "depthwise", "project")[block == "block1_1" :] if block in blocks else ("",)
        for kind in kinds:
            layer = f"{block}/{kind}".rstrip("/")
            names.append(f"{layer}/depthwise_kernel" if kind == "depthwise" else f"{layer}/kernel")
            names += [f"{layer}_bn/{name}" for name in NORM]
    return [*names, "fc/kernel", "fc/bias"]


def test_endpoints_and_variables_have_their_names_and_shapes():
    with tf.Graph().as_default():
        ends = mobilenet_v2.mobilenet_v2(tf.placeholder(tf.uint8, [None, 224, 224, 3]))
        assert list(ends) == ["input", "stem", *BLOCKS, "head", "pool", "fc", "prob"]
        side, shapes = 112, {"stem": [112, 112, 32]}
        for block, (channels, stride) in BLOCKS.items():
            side //= stride
            shapes[block] = [side, side, channels]
        shapes |= {"head": [7, 7, 1280], "pool": [1280], "fc": [1000], "prob": [1000]}
        assert {name: end.shape.as_list()[1:] for name, end in ends.items() if name != "input"} == shapes
        variables = {variable.op.name: tuple(variable.shape.as_list()) for variable in tx.select(".*")}
        assert list(variables) == layer_names(BLOCKS)
        assert variables["block2_1/expand/kernel"] == (1, 1, 16, 96)
        assert variables["block2_1/depthwise/depthwise_kernel"] == (3, 3, 96, 1)
        # https://pytorch.org/vision/stable/models.html
        assert sum(int(np.prod(s)) for name, s in variables.items() if "moving" not in name) == 3_504_872
        assert [variable.op.name for variable in tx.select(".*") if variable not in tf.trainable_variables()] == [
            name for name in variables if "/moving_" in name
        ]


def forward(w: Arrays, x: np.ndarray) -> dict[str, np.ndarray]:
    """Compute every endpoint by torchvision's names."""

    def layer(x: np.ndarray, conv: str, norm: str, stride: int = 1) -> np.ndarray:
        return normalise(w, norm, convolve(w, conv, x, stride), 1e-5)

    x = relu6(layer(x, "features.0.0", "features.0.1", 2))
    ends = {"stem": x}
    for place, (block, (_, stride)) in enumerate(BLOCKS.items(), 1):
        scope = f"features.{place}.conv"
        y, last = x, 1
        if f"{scope}.1.0.weight" in w:
            y, last = relu6(layer(y, f"{scope}.0.0", f"{scope}.0.1")), 2
        y = relu6(layer(y, f"{scope}.{last - 1}.0", f"{scope}.{last - 1}.1", stride))
        y = layer(y, f"{scope}.{last}", f"{scope}.{last + 1}")
        x = ends[block] = x + y if x.shape == y.shape else y
    x = ends["head"] = relu6(layer(x, "features.18.0", "features.18.1"))
    return ends | classify(w, "classifier.1", x)


@pytest.mark.slow
def test_every_endpoint_agrees_with_plain_ops_through_the_names_of_torchvision(tmp_path):
    source = named(mobilenet_v2.SOURCES, "mobilenet_v2_torchvision")
    torch_networks.compare_with(forward, source, tmp_path, 64)


def test_endpoints_agree_with_torchvision_itself(tmp_path):
    modules = {block: f"features.{place}" for place, block in enumerate(("stem", *BLOCKS, "head"))}
    source = named(mobilenet_v2.SOURCES, "mobilenet_v2_torchvision")
    torch_networks.compare_with_torch(source, "torchvision", "mobilenet_v2", modules, tmp_path)


def test_endpoints_agree_with_timm_itself(tmp_path):
    modules = {block: f"blocks.{int(block[5]) - 1}.{int(block[7]) - 1}" for block in BLOCKS}
    source = named(mobilenet_v2.SOURCES, "mobilenet_v2_timm")
    torch_networks.compare_with_torch(source, "timm", "mobilenetv2_100", modules | {"head": "bn2"}, tmp_path)


def test_it_ends_where_it_is_told_and_its_classifier_is_made_for_the_classes():
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, None, None, 3])
        assert list(mobilenet_v2.mobilenet_v2(images, last="block1_1")) == ["input", "stem", "block1_1"]
        assert len(tx.select(".*")) == 15
        with pytest.raises(GraphError, match="mobilenet_v2 has no endpoint 'block1_2'"):
            mobilenet_v2.mobilenet_v2(images, last="block1_2")
