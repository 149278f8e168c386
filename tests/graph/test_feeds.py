"""Placeholders that are fed the same in every step: in training, in evaluation, in what is precomputed."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.errors import GraphError
from tfxfer.frontier.search import frontier
from tfxfer.graph import layers

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(24, 4)).astype(np.float32)
LABELS = np.arange(24) % 3
DATA = Data((IMAGES, LABELS), (IMAGES[:9], LABELS[:9]), (IMAGES[9:], LABELS[9:]), ("a", "b", "c"))


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def scaled(scale, **options):
    """Logits are a frozen product times a scale times a trained kernel of ones."""
    images, labels = tf.placeholder(tf.float32, [None, 4], "images"), tf.placeholder(tf.int64, [None])
    frozen = tf.get_variable("frozen", [4, 3], initializer=tf.constant_initializer(np.arange(12.0)))
    features = tf.matmul(images, frozen) * scale
    kernel = tf.get_variable("kernel", [3, 3], initializer=tf.constant_initializer(np.eye(3)))
    return tx.train_step(images, labels, tf.matmul(features, kernel), train=[kernel], summaries=(), **options)


def mean_loss(logits, labels):
    logits = logits.astype(np.float64)
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]))


@pytest.mark.parametrize("key", ["tensor", "scale", "scale:0"])
def test_training_and_evaluation_are_fed_their_own_constants(key, tmp_path):
    scale = tf.placeholder(tf.float32, [], "scale")
    key = scale if key == "tensor" else key
    step = scaled(scale, train_feeds={key: 0.5}, eval_feeds={key: 0.25}, learning_rate=0.0)
    product = IMAGES @ np.arange(12.0).reshape(4, 3)
    with tx.session() as sess:
        fitted = tx.fit(sess, step, DATA, epochs=1, batch_size=24, logdir=tmp_path / "run")
        loss = tx.evaluate(sess, step, (IMAGES, LABELS)).metrics["loss"]
    assert fitted.history[0]["loss"] == pytest.approx(mean_loss(product * 0.5, LABELS), rel=1e-5)
    assert loss == pytest.approx(mean_loss(product * 0.25, LABELS), rel=1e-5)


def test_what_is_fed_otherwise_in_training_is_live_and_what_is_fed_alike_is_frozen():
    scale = tf.placeholder(tf.float32, [], "scale")
    alike = scaled(scale, train_feeds={scale: 0.5}, eval_feeds={scale: 0.5})
    (tensor,) = frontier(alike, alike.stages[0]).tensors
    assert tensor.op.type == "Mul"
    with tf.Graph().as_default():
        scale = tf.placeholder_with_default(1.0, [], "scale")
        other = scaled(scale, train_feeds={scale: 0.5})
        (tensor,) = frontier(other, other.stages[0]).tensors
        assert tensor.op.type == "MatMul"


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_precomputed_rows_belong_to_the_constants_that_they_were_computed_with(workers, tmp_path):
    for value in (0.5, 2.0):
        with tf.Graph().as_default():
            scale = tf.placeholder(tf.float32, [], "scale")
            step = scaled(scale, train_feeds={scale: value}, eval_feeds={scale: value})
            with tx.session() as sess:
                data = tx.precompute(sess, step, DATA, store=tmp_path / "store", batch_size=8, workers=workers)
                (rows,) = data.train.features.values()
                expected = sess.run(frontier(step, step.stages[0]).tensors[0], {step.images: IMAGES, scale: value})
                assert np.asarray(rows[np.arange(24)]).tobytes() == expected.tobytes()
                images, stored = (tx.evaluate(sess, step, one.test).metrics["loss"] for one in (DATA, data))
                assert stored == pytest.approx(images, rel=1e-6)


def test_every_placeholder_that_nobody_feeds_is_named_and_the_cure_cures():
    keep, training = tf.placeholder(tf.float32, [], "keep_prob"), tf.placeholder(tf.bool, [], "is_training")
    scale = tf.where(training, keep, 1.0)
    with pytest.raises(
        GraphError, match=r"(?s)keep_prob \(float32 \(\)\): give it in train_feeds and eval_feeds.*is_tr"
    ):
        scaled(scale)
    with tf.Graph().as_default():
        keep = tf.placeholder(tf.float32, [], "keep_prob")
        with pytest.raises(GraphError, match="give it in eval_feeds"):
            scaled(keep, train_feeds={"keep_prob": 0.5})
    with tf.Graph().as_default():
        keep = tf.placeholder(tf.float32, [], "keep_prob")
        scaled(keep, train_feeds={"keep_prob": 0.5}, eval_feeds={"keep_prob": 1.0})


def test_a_fed_placeholder_that_the_network_waits_for_is_not_asked_for(caplog):
    keep, scale = tf.placeholder(tf.float32, [], "keep_prob"), tf.placeholder_with_default(1.0, [], "scale")
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
    with tf.control_dependencies([images, labels, keep, scale]):
        logits = tf.matmul(images * keep * scale, tf.get_variable("kernel", [4, 3]))
    feeds = {"keep_prob": 1.0, "scale": 2.0}
    with caplog.at_level(logging.WARNING, "tfxfer"):
        step = tx.train_step(images, labels, logits, train="kernel", train_feeds=feeds, eval_feeds=feeds)
    assert not caplog.records
    with tx.session() as sess:
        sess.run(step.stages[0].apply, {images: IMAGES, labels: LABELS, keep: 1.0, scale: 2.0})
        assert tx.evaluate(sess, step, Split(IMAGES, LABELS)).labels.tolist() == LABELS.tolist()


def test_a_default_that_nobody_sets_is_noted_once_and_no_switch_of_a_layer_is(caplog):
    keep = tf.placeholder_with_default(1.0, [], "keep_prob")
    with caplog.at_level(logging.WARNING, "tfxfer"):
        scaled(tf.reduce_max(layers.dropout(tf.ones([3]), 0.5, "drop")) * keep)
    assert [record.getMessage() for record in caplog.records] == [
        "train_feeds does not set keep_prob: trained with the default"
    ]
    caplog.clear()
    with tf.Graph().as_default(), caplog.at_level(logging.WARNING, "tfxfer"):
        scaled(tf.placeholder_with_default(1.0, [], "keep_prob"), train_feeds={"keep_prob": 1.0})
    assert not caplog.records


@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        ({"keep": 0.5}, "'keep' is not in the graph; its placeholders are"),
        ({"frozen": 0.5}, "frozen:0 is not a placeholder"),
        ({"images": 0.5}, "these are the images"),
        ({"scale": True}, "scale:0 takes float32, not True"),
        ({"scale": "half"}, "scale:0 takes float32, not 'half'"),
        ({"scale": [0.5, 0.5]}, r"scale:0 has the shape \(\), and the value \(2,\)"),
        ({"scale": 0.5, "scale:0": 0.5}, "scale:0 is given twice"),
        ({"bits": 300}, "bits:0 takes uint8, which does not hold 300"),
        ({"bits": 0.5}, "bits:0 takes uint8, not 0.5"),
        ({"flag": 1}, "flag:0 takes bool, not 1"),
    ],
)
def test_what_cannot_be_fed_is_refused_by_name(feeds, told):
    tf.placeholder(tf.uint8, [], "bits")
    tf.placeholder(tf.bool, [], "flag")
    with pytest.raises(GraphError, match=told):
        scaled(tf.placeholder(tf.float32, [], "scale"), train_feeds=feeds)


def test_all_wrong_feeds_are_listed_at_once():
    with pytest.raises(GraphError, match=r"(?s)eval_feeds cannot be fed:.*'a' is not.*'b' is not"):
        scaled(tf.placeholder(tf.float32, [], "scale"), eval_feeds={"a": 1, "b": 2})


def test_a_split_in_front_of_a_fed_tensor_that_is_not_needed_is_not_asked_for():
    raw = tf.placeholder(tf.string, [None], "raw")
    images = tf.identity(tf.strings.length(raw)[:, None] * tf.ones([1, 4], tf.int32), "pixels")
    labels = tf.placeholder(tf.int64, [None])
    kernel = tf.get_variable("kernel", [4, 3])
    step = tx.train_step(images, labels, tf.matmul(tf.cast(images, tf.float32), kernel), train="kernel", summaries=())
    with tx.session() as sess:
        assert tx.evaluate(sess, step, Split(IMAGES.astype(np.int32), LABELS)).labels.tolist() == LABELS.tolist()
