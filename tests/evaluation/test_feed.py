"""What is fed to a step: images or features, in the right order; and that with features no frozen layer is run."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Split
from tfxfer.errors import DataError
from tfxfer.evaluation.feed import Feed, in_memory
from tfxfer.frontier.search import frontier
from tfxfer.graph import layers
from tfxfer.models import autoencoder, heads
from tfxfer.store.store import Rows, Store

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 16, 16, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 20)
SOME = np.array([5, 0, 5, 19])


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def placeholders():
    return tf.placeholder(tf.uint8, [None, 16, 16, 1], name="images"), tf.placeholder(tf.int64, [None], name="labels")


def classifier(*patterns, hidden=(6,), **options):
    images, labels = placeholders()
    logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=hidden, classes=3, dropout=0.5)
    stages = [tx.Stage(number, tx.select(pattern)) for number, pattern in enumerate(patterns)]
    return tx.train_step(images, labels, logits, stages=stages, **options)


def holding(*tensors):
    """Examples with made-up features for some tensors."""
    features = {t.name: RNG.normal(size=(20, *t.shape[1:])).astype(np.float32) for t in tensors}
    return Split(IMAGES, LABELS, features)


def names(feed):
    return [tensor.name for tensor in feed.tensors]


def test_examples_without_features_are_fed_as_images_and_labels():
    feed = Feed(classifier("logits/.*"), Split(IMAGES, LABELS))
    assert names(feed) == ["images:0", "labels:0"]
    images, labels = feed.arrays(SOME)
    assert np.array_equal(images, IMAGES[SOME])
    assert np.array_equal(labels, LABELS[SOME])


def test_examples_with_features_are_fed_as_these_and_labels():
    step = classifier("fc1/.*|logits/.*")
    (tensor,) = frontier(step, step.stages[0]).tensors
    split = holding(tensor)
    feed = Feed(step, split)
    assert names(feed) == [tensor.name, "labels:0"]
    features, labels = feed.arrays(SOME)
    assert np.array_equal(features, split.features[tensor.name][SOME])
    assert np.array_equal(labels, LABELS[SOME])


def test_a_step_without_labels_is_fed_with_none_and_with_the_images_where_it_takes_them():
    images, _ = placeholders()
    ends = autoencoder.autoencoder(images)
    step = tx.train_step(images, None, ends["loss"], loss=ends["loss"], train=tx.select("fc.*", "latent/.*", "de.*"))
    assert names(Feed(step, Split(IMAGES))) == ["images:0"]
    feed = Feed(step, dataclasses.replace(holding(ends["flatten"]), labels=None))
    assert names(feed) == ["images:0", ends["flatten"].name]
    assert np.array_equal(feed.arrays(SOME)[0], IMAGES[SOME])


def test_each_stage_is_fed_with_what_it_needs_and_evaluation_with_what_the_last_one_needs():
    step = classifier("fc1/.*|logits/.*", "conv2/.*", "conv1/.*")
    found = [frontier(step, stage).tensors[0] for stage in step.stages]
    split = holding(*found[:2])
    assert [names(Feed(step, split, stage))[0] for stage in step.stages] == [tensor.name for tensor in found]
    assert names(Feed(step, split)) == ["images:0", "labels:0"]


def test_features_of_another_step_are_refused():
    step = classifier("fc1/.*|logits/.*", "conv2/.*")
    early, late = (frontier(step, stage).tensors[0] for stage in step.stages)
    message = (
        f"the examples hold images:0 (20, 16, 16, 1), {early.name} (20, 512), "
        f"and this step needs {late.name} {late.shape}: "
        "they were precomputed for another step; call precompute with this one"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        Feed(step, holding(early))
    Feed(step, holding(early), step.stages[0])


def test_features_of_another_shape_are_refused():
    step = classifier("fc1/.*|logits/.*")
    (tensor,) = frontier(step, step.stages[0]).tensors
    split = Split(IMAGES, LABELS, {tensor.name: np.zeros((20, 7), np.float32)})
    with pytest.raises(DataError, match=rf"{tensor.name} \(20, 7\), and this step needs {tensor.name} \(None, 512\)"):
        Feed(step, split)


# What runs.


def ran(sess, fetches, feeds):
    """Return the names of the ops that one call runs, after all rewrites."""
    options, record = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()
    sess.run(fetches, feeds, options, record)
    return {node.node_name for device in record.step_stats.dev_stats for node in device.node_stats}


def pyramid(images):
    """The shape of VGG: blocks of two convolutions and a pooling, 4 to 12 filters wide; the last block is `conv5`."""
    x, ends = tf.cast(images, tf.float32) / 255, {}
    for block in range(1, 6):
        for number in (1, 2):
            x = layers.conv2d(x, 2 + 2 * block, 3, f"conv{block}_{number}")
        x = ends[f"pool{block}"] = layers.max_pool2d(x, 2, f"pool{block}", padding="SAME")
    return ends


OPTIMIZERS = {
    "adam": tf.train.AdamOptimizer,
    "momentum": lambda learning_rate: tf.train.MomentumOptimizer(learning_rate, 0.9),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("trained", "start"), [(("conv5_.*", "fc.*", "logits/.*"), 4), (("fc.*", "logits/.*"), 5)])
def test_a_step_fed_at_the_frontier_needs_no_image_and_runs_no_frozen_op(trained, start, optimizer):
    images, labels = placeholders()
    ends = pyramid(images)
    x = layers.flatten(ends["pool5"])
    logits = heads.classifier(x, hidden=[6], classes=3, dropout=0.5)
    options = {"optimizer": OPTIMIZERS[optimizer], "clip_norm": 1.0}
    step = tx.train_step(images, labels, logits, train=tx.select(*trained), **options)
    found = frontier(step, step.stages[0])
    assert [tensor.name for tensor in found.tensors] == [(x if start == 5 else ends["pool4"]).name]
    frozen = {op.name for op in found.frozen}
    convolutions = {f"conv{block}_{number}/Conv2D" for block in range(1, start + 1) for number in (1, 2)}
    assert convolutions <= frozen
    stage = step.stages[0]
    with tx.session() as sess:
        (features,) = sess.run(found.tensors, {images: IMAGES})
        others = {labels: LABELS, **stage.feeds}
        for fetches in (stage.apply, list(step.metrics.values()), step.summary, step.probabilities):
            fed = ran(sess, fetches, {found.tensors[0]: features, **others})
            unfed = ran(sess, fetches, {images: IMAGES, **others})
            assert not fed & frozen
            # Convolutions are fused with what follows, and run under its name.
            assert len(unfed & frozen) >= len(convolutions)


@pytest.mark.parametrize("patterns", [("fc1/.*|logits/.*",), ("fc1/.*|logits/.*", "conv2/.*")])
def test_a_step_gives_the_same_whether_it_is_fed_with_images_or_with_features(patterns):
    step = classifier(*patterns, clip_norm=1.0)
    stage = step.stages[-1]
    (tensor,) = frontier(step, stage).tensors
    results = []
    for fed in (False, True):
        with tx.session() as sess:
            values = sess.run(tensor, {step.images: IMAGES})
            features = {tensor.name: values} if fed else None
            feed = Feed(step, Split(IMAGES, LABELS, features), stage, training=True)
            call = sess.make_callable([step.loss, list(step.metrics.values()), stage.apply], feed.tensors)
            losses = [call(*feed.arrays(np.arange(k, k + 8)))[:2] for k in range(12)]
            results.append([losses, sess.run(tf.get_collection("variables"))])
    for unfed, same in zip(tf.nest.flatten(results[0]), tf.nest.flatten(results[1]), strict=True):
        assert unfed.tobytes() == same.tobytes()


def test_rows_of_a_store_are_read_into_memory_where_they_fit(tmp_path):
    values = np.random.default_rng(0).normal(size=(150, 7)).astype(np.float32)
    keys = [f"{number:04}" for number in range(150)]
    table = Store(tmp_path / "store").table("ab", {"tensor": "x:0"}, np.dtype(np.float32))
    table.write(keys, values)
    rows = Rows(table, keys, np.dtype(np.float32)).subset(np.arange(0, 150, 2))
    size = 75 * 7 * 4
    (loaded, other) = in_memory([rows, values], size)
    assert isinstance(loaded, np.ndarray)
    assert loaded.tobytes() == values[::2].tobytes()
    assert other is values
    assert in_memory([rows, rows], 2 * size - 1) == [rows, rows]
    assert in_memory([rows], size - 1) == [rows]
