"""What is seen of a network in a file, on graphs that plain TensorFlow wrote."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.networks.made import FEEDS, write_trained
from tfxfer.errors import GraphError
from tfxfer.networks import candidates
from tfxfer.networks.files import open_graph


def conv(x: tf.Tensor, filters: int, name: str, size: int = 1, strides: int = 1) -> tf.Tensor:
    """Convolution, batch normalisation and ReLU, as Inception of 2015 has them."""
    with tf.variable_scope(name):
        x = tf.nn.conv2d(x, tf.get_variable("w", [size, size, x.shape[-1], filters]), strides, "SAME")
        beta, gamma, mean, variance = (
            tf.get_variable(part, [filters]) for part in ("beta", "gamma", "moving_mean", "moving_variance")
        )
        return tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3))


def write_inception(path: str) -> None:
    """Write a SavedModel like Inception: encoded pictures come in; blocks of towers are joined."""
    with tf.Graph().as_default():
        jpeg = tf.placeholder(tf.string, [], name="DecodeJpeg/contents")
        x = tf.cast(tf.image.decode_jpeg(jpeg, channels=3, name="DecodeJpeg"), tf.float32)
        x = tf.image.resize_bilinear(tf.expand_dims(x, 0), [32, 32])
        x = tf.multiply(x - 128.0, 1 / 128, name="Mul")
        x = tf.nn.max_pool2d(conv(x, 8, "conv", 3, 2), 3, 2, "SAME", name="pool")
        for block in ("mixed", "mixed_1"):
            with tf.variable_scope(block):
                deep = conv(conv(x, 4, "tower/conv"), 8, "tower/conv_1", 3)
                x = tf.concat([conv(x, 8, "conv"), deep], 3, name="join")
        x = tf.reduce_mean(x, [1, 2], name="pool_3")
        y = tf.nn.softmax(tf.matmul(x, tf.get_variable("softmax/weights", [16, 5])), name="softmax")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            tf.saved_model.simple_save(sess, path, {"jpeg": jpeg}, {"probabilities": y})


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("inception") / "saved")
    write_inception(path)
    return path


def cuts(inspection: candidates.Inspection) -> list[str]:
    return [each.name for each in inspection.candidates if each.cut]


def test_the_cuts_are_what_comes_out_of_each_block_with_what_it_takes_up_to_there(inception):
    seen = candidates.inspect(open_graph(inception), input="Mul")
    assert cuts(seen) == ["conv/Relu", "pool", "mixed/join", "mixed_1/join", "pool_3", "softmax"]
    by_name = {each.name: each for each in seen.candidates}
    first = 3 * 3 * 3 * 8 + 4 * 8
    block = lambda depth: depth * 8 + depth * 4 + 9 * 4 * 8 + 4 * (8 + 4 + 8)  # noqa: E731
    assert [by_name[name].parameters for name in ("conv/Relu", "mixed/join", "mixed_1/join", "softmax")] == [
        first,
        first + block(8),
        first + block(8) + block(16),
        first + block(8) + block(16) + 16 * 5,
    ]
    products = lambda depth: 8 * 8 * (depth * 8 + depth * 4 + 9 * 4 * 8)  # noqa: E731
    assert [by_name[name].multiply_adds for name in ("pool", "mixed/join", "softmax")] == [
        16 * 16 * 27 * 8,
        16 * 16 * 27 * 8 + products(8),
        16 * 16 * 27 * 8 + products(8) + products(16) + 16 * 5,
    ]
    assert by_name["mixed/join"].shape == (None, 8, 8, 16)
    assert by_name["mixed/tower/conv/Relu"].cut is False
    assert by_name["pool"].on_the_way == ("batch norm",)
    assert (seen.suggested, seen.signatures) == ("pool_3", ("serving_default",))


def test_an_input_of_strings_is_told_and_what_lies_behind_it(inception):
    seen = candidates.inspect(open_graph(inception))
    assert seen.inputs == (candidates.Port("DecodeJpeg/contents:0", "string", ()),)
    assert seen.candidates == ()
    assert "name the tensor behind their decoding" in seen.notes[0]
    assert "Mul (Mul)" in seen.notes[0]
    with pytest.raises(GraphError, match="no input 'Mull'"):
        candidates.inspect(open_graph(inception), input="Mull")


def test_of_a_metagraph_that_was_trained_the_network_is_seen_and_what_must_be_fed(tmp_path, control_flow):
    prefix = str(tmp_path / "model.ckpt")
    write_trained(prefix)
    seen = candidates.inspect(open_graph(f"{prefix}.meta"))
    assert (seen.input, seen.suggested) == ("IteratorGetNext:0", "pool")
    assert cuts(seen)[-3:] == ["relu2", "pool", "logits"]
    assert {port.name for port in seen.lacking} == {"is_training:0", "keep_prob:0"}
    assert {"batch norm", "dropout or noise"} <= set(seen.candidates[-1].on_the_way)
    fed = candidates.inspect(open_graph(f"{prefix}.meta"), endpoint="logits", feeds=FEEDS)
    assert (fed.lacking, fed.candidates[-1].on_the_way) == ((), ("batch norm",))
    sizes = {"conv1": 27 * 8, "norm": 4 * 8, "conv2": 72 * 8, "fc": 16}
    assert fed.candidates[-1].parameters == sum(sizes.values())
    assert fed.candidates[-1].multiply_adds == 256 * sizes["conv1"] + 64 * sizes["conv2"] + sizes["fc"]


def test_the_size_of_pictures_is_taken_where_the_file_has_none(tmp_path):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, None, None, 3], name="x")
        y = tf.nn.conv2d(x, tf.get_variable("kernel", [1, 1, 3, 2]), 1, "SAME", name="y")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            tf.saved_model.simple_save(sess, str(tmp_path / "saved"), {"x": x}, {"y": y})
    [plain] = candidates.inspect(open_graph(str(tmp_path / "saved"))).candidates
    assert (plain.shape, plain.multiply_adds) == ((None, None, None, 2), None)
    [sized] = candidates.inspect(open_graph(str(tmp_path / "saved")), image_size=10).candidates
    assert (sized.shape, sized.multiply_adds) == ((None, 10, 10, 2), 600)


def test_ops_that_tensorflow_does_not_know_are_named_and_what_comes_before_is_listed(inception, tmp_path):
    file = open_graph(inception)
    next(node for node in file.graph_def.node if node.name == "mixed_1/join").op = "MyConcat"
    seen = candidates.inspect(file, input="Mul")
    assert cuts(seen)[:3] == ["conv/Relu", "pool", "mixed/join"]
    assert "TensorFlow has no ops mixed_1/join (MyConcat)" in seen.notes[0]
    assert "softmax" not in {each.name for each in seen.candidates}


@pytest.mark.parametrize(("name", "giga"), [("vgg16", 15.47), ("squeezenet1_1", 0.388)])
def test_multiply_adds_of_known_networks_are_those_of_the_literature(name, giga):
    seen = candidates.inspect(candidates.of_model(name))
    assert round(seen.candidates[-1].multiply_adds / 1e9, 2 if giga > 1 else 3) == giga
    model_ends = {each.name for each in seen.candidates}
    assert model_ends <= set(candidates.of_model(name).endpoints)


def test_it_is_plain_data(inception):
    seen = candidates.inspect(open_graph(inception), input="Mul").to_json()
    assert seen["candidates"][0]["name"] == "conv/Conv2D"
    assert np.array(seen["outputs"][0]["shape"], object).tolist() == [None, 5]
