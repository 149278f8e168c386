"""Frozen graphs, thawed: against the graph that was frozen, run by TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError, WeightsError
from tfxfer.networks import frozen
from tfxfer.networks.files import open_graph

PICTURES = np.random.default_rng(2).random((6, 12, 12, 3), np.float32)


def convolution(x, filters, name, fused):
    """A convolution and batch normalisation, by the fused op or by hand, as tf.slim's and others' graphs have it."""
    with tf.variable_scope(name):
        x = tf.nn.conv2d(x, tf.get_variable("kernel", [3, 3, x.shape[-1], filters]), [1, 1, 1, 1], "SAME")
        draw = tf.random_uniform_initializer(0.5, 1.5)
        gamma, beta, mean, variance = (
            tf.get_variable(part, [filters], initializer=draw, trainable=part in ("gamma", "beta"))
            for part in ("gamma", "beta", "mean", "variance")
        )
        if fused:
            x = tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, 1e-3, is_training=False)[0]
        else:
            x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)
        return tf.nn.relu(x, name="relu")


@pytest.fixture(params=["resource", "reference"])
def made(request, tmp_path, monkeypatch):
    """Write `frozen.pb` as convert_variables_to_constants makes it; return the values and what the graph computes."""
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph, tf.variable_scope("", use_resource=request.param == "resource"):
        tf.set_random_seed(4)
        x = tf.placeholder(tf.float32, [None, 12, 12, 3], "input")
        x = convolution(convolution(x, 8, "block1", fused=True), 8, "block2", fused=False)
        x = tf.reduce_mean(x, [1, 2], name="pool")
        x = tf.matmul(x, tf.get_variable("logits/weights", [8, 4])) + tf.get_variable("logits/biases", [4])
        tf.nn.softmax(x, name="softmax")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            values = {variable.op.name: sess.run(variable) for variable in tf.global_variables()}
            outputs = sess.run({"pool": "pool:0", "softmax": "softmax:0"}, {"input:0": PICTURES})
            graph_def = tf.graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["softmax"])
    with open("frozen.pb", "wb") as file:
        file.write(graph_def.SerializeToString())
    with tf.Graph().as_default():
        yield values, outputs


def test_constants_become_variables_of_the_same_names_and_values(made):
    values, outputs = made
    net = tx.network("frozen.pb")
    assert {variable.op.name for variable in net.variables} == set(values)
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        for variable in net.variables:
            np.testing.assert_array_equal(sess.run(variable), values[variable.op.name])
        np.testing.assert_array_equal(sess.run(net["pool"], {net.images: PICTURES}), outputs["pool"])
        np.testing.assert_array_equal(sess.run(net["softmax"], {net.images: PICTURES}), outputs["softmax"])


def test_statistics_are_not_trained_whatever_they_are_called(made):
    tx.network("frozen.pb")
    trainable = {variable.op.name for variable in tf.trainable_variables()}
    assert trainable == {
        *(f"block{block}/{part}" for block in (1, 2) for part in ("kernel", "gamma", "beta")),
        *("logits/weights", "logits/biases"),
    }


def test_the_last_block_is_fine_tuned_with_the_rest_frozen_saved_and_read_again(made):
    values, outputs = made
    net = tx.network("frozen.pb", endpoint="pool")
    labels = tf.placeholder(tf.int64, [None])
    logits = tx.models.heads.classifier(net["pool"], hidden=[], classes=2)
    train = tx.select("block2/kernel", "block2/gamma", "logits/.*")
    step = tx.train_step(net.images, labels, logits, train=train)
    split = tx.Split(PICTURES, np.arange(6) % 2)
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        np.testing.assert_array_equal(sess.run(net["pool"], {net.images: PICTURES}), outputs["pool"])
        data = tx.Data(split, split, split, class_names=("a", "b"))
        fitted = tx.fit(sess, step, data, epochs=2, batch_size=3, logdir="run")
    after = tx.open_weights(fitted.best)
    moved = {name for name, value in values.items() if name in after and not np.array_equal(after[name], value)}
    assert moved == {"block2/kernel", "block2/gamma"}


def test_other_values_under_the_same_names_are_restored(made):
    values, _ = made
    np.savez("other.npz", **{name: value * 2 for name, value in values.items()})
    net = tx.network("frozen.pb", weights="other.npz")
    with tx.session(tx.plan(net.variables, net.weights)) as sess:
        for variable in net.variables:
            np.testing.assert_array_equal(sess.run(variable), values[variable.op.name] * 2)


def test_the_graph_holds_no_values_any_more(made):
    file = frozen.read("frozen.pb")
    constants = [node for node in file.graph_def.node if node.name in file.variables]
    assert len(constants) == 12
    assert not any(node.attr["value"].tensor.tensor_content for node in constants)


def test_a_batch_of_one_that_is_baked_in_is_left_behind_where_the_endpoint_does_not_need_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [1, 4, 4, 3], "Mul")
        kernel = tf.constant(np.random.default_rng(1).random((3, 3, 3, 5), np.float32), name="conv/conv2d_params")
        pool = tf.reduce_mean(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"), [1, 2], keepdims=True, name="pool_3")
        tf.reshape(pool, [1, 5], name="pool_3/_reshape")
        with open("frozen.pb", "wb") as file:
            file.write(graph.as_graph_def().SerializeToString())
    with tf.Graph().as_default():
        net = tx.network("frozen.pb", input="Mul", endpoint="pool_3")
        assert net.images.shape.as_list() == [None, 4, 4, 3]
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            assert sess.run(net["pool_3"], {net.images: np.zeros((7, 4, 4, 3))}).shape == (7, 1, 1, 5)


def test_a_file_that_is_not_a_graph_is_refused(tmp_path):
    (tmp_path / "a.pb").write_bytes(b"\x0a\xff\xff\xff\xff\x7f garbage")
    with pytest.raises(WeightsError, match="is not a GraphDef"):
        frozen.read_graph_def(str(tmp_path / "a.pb"))
    with pytest.raises(WeightsError, match="cannot be read"):
        frozen.read_graph_def(str(tmp_path / "gone.pb"))


def test_an_endpoint_before_the_input_is_refused(made):
    with pytest.raises(GraphError, match="does not come from the input"):
        tx.network("frozen.pb", input="pool", endpoint="block1/relu")


def test_a_graph_as_text_is_refused_and_the_cure_writes_it_in_binary(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 2], "x")
        tf.matmul(x, tf.constant([[1.0], [2.0]], name="fc/kernel"), name="y")
        tf.io.write_graph(graph, ".", "frozen.pbtxt", as_text=True)
        with pytest.raises(WeightsError, match=r"frozen\.pbtxt is a graph as text; .*as_text=False"):
            open_graph("frozen.pbtxt")
        tf.io.write_graph(graph, ".", "frozen.pb", as_text=False)
    assert list(open_graph("frozen.pb").variables) == ["fc/kernel"]
