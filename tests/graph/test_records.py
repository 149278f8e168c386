"""Records of layers: read again as they were made, also from a MetaGraph that was imported into a scope."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.graph import layers, normalization, preprocessing, records

SPEC = tx.InputSpec("tiny", "a test", (8, 8), "RGB", mean=(1.0, 2.0, 3.0), scale=(1.0, 1.0, 1.0))


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_a_record_has_the_scope_that_it_was_imported_into(graph, tmp_path):
    with tf.Graph().as_default():
        records.add("of_mine", {"name": "a/b", "more": ["{", 1]})
        tf.no_op("nothing")
        tf.train.export_meta_graph(str(tmp_path / "m.meta"))
    records.add("of_mine", {"name": "c"})
    for scope in ("teacher", "in/deep"):
        tf.train.import_meta_graph(str(tmp_path / "m.meta"), import_scope=scope)
    assert records.read(graph, "of_mine") == [
        ("", {"name": "c"}),
        ("teacher/", {"name": "a/b", "more": ["{", 1]}),
        ("in/deep/", {"name": "a/b", "more": ["{", 1]}),
    ]
    assert records.read(graph, "of_nobody") == []


def write_teacher(prefix):
    """Write the MetaGraph of a network with all layers that record something of themselves."""
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 3], "images")
        x = layers.conv2d(preprocessing.preprocess(images, SPEC), 4, 3, "conv", activation=None)
        x = tf.reduce_mean(tf.nn.relu(layers.batch_norm(x, "norm")), [1, 2])
        tf.identity(tx.models.heads.normalize(x, kind="l2"), "codes")
        tf.train.export_meta_graph(f"{prefix}.meta")


def steps(prefix, train):
    """Import the teacher, put a head on it; return the step of training."""
    images, labels = tf.placeholder(tf.uint8, [None, 8, 8, 3]), tf.placeholder(tf.int64, [None])
    tx.import_meta_graph(str(prefix), "teacher", input_map={"images:0": images})
    codes = tf.get_default_graph().get_tensor_by_name("teacher/codes:0")
    return tx.train_step(images, labels, layers.dense(codes, 3, "logits", activation=None), train=train)


@pytest.mark.parametrize(("train", "moves"), [("logits/.*", False), ("logits/.*|teacher/norm/gamma", True)])
def test_a_network_of_ours_is_trained_in_the_scope_that_it_was_imported_into(tmp_path, graph, train, moves):
    write_teacher(tmp_path / "m")
    step = steps(tmp_path / "m", train)
    [norm] = layers.batch_norms(graph)
    assert norm.statistics == ["teacher/norm/moving_mean", "teacher/norm/moving_variance"]
    assert preprocessing.input_specs(graph) == [SPEC]
    assert normalization.normalizations(graph) == []
    rng = np.random.default_rng(0)
    parts = [(rng.integers(0, 255, (16, 8, 8, 3)).astype(np.uint8), np.arange(16) % 3) for _ in range(3)]
    with tx.session() as sess:
        statistics = [variable for variable in tf.global_variables() if variable.op.name in norm.statistics]
        before = sess.run(statistics)
        tx.fit(sess, step, tx.Data(*parts, class_names=("a", "b", "c")), epochs=1, batch_size=8, logdir=tmp_path / "r")
        after = sess.run(statistics)
    assert [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [moves, moves]
