"""Runs on what is not a picture, on data given as arrays, and with summaries that the graph's builder made."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.summary.summary_iterator import summary_iterator

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.data.splits import stratified
from tfxfer.errors import DataError
from tfxfer.evaluation.test_results import record
from tfxfer.graph.summary_options import SHOWN

RNG = np.random.default_rng(0)
LABELS = np.arange(30) % 2


def data_of(images):
    return Data((images[:14], LABELS[:14]), (images[14:22], LABELS[14:22]), (images[22:], LABELS[22:]), ("a", "b"))


def linear(shape, dtype=tf.float32, **options):
    tf.set_random_seed(0)
    images, labels = tf.placeholder(dtype, [None, *shape], "images"), tf.placeholder(tf.int64, [None], "labels")
    size = int(np.prod(shape))
    x = tf.reshape(tf.cast(images, tf.float32), [-1, size])
    codes = tf.matmul(x, tf.get_variable("frozen", [size, 4]), name="codes")
    logits = tf.matmul(codes, tf.get_variable("kernel", [4, 2]))
    return tx.train_step(images, labels, logits, train="kernel", activations={"codes": codes}, **options)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((64,), np.float32), ((8, 8, 2), np.uint8), ((4, 4, 12), np.float32), ((9, 5), np.float32), ((7,), np.int32)],
)
def test_inputs_that_are_not_pictures_are_trained_shown_tested_and_recorded(shape, dtype, tmp_path, caplog):
    images = (RNG.random((30, *shape)) * 20).astype(dtype)
    data = data_of(images)
    with tf.Graph().as_default(), caplog.at_level(logging.INFO, "tfxfer"):
        step = linear(shape, tf.as_dtype(dtype), summaries=list(SHOWN))
        assert step.image_summary is None
        with tx.session() as sess:
            fitted = tx.fit(sess, step, data, epochs=2, batch_size=7, logdir=tmp_path / "run")
            result = tx.evaluate(sess, step, data.test)
    written = record(tmp_path / "run", result, data.test, fitted.last)
    assert written["examples"] == 8
    assert all(mistake["picture"] is None for mistake in written["mistakes"])
    told = [entry.getMessage() for entry in caplog.records if "image summaries are left out" in entry.getMessage()]
    assert len(told) == 1


# --- the graph's own summaries ---


def values_in(folder):
    """Return step and value by tag, of the scalars in the events of a folder."""
    found = {}
    for path in sorted(folder.glob("events.*")):
        for event in summary_iterator(str(path)):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def with_summaries(**options):
    tf.set_random_seed(0)
    images, labels = tf.placeholder(tf.float32, [None, 5], "images"), tf.placeholder(tf.int64, [None], "labels")
    scale = tf.placeholder(tf.float32, [], "scale")
    codes = tf.matmul(images, tf.get_variable("frozen", [5, 4]))
    kernel = tf.get_variable("kernel", [4, 2], initializer=tf.zeros_initializer())
    logits = tf.matmul(codes, kernel) * scale
    tf.summary.scalar("scaled", tf.reduce_sum(kernel) + scale)
    tf.summary.scalar("pixels", tf.reduce_mean(images))
    tf.summary.scalar("loss", tf.zeros([]))
    tf.summary.scalar("elsewhere", tf.placeholder(tf.float32, [], "nobody"))
    feeds = {"train_feeds": {scale: 0.5}, "eval_feeds": {scale: 1.0}}
    return tx.train_step(images, labels, logits, train="kernel", optimizer="sgd", summaries=(), **feeds, **options)


def test_summaries_of_the_graph_are_written_with_the_batch_or_named_as_left_out(tmp_path, caplog):
    images = RNG.random((30, 5)).astype(np.float32)
    with tf.Graph().as_default(), caplog.at_level(logging.WARNING, "tfxfer"):
        step = with_summaries()
        (told,) = [entry.getMessage() for entry in caplog.records if "left out" in entry.getMessage()]
        assert "loss (its tag is that of tfxfer)" in told
        assert "elsewhere (needs nobody)" in told
        with tx.session() as sess:
            tx.fit(
                sess,
                step,
                data_of(images),
                epochs=1,
                batch_size=14,
                summaries=tx.SummaryOptions(summary_steps=1),
                logdir=tmp_path / "run",
            )
            assert sess.run(step.summary, {step.images: images, step.labels: LABELS, "scale:0": 0.5})
    found = values_in(tmp_path / "run/train")
    assert found["scaled"] == [(1, 0.5)]
    assert found["pixels"] == [(1, pytest.approx(images[:14].mean(), rel=1e-5))]
    assert found["loss"] == [(1, pytest.approx(np.log(2), rel=1e-5))]


def test_on_features_summaries_that_need_the_images_are_named_and_the_others_written(tmp_path, caplog):
    with tf.Graph().as_default(), caplog.at_level(logging.WARNING, "tfxfer"):
        step = with_summaries()
        with tx.session() as sess:
            images = RNG.random((30, 5)).astype(np.float32)
            data = tx.precompute(sess, step, data_of(images), store=tmp_path / "store")
            assert list(data.train.features) == ["MatMul:0"]
            tx.fit(
                sess,
                step,
                data,
                epochs=1,
                batch_size=14,
                summaries=tx.SummaryOptions(summary_steps=1),
                logdir=tmp_path / "run",
            )
    assert "summaries that need the images are left out: pixels" in caplog.text
    assert set(values_in(tmp_path / "run/train")) >= {"scaled", "loss"}
    assert "pixels" not in values_in(tmp_path / "run/train")


# --- data at the door ---


def test_evaluate_takes_a_pair_of_arrays_and_refuses_a_data_set_by_name():
    data = data_of(RNG.random((30, 5)).astype(np.float32))
    with tf.Graph().as_default():
        step = linear([5], summaries=())
        with tx.session() as sess:
            pair = tx.evaluate(sess, step, (data.test.images, data.test.labels))
            assert pair.metrics == tx.evaluate(sess, step, data.test).metrics
            with pytest.raises(DataError, match=r"a whole data set; give one split of it, as data\.test"):
                tx.evaluate(sess, step, data)
            with pytest.raises(DataError, match=r"arrays are given as a pair \(images, labels\)"):
                tx.evaluate(sess, step, data.test.images)
            with pytest.raises(DataError, match="split is a str; give a Split"):
                tx.evaluate(sess, step, "test")


def test_fit_refuses_what_is_not_a_data_set_and_the_cure_cures(tmp_path):
    images = RNG.random((30, 5)).astype(np.float32)
    with tf.Graph().as_default():
        step = linear([5], summaries=())
        with tx.session() as sess:
            for wrong in ((images, LABELS), Split(images, LABELS)):
                with pytest.raises(DataError, match=r"tfxfer\.data\.Data\(train=\(x, y\), validation="):
                    tx.fit(sess, step, wrong, epochs=1, logdir=tmp_path / "run")
            assert not (tmp_path / "run").exists()
            parts = stratified(LABELS, (8, 1, 1), seed=0)
            train, validation, test = ((images[part], LABELS[part]) for part in parts)
            data = tx.data.Data(train=train, validation=validation, test=test, class_names=("a", "b"))
            tx.fit(sess, step, data, epochs=1, logdir=tmp_path / "run")


def test_pixels_that_a_placeholder_does_not_hold_are_refused_with_what_to_do(tmp_path):
    with tf.Graph().as_default():
        step = linear([5], tf.uint8, summaries=())
        data = data_of(RNG.random((30, 5)).astype(np.float32))
        with tx.session() as sess, pytest.raises(DataError, match=r"or make it tf\.placeholder\(tf\.float32"):
            tx.fit(sess, step, data, epochs=1, logdir=tmp_path / "run")


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_examples_whose_logits_are_not_numbers_are_wrong_everywhere_and_counted(loss, caplog):
    columns = 3 if loss == "softmax" else 1
    logits = (np.eye(3, dtype=np.float32)[np.arange(9) % 3] * 5)[:, :columns]
    labels = np.arange(9) % 3 if columns == 3 else (np.arange(9) % 3 == 0).astype(np.int64)
    logits[1, -1], logits[3], logits[5, 0] = np.nan, np.nan, np.inf
    with tf.Graph().as_default():
        images, placeholder = tf.placeholder(tf.float32, [None, columns]), tf.placeholder(tf.int64, [None])
        scale = tf.get_variable("scale", [], initializer=tf.ones_initializer())
        step = tx.train_step(images, placeholder, images * scale, loss=loss, train="scale", summaries=())
        with tx.session() as sess, caplog.at_level(logging.WARNING, "tfxfer"):
            result = tx.evaluate(sess, step, Split(logits, labels), top_k=2)
    undecided = 3 if columns == 3 else 2
    assert result.undecided == undecided
    assert f"{undecided} of 9 examples give NaN" in caplog.text
    assert f"{undecided} examples give NaN" in str(result)
    accuracy = (result.predictions == labels).mean()
    assert result.accuracy == pytest.approx(accuracy) == pytest.approx(np.trace(result.confusion) / 9)
    assert result.top_k.get(1, accuracy) == pytest.approx(accuracy)
    assert set(result.predictions[[1, 3]]) == {-1}
    assert not set(result.mistakes()) & set(np.flatnonzero(result.predictions < 0))
    assert result.to_json()["undecided"] == undecided
