"""MetaGraphs that are imported apart from one another, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError, WeightsError


@pytest.fixture(params=[True, False], ids=["resource", "reference"])
def meta(request, tmp_path):
    """The prefix of a checkpoint with its MetaGraph: y = x * w, trained by Adam, with a branch that reads w too."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [2], "x")
        w = tf.get_variable("w", initializer=np.float32([3, 4]), use_resource=request.param)
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: x * w, lambda: -x * w)
        tf.identity(y, "y")
        tf.train.AdamOptimizer().minimize(tf.reduce_sum(y))
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            return tf.train.Saver().save(sess, str(tmp_path / "m"))


def test_two_copies_hold_their_own_values_and_answer_by_them(meta):
    with tf.Graph().as_default() as graph:
        x = tf.constant([1.0, 10.0])
        tx.import_meta_graph(meta, "teacher", input_map={"x:0": x})
        tx.import_meta_graph(f"{meta}.meta", "student/", input_map={"x:0": x})
        plan = tx.plan("teacher/w", tx.open_weights(meta, rename=[("^", "teacher/")]))
        start = np.float32([7, 8])
        (student,) = tx.select("student/w")
        with tx.session(plan) as sess:
            sess.run(student.initializer, {student.initializer.inputs[1]: start})
            ends = [graph.get_tensor_by_name(f"{scope}/y:0") for scope in ("teacher", "student")]
            assert [value.tolist() for value in sess.run(ends)] == [[3, 40], [7, 80]]


def test_the_saver_of_an_import_restores_its_copy_alone(meta):
    with tf.Graph().as_default(), tf.Session() as sess:
        savers = [tx.import_meta_graph(meta, scope) for scope in ("a", "b")]
        savers[1].restore(sess, meta)
        a, b = (variable for variable in tf.global_variables() if variable.op.name in ("a/w", "b/w"))
        assert not sess.run(tf.is_variable_initialized(a))
        assert sess.run(b).tolist() == [3, 4]


def test_what_cannot_be_imported_is_refused(meta, tmp_path):
    (tmp_path / "broken.meta").write_bytes(b"\xff\xff\xff")
    with tf.Graph().as_default():
        with pytest.raises(WeightsError, match=r"absent\.meta cannot be read: No such file"):
            tx.import_meta_graph(tmp_path / "absent", "a")
        with pytest.raises(WeightsError, match=r"broken\.meta is not a MetaGraph"):
            tx.import_meta_graph(tmp_path / "broken", "a")
        with pytest.raises(GraphError, match="wants a scope"):
            tx.import_meta_graph(meta, "")
        tx.import_meta_graph(meta, "a")
        with pytest.raises(GraphError, match="the scope a is in the graph already; import into another"):
            tx.import_meta_graph(meta, "a")
