"""The layer against numpy, what it refuses, and where what is computed once ends."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data.normalization import normalized
from tfxfer.errors import GraphError
from tfxfer.frontier.search import frontier
from tfxfer.models import heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_standard_has_two_variables_that_nobody_trains_and_gives_what_numpy_does():
    x, mean, scale = (
        np.random.default_rng(n).normal(size=s).astype(np.float32) for n, s in enumerate([(6, 2, 4), 4, 4])
    )
    y = heads.normalize(tf.constant(x))
    variables = tx.select("normalize/.*")
    assert [(v.op.name, v.shape.as_list()) for v in variables] == [("normalize/mean", [4]), ("normalize/scale", [4])]
    assert not tf.trainable_variables()
    with tf.Session() as sess:
        sess.run([v.initializer for v in variables])
        assert np.isnan(sess.run(y)).all()
        for variable, value in zip(variables, (mean, scale), strict=True):
            sess.run(variable.initializer, {variable.initializer.inputs[1]: value})
        np.testing.assert_allclose(sess.run(y), normalized(x, "standard", mean, scale), rtol=1e-6)


@pytest.mark.parametrize("kind", ["l2", "sqrt"])
def test_what_has_no_statistics_has_no_variable_and_no_gradient_that_is_not_a_number(kind):
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    x[2], x[3, 0, 1] = 0, 0
    features = tf.constant(x)
    y = heads.normalize(features, kind)
    assert not tf.global_variables()
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(y), normalized(x, kind), rtol=1e-5)
        assert np.isfinite(sess.run(tf.gradients(y, features)[0])).all()


def test_none_adds_nothing(graph):
    features = tf.zeros([2, 3])
    before = len(graph.get_operations())
    assert heads.normalize(features, "none") is features
    assert len(graph.get_operations()) == before


@pytest.mark.parametrize(("features", "kind", "error"), [
    (lambda: tf.zeros([2, 3]), "unit", "`kind=unit`: features are normalised by 'standard', 'l2', 'sqrt', 'none'"),
    (lambda: tf.zeros([2, 3], tf.float64), "l2", "is float64"),
    (lambda: tf.zeros([3]), "standard", r"\(3,\); normalised are float32"),
    (lambda: tf.placeholder(tf.float32, [None, None]), "standard", "the number of features known"),
])  # fmt: skip
def test_what_cannot_be_normalised_is_refused_by_name(features, kind, error):
    with pytest.raises(GraphError, match=error):
        heads.normalize(features(), kind)


@pytest.mark.parametrize("kind", ["standard", "l2", "sqrt"])
def test_features_are_stored_as_they_are_for_any_head(kind):
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
    ends = {name: tf.nn.tanh(tx.graph.layers.dense(images, 3, name), name=f"{name}/end") for name in ("a", "b")}
    features = heads.normalize(heads.join(ends), kind)
    step = tx.train_step(images, labels, heads.classifier(features, classes=2), train=["logits/.*"])
    assert {tensor.name for tensor in frontier(step).tensors} == {tensor.name for tensor in ends.values()}


def test_endpoints_of_other_positions_are_not_joined():
    with pytest.raises(GraphError, match=r"b \(2, 4\) cannot be joined.*NAME:mean"):
        heads.join({"a": tf.zeros([2, 3, 3, 4]), "b": tf.zeros([2, 4])})
