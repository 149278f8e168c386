"""Summaries: what TensorBoard will be shown, read back from the bytes that the ops make."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.graph import layers, summaries
from tfxfer.graph.traversal import needed


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def values_of(serialized):
    return {value.tag: value for value in tf.Summary.FromString(serialized).value}


def test_scalars_are_means_over_the_batch_under_plain_tags():
    with tf.name_scope("OUTER"):
        metrics = {"loss": tf.constant([1.0, 2.0, 6.0]), "accuracy": tf.constant([1.0, 0.0, 0.0, 0.0])}
        op = summaries.training_summary(metrics, {"learning_rate": tf.constant(0.5)})
    assert op.op.name.startswith("SUMMARY/")
    with tx.session() as sess:
        shown = values_of(sess.run(op))
    assert {tag: value.simple_value for tag, value in shown.items()} == {
        "loss": 3.0,
        "accuracy": 0.25,
        "learning_rate": 0.5,
    }


@pytest.mark.parametrize("use_resource", [True, False])
def test_norms_are_those_of_all_variables_of_a_layer_and_of_their_gradients(use_resource):
    with tf.variable_scope("fc1", use_resource=use_resource):
        kernel = tf.get_variable("kernel", initializer=np.float32([[-2, 4], [4, 8]]))
        bias = tf.get_variable("bias", initializer=np.float32([1, 0]))
    alone = tf.get_variable("alone", initializer=np.float32([3, 4]), use_resource=use_resource)
    rows = tf.IndexedSlices(tf.constant([[6.0], [8.0]]), tf.constant([0, 5]))
    gradients = [(tf.constant([[2.0, 2.0], [1.0, 0.0]]), kernel), (tf.constant([0.0, 4.0]), bias), (rows, alone)]
    op = summaries.training_summary({}, {}, gradients)
    with tx.session() as sess:
        shown = {tag: value.simple_value for tag, value in values_of(sess.run(op)).items()}
    assert shown == {
        "gradient_norm/fc1": 5.0,
        "gradient_norm/alone": 10.0,
        "weight_norm/fc1": pytest.approx(np.sqrt(4 + 16 + 16 + 64 + 1)),
        "weight_norm/alone": 5.0,
    }


def test_what_is_not_finite_is_shown_as_it_is_and_stops_nothing():
    variable = tf.get_variable("v", initializer=np.float32([np.nan]))
    op = summaries.training_summary({"loss": tf.constant([np.inf])}, {}, [(tf.constant([1.0]), variable)])
    with tx.session() as sess:
        shown = values_of(sess.run(op))
    assert np.isinf(shown["loss"].simple_value)
    assert np.isnan(shown["weight_norm/v"].simple_value)


@pytest.mark.parametrize("channels", [1, 3])
def test_input_image_shows_the_first_images_of_a_batch_bit_for_bit(channels):
    batch = np.random.default_rng(0).integers(0, 256, (6, 5, 7, channels)).astype(np.uint8)
    images = tf.placeholder(tf.uint8, [None, 5, 7, channels])
    with tf.name_scope("SUMMARY"):
        op = summaries.image_summary(images)
    png = tf.placeholder(tf.string, [])
    picture = tf.image.decode_png(png)
    with tx.session() as sess:
        shown = values_of(sess.run(op, {images: batch}))
        few = values_of(sess.run(op, {images: batch[:2]}))
        pictures = [sess.run(picture, {png: value.image.encoded_image_string}) for value in shown.values()]
    assert list(shown) == [f"input_image/image/{k}" for k in range(4)]
    assert list(few) == ["input_image/image/0", "input_image/image/1"]
    assert np.array_equal(pictures, batch[:4])


def classifier(*trained, later=(), **options):
    """A step that trains some variables, and others from epoch 3 on."""
    images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
    labels = tf.placeholder(tf.int64, [None])
    x = layers.dense(layers.flatten(tf.cast(images, tf.float32) / 255), 5, "fc1")
    logits = layers.dense(x, 3, "logits", activation=None)
    stages = [tx.Stage(0, tx.select(*trained)), *(tx.Stage(3, tx.select(name), 0.1) for name in later)]
    return tx.train_step(images, labels, logits, stages=stages, **options)


FEEDS = np.arange(48).reshape(3, 4, 4, 1), [0, 1, 2]


def shown_by(step, stage, sess):
    feeds = dict(zip([step.images, step.labels], FEEDS, strict=True))
    return {tag: value.simple_value for tag, value in values_of(sess.run(stage.summary, feeds)).items()}


def test_a_training_step_shows_loss_accuracy_learning_rate_and_norms_of_what_is_trained():
    step = classifier("logits/.*", learning_rate=0.25, l2=0.1, clip_norm=1e-6)
    with tx.session() as sess:
        feeds = dict(zip([step.images, step.labels], FEEDS, strict=True))
        metrics = sess.run(step.metrics, feeds)
        shown = shown_by(step, step.stages[0], sess)
        values = sess.run(list(step.trained))
        pictures = values_of(sess.run(step.image_summary, {step.images: FEEDS[0]}))
    assert list(shown) == ["loss", "accuracy", "learning_rate", "gradient_norm/logits", "weight_norm/logits"]
    assert shown["loss"] == pytest.approx(metrics["loss"].mean())
    assert shown["accuracy"] == pytest.approx(metrics["accuracy"].mean())
    assert shown["learning_rate"] == 0.25
    assert shown["weight_norm/logits"] == pytest.approx(np.sqrt(sum((value**2).sum() for value in values)), rel=1e-6)
    assert shown["gradient_norm/logits"] > 1e-3, "before it is clipped"
    assert list(pictures) == [f"input_image/image/{k}" for k in range(3)]


def test_gradients_are_those_of_the_loss():
    step = classifier("logits/.*")
    with tx.session() as sess:
        before = shown_by(step, step.stages[0], sess)["gradient_norm/logits"]
        x = sess.graph.get_tensor_by_name("fc1/Relu:0")
        feeds = dict(zip([step.images, step.labels], FEEDS, strict=True))
        features, probabilities = sess.run([x, step.probabilities], feeds)
    off = (probabilities - np.eye(3)) / 3
    assert before == pytest.approx(np.sqrt(((features.T @ off) ** 2).sum() + (off.sum(0) ** 2).sum()), rel=1e-5)


def test_each_stage_shows_the_norms_and_learning_rates_of_what_it_trains():
    step = classifier("logits/.*", later=["fc1/.*"], multipliers={"logits/bias": 0.5}, learning_rate=0.01)
    with tx.session() as sess:
        first, second = (shown_by(step, stage, sess) for stage in step.stages)
    assert step.summary is step.stages[1].summary
    rates = {tag: pytest.approx(value) for tag, value in first.items() if tag.startswith("learning_rate")}
    assert rates == {"learning_rate": 0.01, "learning_rate/epoch_0_x1": 0.01, "learning_rate/epoch_0_x0.5": 0.005}
    assert second["learning_rate/epoch_3_x0.1"] == pytest.approx(0.001)
    assert not any("fc1" in tag for tag in first)
    assert {"gradient_norm/fc1", "weight_norm/fc1", "gradient_norm/logits"} <= set(second)


def test_groups_of_one_stage_are_told_apart_by_their_factor_alone():
    step = classifier(".*", multipliers={"fc1/.*": 0.25}, learning_rate=1.0)
    with tx.session() as sess:
        shown = shown_by(step, step.stages[0], sess)
    assert {tag: value for tag, value in shown.items() if tag.startswith("learning_rate")} == {
        "learning_rate": 1.0,
        "learning_rate/x0.25": 0.25,
        "learning_rate/x1": 1.0,
    }


def test_without_norms_no_gradient_is_computed_for_a_summary():
    step = classifier("logits/.*", summaries=["graph"])
    with tx.session() as sess:
        assert list(shown_by(step, step.stages[0], sess)) == ["loss", "accuracy", "learning_rate"]
    assert not any("gradients" in op.name for op in needed([step.summary.op]))


def test_what_is_shown_changes_no_name_of_the_graph_that_runs():
    def names(**options):
        with tf.Graph().as_default() as graph:
            classifier("logits/.*", **options)
            return [op.name for op in graph.get_operations() if not op.name.startswith("SUMMARY/")]

    assert names() == names(summaries=[])
