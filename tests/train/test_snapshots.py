"""Snapshots: values that no later step changes, as a checkpoint has them; and what none is taken of."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.train import snapshots
from tfxfer.weights.writers import bundle


@pytest.mark.parametrize("resource", [True, False])
def test_values_stay_as_they_were_when_the_variables_change(resource):
    with tf.Graph().as_default(), tf.Session() as sess:
        with tf.variable_scope("", use_resource=resource, partitioner=tf.fixed_size_partitioner(3)):
            split = tf.get_variable("split", [10, 3], initializer=tf.ones_initializer())
        with tf.variable_scope("", use_resource=resource):
            large = tf.get_variable("large", [1000, 1000], initializer=tf.zeros_initializer())
        variables = [*split, large]
        apply = tf.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(large) + tf.add_n([tf.reduce_sum(v) for v in split]))
        add = [tf.assign_add(variable, tf.ones_like(variable)) for variable in variables]
        sess.run(tf.global_variables_initializer())
        assert snapshots.can_take(sess, tf.global_variables())
        taken = snapshots.take(sess, tf.global_variables())
        sess.run(apply)
        sess.run(add)
        assert sess.run(large)[0, 0] != 0
        assert not taken["large"].read().any()
        assert not taken["large/Adam"].read().any()
        assert np.array_equal(taken["split"].read(), np.ones([10, 3]))
        assert taken["split/Adam"].shape == (10, 3)


def test_every_kind_of_variable_is_written_as_the_saver_writes_it_byte_for_byte(tmp_path):
    values = {
        "text": np.array([b"a", b"", b"long" * 100], object),
        "word": b"one",
        "flag": True,
        "count": np.int64(-7),
        "none": np.zeros((0, 4), np.float32),
        "half": np.float16([1, 2]),
        "brain": np.array([1, 2], ml_dtypes.bfloat16),
        "complex": np.complex64([1 + 2j]),
        "matrix": np.random.default_rng(0).normal(size=(30, 50)),
    }
    with tf.Graph().as_default(), tf.Session() as sess:
        for name, value in values.items():
            tf.get_variable(name, initializer=tf.constant(value), trainable=False)
        variables = tf.global_variables()
        sess.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(sess, str(tmp_path / "saver"), write_meta_graph=False, write_state=False)
        assert snapshots.can_take(sess, variables)
        bundle.write(bundle.parts(tmp_path / "ours"), snapshots.take(sess, variables), alignment=1)
        ours, theirs = (tmp_path / f"{name}.data-00000-of-00001" for name in ("ours", "saver"))
        assert ours.read_bytes() == theirs.read_bytes()
        sess.run(tf.global_variables_initializer())
        tf.train.Saver(variables).restore(sess, str(tmp_path / "ours"))
        for name, value in values.items():
            [variable] = [v for v in variables if v.op.name == name]
            assert np.array_equal(sess.run(variable), value)


def test_none_is_taken_of_what_is_too_large_or_is_not_known_well_enough(monkeypatch):
    with tf.Graph().as_default(), tf.Session() as sess:
        quantized = tf.get_variable("quantized", initializer=tf.zeros([3], tf.qint8), trainable=False)
        shapeless = tf.Variable(np.zeros(3, np.float32), shape=tf.TensorShape(None), validate_shape=False)
        split = tf.get_variable("split", [10, 3], partitioner=tf.fixed_size_partitioner(2))
        plain = tf.get_variable("plain", [10])
        assert snapshots.can_take(sess, [plain, *split])
        for variables in ([quantized], [shapeless], list(split)[:1]):
            assert not snapshots.can_take(sess, [plain, *variables])
        monkeypatch.setattr(snapshots, "MOST_BYTES", 39)
        assert not snapshots.can_take(sess, [plain])
