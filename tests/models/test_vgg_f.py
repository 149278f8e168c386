"""CNN-F: its names and shapes, and every endpoint against loops of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.models.test_vgg import assert_close, pictures, placeholder
from tfxfer.errors import DataError, GraphError
from tfxfer.models import vgg_f

ENDPOINTS = [
    *("input", "conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool5"),
    *("flatten", "fc6", "fc7", "fc8", "prob"),
]
# Table 1 of the paper, and what MatConvNet's import of the authors' weights has: name, stride, zeros around.
CONVOLUTIONS = {"conv1": (4, 0), "conv2": (1, 2), "conv3": (1, 1), "conv4": (1, 1), "conv5": (1, 1)}


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, zeros: int) -> np.ndarray:
    x = np.pad(x, ((zeros, zeros), (zeros, zeros), (0, 0)))
    size = len(kernel)
    sides = [(side - size) // stride + 1 for side in x.shape[:2]]
    result = np.empty((*sides, kernel.shape[3]))
    for row in range(sides[0]):
        for column in range(sides[1]):
            window = x[row * stride : row * stride + size, column * stride : column * stride + size]
            result[row, column] = np.tensordot(window, kernel, 3) + bias
    return np.maximum(result, 0)


def normalise(x: np.ndarray) -> np.ndarray:
    """MatConvNet's vl_nnnormalize with [N KAPPA ALPHA BETA] = [5 2 1e-4 0.75]."""
    result = np.empty_like(x)
    for channel in range(x.shape[2]):
        near = x[:, :, max(channel - 2, 0) : channel + 3]
        result[:, :, channel] = x[:, :, channel] / (2 + 1e-4 * (near**2).sum(2)) ** 0.75
    return result


def pool(x: np.ndarray) -> np.ndarray:
    """Windows of 3 by steps of 2; one more where a row or column is left over, as Caffe counts."""
    sides = [-((3 - side) // 2) + 1 for side in x.shape[:2]]
    result = np.empty((*sides, x.shape[2]))
    for row in range(sides[0]):
        for column in range(sides[1]):
            result[row, column] = x[2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max((0, 1))
    return result


def oracle(x: np.ndarray, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ends = {}
    for name in ENDPOINTS[1:-1]:
        if name.startswith("conv"):
            x = convolve(x, weights[f"{name}/kernel"], weights[f"{name}/bias"], *CONVOLUTIONS[name])
        elif name.startswith("fc"):
            x = x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
            x = x if name == "fc8" else np.maximum(x, 0)
        else:
            x = normalise(x) if name.startswith("norm") else pool(x) if name.startswith("pool") else x.ravel()
        ends[name] = x
    return ends | {"prob": np.exp(x - x.max()) / np.exp(x - x.max()).sum()}


def test_endpoints_and_variables_have_their_names_and_shapes():
    with tf.Graph().as_default():
        ends = vgg_f.vgg_f(placeholder())
        assert list(ends) == ENDPOINTS
        sides = {name: end.shape.as_list()[1:] for name, end in ends.items()}
        assert [sides[name] for name in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")] == [
            [54, 54, 64], [27, 27, 64], [27, 27, 256], [13, 13, 256], [13, 13, 256], [6, 6, 256],
        ]  # fmt: skip
        built = {variable.op.name: tuple(variable.shape) for variable in tx.select(".*")}
        assert built["conv1/kernel"] == (11, 11, 3, 64)
        assert built["fc6/kernel"] == (9216, 4096)
        stated = {name: tuple(side or 1000 for side in shape) for name, shape in vgg_f.variables().items()}
        assert built == stated


@pytest.mark.parametrize("side", [70, 91])
def test_every_endpoint_agrees_with_loops(side):
    images = pictures(side)
    with tf.Graph().as_default():
        tf.set_random_seed(3)
        ends = vgg_f.vgg_f(placeholder(side), classes=5)
        with tx.session() as sess:
            rng = np.random.default_rng(0)
            for variable in tx.select(".*/bias"):
                variable.load(rng.normal(0, 0.1, variable.shape), sess)
            weights = {variable.op.name: sess.run(variable).astype(np.float64) for variable in tx.select(".*")}
            got = sess.run(ends, {"images:0": images})
    # Normalisation acts on what is large: here the squares of some channels are of the size of 2 / 1e-4.
    assert got["conv1"].max() > 50
    for name, value in oracle(images[0] - np.array([123.68, 116.779, 103.939]), weights).items():
        assert_close(got[name][0], value, name)


def test_pictures_of_any_size_from_39_on_will_do_without_the_top():
    with tf.Graph().as_default():
        assert vgg_f.vgg_f(placeholder(39), top=False)["pool5"].shape.as_list() == [None, 1, 1, 256]
    with tf.Graph().as_default():
        assert list(vgg_f.vgg_f(placeholder(None), top=False))[-1] == "pool5"
    with tf.Graph().as_default(), pytest.raises(DataError, match="images are 38x38; vgg_f needs at least 39x39"):
        vgg_f.vgg_f(placeholder(38))
    with tf.Graph().as_default(), pytest.raises(GraphError, match=r"flatten 'flatten': all but the first dimension"):
        vgg_f.vgg_f(placeholder(None))


def test_it_ends_where_it_is_told():
    with tf.Graph().as_default():
        assert list(vgg_f.vgg_f(placeholder(64), last="norm2"))[-1] == "norm2"
        assert [variable.op.name for variable in tx.select(".*/bias")] == ["conv1/bias", "conv2/bias"]
    for last, top in (("pool3", True), ("fc6", False)):
        with tf.Graph().as_default(), pytest.raises(GraphError, match=f"vgg_f has no endpoint '{last}'"):
            vgg_f.vgg_f(placeholder(64), last=last, top=top)
