"""A part of a graph in a graph of its own, with the values of a session."""

from __future__ import annotations

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.store import graph_copy


def test_its_variables_have_the_values_of_the_session_or_those_that_are_named():
    with tf.Graph().as_default() as graph:
        names = {"resource": True, "reference": False, "named": True}
        first, second, third = (
            tf.get_variable(name, initializer=tf.zeros([2]), use_resource=kind) for name, kind in names.items()
        )
        word = tf.get_variable("word", initializer=tf.constant(["a", "b"]), use_resource=True)
        total = tf.add_n([first, second, third], name="total")
        words = tf.identity(word, name="words")
        change = [tf.assign(first, [1.0, 2.0]), tf.assign(second, [10.0, 20.0]), tf.assign(third, [5.0, 5.0])]
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            sess.run(change)
            kept = {op.name for op in graph.get_operations()}
            graph_def = graph_copy.pruned(graph_copy.subgraph(graph, kept), [total.name, words.name])
            arrays = {"named": np.array([100.0, 200.0], np.float32)}
            with graph_copy.opened(graph_def, tf.ConfigProto(), sess, arrays) as other:
                assert other.run("total:0").tolist() == [111.0, 222.0]
                assert other.run("words:0").tolist() == [b"a", b"b"]
                assert tf.get_default_graph() is graph
                assert tf.get_default_session() is sess
            assert sess.run(total).tolist() == [16.0, 27.0]


def test_what_is_only_waited_for_is_kept_and_all_else_is_not():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [], "x")
        checked = tf.no_op("checked")
        tf.negative(x, "unread")
        with tf.control_dependencies([checked]):
            tf.identity(x, "y")
        graph_def = graph_copy.pruned(graph.as_graph_def(), ["y:0"])
    assert [node.name for node in graph_def.node] == ["x", "checked", "y"]
