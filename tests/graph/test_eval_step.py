"""The step of an evaluation: the metrics of a training step, and nothing beside them in the graph."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.errors import DataError, GraphError
from tfxfer.frontier.search import frontier
from tfxfer.graph import layers
from tfxfer.graph.eval_step import eval_step
from tfxfer.models import autoencoder, heads

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 60)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def network(loss="softmax", classes=3, **options):
    images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    features = autoencoder.encoder(images)["flatten"]
    return images, labels, heads.classifier(features, hidden=[8], classes=classes, loss=loss, **options)


def data():
    cuts = [slice(0, 40), slice(40, 50), slice(50, 60)]
    splits = [Split(IMAGES[cut], LABELS[cut]) for cut in cuts]
    return Data(*splits, class_names=("a", "b", "c"))


def test_no_variable_no_gradient_and_no_op_outside_its_scope_is_made(graph):
    images, labels, logits = network()
    before, variables = {op.name for op in graph.get_operations()}, tf.global_variables()
    eval_step(images, labels, logits)
    made = [op for op in graph.get_operations() if op.name not in before]
    assert made
    assert all(op.name.startswith("LOSS/") for op in made)
    assert not [op.type for op in made if "Grad" in op.type or "Apply" in op.type or op.type == "VarHandleOp"]
    assert tf.global_variables() == variables
    assert not tf.local_variables()


@pytest.mark.parametrize(("loss", "classes"), [("softmax", 3), ("sigmoid", 2)])
def test_the_metrics_are_bit_for_bit_those_of_a_training_step(loss, classes):
    images, labels, logits = network(loss, classes, dropout=0.5)
    evaluation = eval_step(images, labels, logits, loss=loss)
    training = tx.train_step(images, labels, logits, loss=loss, train=tx.select("fc1/.*", "logits/.*"))
    split = Split(IMAGES, LABELS % classes)
    with tx.session() as sess:
        ours, theirs = (tx.evaluate(sess, step, split, batch_size=16) for step in (evaluation, training))
    assert ours.metrics == theirs.metrics
    assert ours.probabilities.tobytes() == theirs.probabilities.tobytes()


def test_a_loss_of_the_callers_own_is_measured():
    images, labels, logits = network()
    own = tf.reduce_sum(tf.square(logits), axis=1)
    step = eval_step(images, labels, logits, loss=own)
    assert list(eval_step(images, None, logits, loss=own).metrics) == ["loss"]
    with tx.session() as sess:
        metrics, wanted = sess.run([step.metrics, own], {images: IMAGES, labels: LABELS})
    assert metrics["loss"].tobytes() == wanted.tobytes()
    assert set(metrics) == {"loss", "accuracy"}


def test_without_labels_there_are_probabilities_and_no_metrics():
    images, labels, logits = network()
    step = eval_step(images, None, logits)
    assert step.labels is None
    assert step.metrics == {}
    labelled = eval_step(images, labels, logits)
    with tx.session() as sess:
        probabilities, wanted = sess.run([step.probabilities, labelled.probabilities], {images: IMAGES})
        assert probabilities.tobytes() == wanted.tobytes()
        with pytest.raises(DataError, match="evaluation needs labels"):
            tx.evaluate(sess, step, Split(IMAGES, LABELS))


def test_placeholders_are_fed_as_they_are_given_and_what_nobody_feeds_is_refused():
    images, labels, logits = network()
    rate = tf.placeholder(tf.float32, [], name="scale")
    with pytest.raises(
        GraphError, match=r"(?s)nobody feeds .*scale \(float32 \(\)\): give it in eval_feeds\n  as eval"
    ):
        eval_step(images, labels, logits * rate)
    with pytest.raises(GraphError, match=r"scale \(float32 \(\)\): give it in eval_feeds"):
        eval_step(images, None, logits, activations={"scaled": logits * rate})
    step = eval_step(images, labels, logits * rate, eval_feeds={"scale": 0.0})
    with tx.session() as sess:
        found = tx.evaluate(sess, step, Split(IMAGES, LABELS))
    np.testing.assert_allclose(found.probabilities, 1 / 3)


def batch_normed(images, training):
    """A batch normalisation by tf.nn, as networks of TensorFlow 1 have it: the batch's statistics in training."""
    mean = tf.get_variable("mean", [64], initializer=tf.constant_initializer(3.0), trainable=False)
    variance = tf.get_variable("variance", [64], initializer=tf.constant_initializer(4.0), trainable=False)
    x = layers.flatten(tf.cast(images, tf.float32))
    own = tf.nn.moments(x, [0])
    used = tf.cond(training, lambda: own, lambda: (tf.identity(mean), tf.identity(variance)))
    return tf.nn.batch_normalization(x, *used, None, None, 0.0)[:, :3]


def test_a_batch_normalisation_by_tf_nn_uses_its_moving_statistics_and_moves_nothing():
    images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
    labels = tf.placeholder(tf.int64, [None])
    training = tf.placeholder(tf.bool, [], name="is_training")
    step = eval_step(images, labels, batch_normed(images, training), eval_feeds={training: False})
    logits = (IMAGES.reshape(60, 64)[:, :3].astype(np.float64) - 3) / 2
    with tx.session() as sess:
        before = sess.run(tf.global_variables())
        found = tx.evaluate(sess, step, Split(IMAGES, LABELS))
        after = sess.run(tf.global_variables())
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found.probabilities, odds / odds.sum(axis=1, keepdims=True), atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_network_that_writes_variables_whenever_it_runs_is_warned_of(caplog):
    images, labels, logits = network()
    counter = tf.get_variable("counter", [], initializer=tf.zeros_initializer(), trainable=False)
    with tf.control_dependencies([tf.assign_add(counter, 1.0)]):
        logits = tf.identity(logits)
    eval_step(images, labels, logits)
    assert "counter: written whenever the network is run, in evaluation too" in caplog.text


def test_what_is_precomputed_is_what_the_metrics_take_and_evaluates_to_the_same(tmp_path):
    images, labels, logits = network()
    step = eval_step(images, labels, logits)
    assert frontier(step).tensors == (logits,)
    with tx.session() as sess:
        stored = tx.precompute(sess, step, data(), store=tmp_path)
        assert list(stored.test.features) == [logits.name]
        ours, wanted = (tx.evaluate(sess, step, each.test) for each in (stored, data()))
        assert ours.metrics == wanted.metrics
        assert ours.probabilities.tobytes() == wanted.probabilities.tobytes()
        (kernel,) = tx.select("conv1/kernel")
        sess.run(kernel.initializer, {kernel.initializer.inputs[1]: np.zeros(kernel.shape)})
        with pytest.raises(DataError, match="other values: conv1/kernel"):
            tx.evaluate(sess, step, stored.test)


def test_fit_refuses_it_by_name(tmp_path):
    step = eval_step(*network())
    with (
        tx.session() as sess,
        pytest.raises(GraphError, match="got: EvalStep; an EvalStep is made by eval_step; build it by train"),
    ):
        tx.fit(sess, step, data(), epochs=1, logdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_step_of_training_is_one_of_evaluation_too():
    images, labels, logits = network()
    training = tx.train_step(images, labels, logits, train=tx.select("logits/.*"))
    assert {field.name for field in dataclasses.fields(eval_step(images, labels, logits))} <= set(vars(training))


def test_an_endpoint_must_be_of_this_graph_and_have_a_batch():
    images, labels, logits = network()
    with tf.Graph().as_default():
        other = tf.placeholder(tf.float32, [None, 3])
    for name, tensor in {"mean": tf.constant(1.0), "fixed": tf.zeros([2, 3]), "other": other}.items():
        told = re.escape(f"activations: {name} {tensor.shape} must be [batch, ...]")
        with pytest.raises(GraphError, match=told):
            eval_step(images, labels, logits, activations={name: tensor})
        with pytest.raises(GraphError, match=told):
            tx.train_step(images, labels, logits, train=".*", activations={name: tensor})


def test_an_endpoint_that_is_not_a_tensor_is_refused():
    images, labels, logits = network()
    with pytest.raises(GraphError, match="activations: conv1 is 5, and must be a tensor"):
        eval_step(images, labels, logits, activations={"conv1": 5})


def test_arguments_of_another_graph_or_of_another_kind_and_a_finalized_graph_are_refused(graph):
    images, labels, logits = network()
    with pytest.raises(GraphError, match=r"outputs is 3: give tensors"):
        eval_step(images, labels, 3)
    with tf.Graph().as_default(), pytest.raises(GraphError, match=r"another graph than .*; call eval_step within"):
        eval_step(images, labels, logits)
    graph.finalize()
    with pytest.raises(GraphError, match=r"eval_step: the graph is finalized, .* all of it, summaries too, before"):
        eval_step(images, labels, logits)
