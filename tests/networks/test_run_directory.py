"""The network of a run, as the network of another."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.tools.test_predict import coloured, run
from tfxfer.errors import RunError
from tfxfer.tools import evaluate, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with `pictures` and `first`, a run of a model of the registry."""
    top = tmp_path_factory.mktemp("runs")
    flags = ["--model=squeezenet1_1", "--restore=none", "--image_size=32", "--endpoint=conv1:mean", "--hidden=5",
             f"--data_dir={coloured(top / 'pictures')}", "--epochs=3", "--learning_rate=0.01"]  # fmt: skip
    assert run(train, *flags, f"--logdir={top / 'first'}") == 0
    return top


def test_a_run_is_a_network_whose_outputs_are_those_of_the_run(runs):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    with tf.Graph().as_default():
        net = tx.network(runs / "first")
        probabilities = tf.nn.softmax(list(net.endpoints.values())[-1])
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            found = sess.run(probabilities, {net.images: pixels})
    said = tx.open_run(runs / "first").predict(pixels, top_k=3)
    np.testing.assert_allclose(np.take_along_axis(found, said.classes, 1), said.probabilities, rtol=1e-5)


def test_a_head_on_a_layer_of_a_run_is_a_run_of_its_own(runs, tmp_path):
    shutil.copytree(runs / "first", tmp_path / "first")
    flags = ["--endpoint=HEAD/fc1/Relu", "--hidden=none", "--epochs=1", f"--data_dir={runs / 'pictures'}"]
    assert run(train, f"--model={tmp_path / 'first'}", *flags, f"--logdir={tmp_path / 'second'}") == 0
    before, after = tx.open_run(runs / "first").weights(), tx.open_run(tmp_path / "second").weights()
    for name in ("conv1/kernel", "fc1/kernel"):
        np.testing.assert_array_equal(before[name], after[name])
    shutil.rmtree(tmp_path / "first")
    assert run(evaluate, tmp_path / "second") == 0


def test_what_evaluation_fed_is_fed_and_what_nobody_named_is_said(tmp_path):
    arrays, labels = np.random.default_rng(0).random((8, 6), np.float32), np.arange(8) % 2
    data = tx.data.Data(*[(arrays, labels)] * 3, ("a", "b"))
    with tf.Graph().as_default():
        x, classes = tf.placeholder(tf.float32, [None, 6], "x"), tf.placeholder(tf.int64, [None])
        switch = tf.placeholder(tf.bool, [], "is_training")
        weights = tf.get_variable("w", [6, 2], initializer=tf.random_normal_initializer(seed=1))
        logits = tf.matmul(tf.where(switch, x * 2, x), weights)
        feeds = {"train_feeds": {switch: True}, "eval_feeds": {switch: False}}
        step = tx.train_step(x, classes, logits, train=".*", **feeds)
        with tx.session() as sess:
            tx.fit(sess, step, data, epochs=1, logdir=tmp_path / "run")
            expected = sess.run(logits, {x: arrays, switch: False})
    with tf.Graph().as_default():
        net = tx.network(tmp_path / "run", weights=tx.open_run(tmp_path / "run").weights("last"))
        with tx.session(tx.plan(net.variables, net.weights)) as sess:
            np.testing.assert_allclose(sess.run(net["MatMul"], {net.images: arrays}), expected, rtol=1e-5)
    result = tx.open_run(tmp_path / "run").evaluate(data=data, checkpoint="last")
    assert result.accuracy == np.mean(expected.argmax(1) == labels)
    path = tmp_path / "run/settings.json"
    settings = json.loads(path.read_text())
    del settings["training"]["tensors"]["outputs"]
    path.write_text(json.dumps(settings))
    with tf.Graph().as_default(), pytest.raises(RunError, match="does not name the tensors of the network"):
        tx.network(tmp_path / "run")
