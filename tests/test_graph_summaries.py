"""Summaries: what TensorBoard will be shown, read back from the bytes that the ops make."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.graph import layers, summaries


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def values_of(serialized):
    return {value.tag: value for value in tf.Summary.FromString(serialized).value}


def test_scalars_are_means_over_the_batch_under_plain_tags():
    with tf.name_scope("SUMMARY"):
        op = summaries.training(
            {"loss": tf.constant([1.0, 2.0, 6.0]), "accuracy": tf.constant([1.0, 0.0, 0.0, 0.0])}, tf.constant(0.5), []
        )
    with tx.session() as sess:
        shown = values_of(sess.run(op))
    assert {tag: value.simple_value for tag, value in shown.items()} == {
        "loss": 3.0,
        "accuracy": 0.25,
        "learning_rate": 0.5,
    }


@pytest.mark.parametrize("use_resource", [True, False])
def test_histograms_are_tagged_by_the_variables_name_and_hold_its_values(use_resource):
    with tf.variable_scope("fc1", use_resource=use_resource):
        variable = tf.get_variable("kernel", initializer=np.float32([[-2, 0.5], [1, 4]]))
    op = summaries.training({}, tf.constant(0.0), [variable])
    with tx.session() as sess:
        shown = values_of(sess.run(op))
    assert list(shown) == ["learning_rate", "fc1/kernel"]
    histogram = shown["fc1/kernel"].histo
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (-2, 4, 4, 3.5)


def test_a_histogram_leaves_out_what_is_not_finite_instead_of_failing():
    variables = [
        tf.get_variable("part", initializer=np.float32([1, np.nan, 3, np.inf, -np.inf])),
        tf.get_variable("none", initializer=np.float32([[np.nan, np.inf]])),
        tf.get_variable("scalar", initializer=np.float32(2)),
    ]
    op = summaries.training({"loss": tf.constant([np.nan])}, tf.constant(0.0), variables)
    with tx.session() as sess:
        shown = values_of(sess.run(op))
    assert (shown["part"].histo.min, shown["part"].histo.max, shown["part"].histo.num) == (1, 3, 2)
    assert shown["none"].histo.num == 0
    assert shown["scalar"].histo.num == 1
    assert np.isnan(shown["loss"].simple_value)


@pytest.mark.parametrize("channels", [1, 3])
def test_input_image_shows_the_first_images_of_a_batch_bit_for_bit(channels):
    batch = np.random.default_rng(0).integers(0, 256, (6, 5, 7, channels)).astype(np.uint8)
    images = tf.placeholder(tf.uint8, [None, 5, 7, channels])
    with tf.name_scope("SUMMARY"):
        op = summaries.images(images)
    png = tf.placeholder(tf.string, [])
    picture = tf.image.decode_png(png)
    with tx.session() as sess:
        shown = values_of(sess.run(op, {images: batch}))
        few = values_of(sess.run(op, {images: batch[:2]}))
        pictures = [sess.run(picture, {png: value.image.encoded_image_string}) for value in shown.values()]
    assert list(shown) == [f"input_image/image/{k}" for k in range(4)]
    assert list(few) == ["input_image/image/0", "input_image/image/1"]
    assert np.array_equal(pictures, batch[:4])


def test_a_training_step_shows_loss_accuracy_learning_rate_and_what_is_trained():
    images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
    labels = tf.placeholder(tf.int64, [None])
    x = layers.dense(layers.flatten(tf.cast(images, tf.float32)), 5, "fc1")
    step = tx.train_step(
        images, labels, layers.dense(x, 3, "logits", activation=None), train=tx.select("logits/.*"), learning_rate=0.25
    )
    feeds = {images: np.arange(48).reshape(3, 4, 4, 1), labels: [0, 1, 2]}
    with tx.session() as sess:
        shown, metrics = sess.run([step.summary, step.metrics], feeds)
        pictures = values_of(sess.run(step.image_summary, {images: feeds[images]}))
    shown = values_of(shown)
    assert list(shown) == ["loss", "accuracy", "learning_rate", "logits/kernel", "logits/bias"]
    assert shown["loss"].simple_value == pytest.approx(metrics["loss"].mean())
    assert shown["accuracy"].simple_value == pytest.approx(metrics["accuracy"].mean())
    assert shown["learning_rate"].simple_value == 0.25
    assert list(pictures) == [f"input_image/image/{k}" for k in range(3)]
