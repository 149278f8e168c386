"""Networks out of MetaGraphs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.networks.made import FEEDS
from tfxfer.errors import RestoreError, WeightsError
from tfxfer.graph.partitioned import wholes
from tfxfer.networks import files, meta_graph


def test_averages_take_the_place_of_the_variables_when_they_are_asked_for(trained):
    net = tx.network("model.ckpt.meta", endpoint="pool", feeds=FEEDS, moving_averages=True)
    reader = tf.train.load_checkpoint("model.ckpt")
    average = reader.get_tensor("conv1/kernel/ExponentialMovingAverage")
    assert not np.array_equal(average, reader.get_tensor("conv1/kernel"))
    np.testing.assert_array_equal(net.weights["conv1/kernel"], average)
    np.testing.assert_array_equal(net.weights["bn1/moving_mean"], reader.get_tensor("bn1/moving_mean"))


def test_without_averages_asking_for_them_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default():
        tf.multiply(tf.placeholder(tf.float32, [None, 3], "x"), tf.get_variable("scale", [3]), name="y")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            tf.train.Saver().save(sess, "model.ckpt")
    with pytest.raises(
        WeightsError, match=r"`moving_averages`: model\.ckpt has no variable NAME/ExponentialMovingAverage"
    ):
        files.open_graph("model.ckpt.meta", moving_averages=True)


def test_without_its_checkpoint_there_are_no_weights_and_a_path_to_them_cures(trained, tmp_path):
    (tmp_path / "alone").mkdir()
    shutil.copy("model.ckpt.meta", "alone/model.meta")
    net = tx.network("alone/model.meta", endpoint="pool", feeds=FEEDS)
    assert net.weights is None
    with pytest.raises((RestoreError, WeightsError)):
        tx.plan(net.variables, net.weights)
    again = tx.network("alone/model.meta", endpoint="pool", feeds=FEEDS, weights="model.ckpt", scope="again")
    assert set(wholes(again.variables)) <= set(again.weights)


def test_a_signature_tells_input_and_output_and_an_unknown_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 3], "x")
        y = tf.multiply(x, tf.get_variable("scale", [3]), name="y")
        tf.identity(y, "unused")
        signature = tf.saved_model.predict_signature_def({"in": x}, {"out": y})
        meta = tf.train.export_meta_graph()
    meta.signature_def["serving_default"].CopyFrom(signature)
    (tmp_path / "model.meta").write_bytes(meta.SerializeToString())
    file = meta_graph.read("model.meta")
    assert (file.inputs, file.outputs) == (("x:0",), ("y:0",))
    with pytest.raises(WeightsError, match=r"has no signature 'serve'.*it has serving_default"):
        meta_graph.read("model.meta", signature="serve")
