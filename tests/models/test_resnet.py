"""ResNet: its names and shapes, and every endpoint against plain ops by the names of torchvision's files."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.models import torch_networks
from tests.models.torch_networks import Arrays, classify, convolve, normalise
from tfxfer.errors import DataError, GraphError
from tfxfer.graph.preprocessing import input_specs
from tfxfer.models import resnet
from tfxfer.models.sources import named

# Blocks of each stage, and millions of parameters: https://pytorch.org/vision/stable/models.html
VERSIONS = {
    "resnet18": ((2, 2, 2, 2), 11_689_512),
    "resnet34": ((3, 4, 6, 3), 21_797_672),
    "resnet50": ((3, 4, 6, 3), 25_557_032),
    "resnet101": ((3, 4, 23, 3), 44_549_160),
    "resnet152": ((3, 8, 36, 3), 60_192_808),
}
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
BLOCKS18 = ("block1_1", "block1_2", "block2_1", "block2_2", "block3_1", "block3_2", "block4_1", "block4_2")
LAYERS18 = (
    "stem",
    "block1_1/conv1", "block1_1/conv2", "block1_2/conv1", "block1_2/conv2",
    "block2_1/shortcut", "block2_1/conv1", "block2_1/conv2", "block2_2/conv1", "block2_2/conv2",
    "block3_1/shortcut", "block3_1/conv1", "block3_1/conv2", "block3_2/conv1", "block3_2/conv2",
    "block4_1/shortcut", "block4_1/conv1", "block4_1/conv2", "block4_2/conv1", "block4_2/conv2",
)  # fmt: skip


def test_endpoints_and_variables_have_their_names_and_shapes():
    with tf.Graph().as_default():
        ends = resnet.resnet18(tf.placeholder(tf.uint8, [None, 224, 224, 3]))
        assert list(ends) == ["input", "stem", "stem_pool", *BLOCKS18, "pool", "fc", "prob"]
        assert {name: end.shape.as_list()[1:] for name, end in ends.items() if not name.endswith("_2")} == {
            "input": [224, 224, 3],
            "stem": [112, 112, 64],
            "stem_pool": [56, 56, 64],
            "block1_1": [56, 56, 64],
            "block2_1": [28, 28, 128],
            "block3_1": [14, 14, 256],
            "block4_1": [7, 7, 512],
            "pool": [512],
            "fc": [1000],
            "prob": [1000],
        }
        variables = [variable.op.name for variable in tx.select(".*")]
        ends_of_names = ("/kernel", *(f"_bn/{name}" for name in NORM))
        assert variables == [*(f"{layer}{end}" for layer in LAYERS18 for end in ends_of_names), "fc/kernel", "fc/bias"]
        assert [spec.source for spec in input_specs()] == ["torchvision's weights"]


@pytest.mark.parametrize("model", VERSIONS)
def test_every_version_has_its_blocks_and_parameters(model):
    counts, parameters = VERSIONS[model]
    blocks = [name for name in tx.models.resnet_sources.endpoints(model) if name.startswith("block")]
    assert blocks == [
        f"block{stage}_{number}" for stage, count in enumerate(counts, 1) for number in range(1, count + 1)
    ]
    shapes = {name: [side or 1000 for side in shape] for name, shape in resnet.variables(model).items()}
    assert sum(int(np.prod(shape)) for name, shape in shapes.items() if "moving" not in name) == parameters


def test_a_block_of_three_convolutions_has_its_stride_in_the_middle():
    with tf.Graph().as_default():
        resnet.resnet50(tf.placeholder(tf.uint8, [None, 64, 64, 3]), last="block2_1")
        convolutions = [op for op in tf.get_default_graph().get_operations() if op.type == "Conv2D"]
        strided = [op.name for op in convolutions if op.get_attr("strides")[1] == 2]
        assert strided == [f"RESNET50/{name}/Conv2D" for name in ("stem", "block2_1/shortcut", "block2_1/conv2")]
        assert dict(resnet.variables("resnet50"))["block2_1/conv3/kernel"] == (1, 1, 128, 512)


def forward(w: Arrays, x: np.ndarray) -> dict[str, np.ndarray]:
    """Compute every endpoint of any version."""

    def layer(x: np.ndarray, conv: str, norm: str, stride: int = 1) -> np.ndarray:
        return normalise(w, norm, convolve(w, conv, x, stride), 1e-5)

    ends = {"stem": np.maximum(layer(x, "conv1", "bn1", 2), 0)}
    padded = np.pad(ends["stem"], [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    x = ends["stem_pool"] = tf.nn.max_pool2d(padded, 3, 2, "VALID").numpy()
    for stage in range(1, 5):
        number = 0
        while (scope := f"layer{stage}.{number}") and f"{scope}.conv1.weight" in w:
            stride = 2 if stage > 1 and number == 0 else 1
            three = f"{scope}.conv3.weight" in w
            y = np.maximum(layer(x, f"{scope}.conv1", f"{scope}.bn1", 1 if three else stride), 0)
            y = layer(y, f"{scope}.conv2", f"{scope}.bn2", stride if three else 1)
            if three:
                y = layer(np.maximum(y, 0), f"{scope}.conv3", f"{scope}.bn3")
            if f"{scope}.downsample.0.weight" in w:
                x = layer(x, f"{scope}.downsample.0", f"{scope}.downsample.1", stride)
            number += 1
            x = ends[f"block{stage}_{number}"] = np.maximum(x + y, 0)
    return ends | classify(w, "fc", x)


@pytest.mark.parametrize("model", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_every_endpoint_agrees_with_plain_ops_through_the_names_of_torchvision(model, tmp_path):
    torch_networks.compare_with(forward, named(resnet.SOURCES, f"{model}_torchvision"), tmp_path, 71)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("model", ["resnet18", "resnet50", *(
    pytest.param(model, marks=pytest.mark.slow) for model in ("resnet34", "resnet101", "resnet152")
)])  # fmt: skip
def test_endpoints_agree_with_pytorch_itself(model, library, tmp_path):
    modules = {"stem_pool": "maxpool"} | {
        f"block{stage}_{number}": f"layer{stage}.{number - 1}"
        for stage, count in enumerate(VERSIONS[model][0], 1)
        for number in range(1, count + 1)
    }
    source = named(resnet.SOURCES, f"{model}_torchvision")
    torch_networks.compare_with_torch(source, library, model, modules, tmp_path)


def test_it_takes_any_size_and_ends_where_it_is_told():
    with tf.Graph().as_default():
        ends = resnet.resnet34(tf.placeholder(tf.uint8, [None, None, None, 3]), last="stem")
        assert list(ends) == ["input", "stem"]
        assert len(tx.select(".*")) == 5
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 64, 64, 3])
        assert list(resnet.resnet18(images, last="block1_2"))[-1] == "block1_2"
        with pytest.raises(GraphError, match=r"resnet18 has no endpoint 'block1_3' \(did you mean block1_\d\?\)"):
            resnet.resnet18(images, last="block1_3")
        with pytest.raises(DataError, match="images are float32; pass uint8"):
            resnet.resnet18(tf.cast(images, tf.float32))
