"""The way to an endpoint through a graph in a file, and what is refused on it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.networks.made import FEEDS, write_frozen
from tfxfer.errors import GraphError


def write(make):
    """Write `plain.meta`, the MetaGraph of what a function builds."""
    with tf.Graph().as_default():
        make()
        tf.train.export_meta_graph("plain.meta")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"may be the endpoint; name it \(`endpoint`\): .*Mean:0|also needs IteratorGetNext:1"),
        ({"endpoint": "pool"}, r"pool:0 also needs .*is_training:0 \(bool \(\)\).*give each a value \(`feeds`\)"),
        ({"endpoint": "pooll", "feeds": FEEDS}, r"no endpoint 'pooll' \(did you mean pool\?\)"),
        ({"endpoint": "pool", "input": "batsh"}, r"no input 'batsh' \(did you mean batch\?\)"),
        ({"endpoint": "pool", "feeds": {"training": 1}}, r"no tensor to be fed 'training'"),
        (
            {"endpoint": "pool", "feeds": {"is_training": 3.5, "keep_prob": "a"}},
            r"is_training:0 is bool(.|\n)*keep_prob:0 is float32",
        ),
        ({"endpoint": "pool", "feeds": {"is_training": [True], "keep_prob": 1}}, r"has the shape \(\), and \[True\]"),
        ({"endpoint": "conv1/kernel", "feeds": FEEDS}, r"needs no input that has to be fed"),
        ({"endpoint": "relu1", "input": "pool", "feeds": FEEDS}, r"relu1:0 does not come from the input pool:0"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name(trained, options, words):
    with pytest.raises(GraphError, match=words):
        tx.network("model.ckpt.meta", **options)


def test_names_that_are_in_use_are_refused_and_a_scope_cures(trained):
    tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS)
    with pytest.raises(GraphError, match=r"already has ops named .*`scope`"):
        tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS)
    tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS, scope="again")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default():
        yield tmp_path


def flattened(x, flat):
    """Build two convolutions without padding, a pooling, and a layer of as many inputs as pictures of one size give."""
    for number in (1, 2):
        x = tf.nn.conv2d(x, tf.get_variable(f"conv{number}/kernel", [3, 3, 3, 3]), 1, "VALID", name=f"conv{number}")
    x = tf.reshape(tf.nn.max_pool2d(x, 2, 2, "VALID", name="pool"), flat(x), name="flat")
    return tf.matmul(x, tf.get_variable("fc/kernel", [48, 2]), name="logits")


def of_size(side, **options):
    spec = tx.InputSpec.of_keras("tf", (side, side), model="mine")
    return tx.network("plain.meta", input_spec=spec, **options)


@pytest.mark.parametrize("flat", [lambda x: [-1, 48], lambda x: [tf.shape(x)[0], 48]], ids=["open", "asked for"])
def test_a_size_that_a_reshape_or_a_convolution_cannot_take_is_refused_and_the_cures_cure(folder, flat):
    write(lambda: flattened(tf.placeholder(tf.float32, [None, None, None, 3], "x"), flat))
    with pytest.raises(GraphError, match=r"plain\.meta cannot take images of 15x15: .*flat.*; choose another `size`"):
        of_size(15)
    with pytest.raises(GraphError, match=r"plain\.meta cannot take images of 4x4: .*conv2.*`endpoint` before that op"):
        of_size(4)
    assert not tf.get_default_graph().get_operations() or not tf.global_variables()
    assert of_size(4, endpoint="conv1", scope="a")["conv1"].shape.as_list() == [None, 2, 2, 3]
    assert of_size(12, scope="b")["logits"].shape.as_list() == [None, 2]


def test_a_number_of_rows_that_the_graph_has_fixed_is_left_to_whoever_feeds_it(folder):
    write(lambda: flattened(tf.placeholder(tf.float32, [None, None, None, 3], "x"), lambda x: [4, 48]))
    assert of_size(12)["logits"].shape.as_list() == [4, 2]


def test_an_endpoint_that_waits_for_a_write_of_what_it_reads_is_refused(folder):
    def make():
        x = tf.placeholder(tf.float32, [None, 3], "x")
        shift = tf.get_variable("shift", [3], use_resource=True)
        with tf.control_dependencies([shift.assign_add([1.0, 1.0, 1.0])]):
            tf.add(x, shift.read_value(), name="y")

    write(make)
    with pytest.raises(GraphError, match=r"reads variables that are written before, in the same step: shift \(by "):
        tx.network("plain.meta", endpoint="y")


def test_python_functions_and_ops_that_are_not_known_are_named_and_an_endpoint_before_them_cures(folder):
    def make():
        x = tf.placeholder(tf.float32, [None, 3], "x")
        y = tf.multiply(x, tf.get_variable("scale", [3]), name="y")
        tf.numpy_function(lambda a: a, [y], tf.float32, name="python")

    write(make)
    with pytest.raises(GraphError, match="python run Python functions, which no file holds"):
        tx.network("plain.meta", endpoint="python")
    assert list(tx.network("plain.meta", endpoint="y")) == ["y"]
    meta = tf.MetaGraphDef.FromString((folder / "plain.meta").read_bytes())
    next(node for node in meta.graph_def.node if node.name == "y").op = "MyMultiply"
    (folder / "plain.meta").write_bytes(meta.SerializeToString())
    with pytest.raises(GraphError, match=r"has no ops y \(MyMultiply\); load the library that has them"):
        tx.network("plain.meta", endpoint="y", scope="again")


def test_two_inputs_are_named_and_choosing_one_and_feeding_the_other_cures(folder):
    def make():
        first, second = (tf.placeholder(tf.float32, [None, 4, 4, 3], name) for name in ("first", "second"))
        tf.add(first, second * tf.get_variable("scale", [3]), name="y")

    write(make)
    with pytest.raises(GraphError, match=r"needs 2 inputs: second:0 \(float32 .*, first:0 .*name the one.*`input`"):
        tx.network("plain.meta", endpoint="y")
    with pytest.raises(GraphError, match=r"also needs second:0 \(float32 .*give each a value \(`feeds`\)"):
        tx.network("plain.meta", endpoint="y", input="first")
    net = tx.network("plain.meta", endpoint="y", input="first", feeds={"second": [[[[0.0] * 3] * 4] * 4]})
    assert net.images.shape.as_list() == [None, 4, 4, 3]


def test_what_is_fed_in_the_place_of_a_weight_is_used_and_is_no_variable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures, _ = write_frozen()
    zeros = np.zeros([3, 3, 3, 8], np.float32)
    with tf.Graph().as_default():
        net = tx.network("frozen.pb", endpoint="Conv2D", feeds={**FEEDS, "conv1/kernel": zeros})
        assert net.variables == []
        with tf.Session() as sess:
            assert not sess.run(net["Conv2D"], {net.images: pictures}).any()
    with pytest.raises(GraphError, match="conv1/kernel:0 is resource, and cannot be 1"):
        tx.network("model.ckpt", endpoint="pool", feeds={**FEEDS, "conv1/kernel": 1})


def test_an_output_that_an_op_does_not_have_is_refused(trained):
    with pytest.raises(GraphError, match="the graph has no endpoint 'pool:1': pool has 1 outputs, counted from 0"):
        tx.network("model.ckpt", endpoint="pool:1", feeds=FEEDS)


def test_a_collection_of_something_else_is_passed_over(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 2], "x")
        tf.matmul(x, tf.get_variable("fc/kernel", [2, 2]), name="y")
        tf.add_to_collection("my_variables", b"\xff\xff")
        sess.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(sess, str(tmp_path / "model.ckpt"))
    with tf.Graph().as_default():
        assert [variable.op.name for variable in tx.network(prefix).variables] == ["fc/kernel"]


def test_a_name_that_is_not_there_is_answered_by_what_may_be_named(trained):
    with pytest.raises(GraphError, match=r"no endpoint 'nope'; it has .*\brelu2, pool, logits\b"):
        tx.network("model.ckpt", endpoint="nope", feeds=FEEDS)
    with pytest.raises(GraphError, match=r"no tensor to be fed 'nope'; it has .*is_training.*keep_prob"):
        tx.network("model.ckpt", endpoint="pool", feeds={"nope": 1})
    with pytest.raises(GraphError, match=r"\(did you mean global_average_pooling2d\?\); it has .*\bpredictions\b"):
        tx.network("MobileNet", endpoint="global_averge_poling2d")
