"""Bodies of functions in the place of their calls, with TensorFlow itself as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.networks.inlining import calls, inline, short_names


def traced() -> tf.GraphDef:
    """Return a graph of calls within calls: several outputs, an argument that is handed on, a branch that calls."""

    @tf2.function
    def inner(x, y):
        parts = tf.split(x, 3, axis=1, name="parts")
        return y, parts[2], tf.concat([parts[0], parts[1] * y], 1, name="joined")

    @tf2.function
    def outer(x):
        handed, last, joined = inner(x, tf.constant(3.0))
        chosen = tf2.cond(tf.reduce_sum(x) > 0, lambda: inner(x, handed)[1], lambda: last)
        return joined + handed, chosen

    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 6], name="x")
        first, second = outer(x)
        tf.add(tf.reduce_sum(first), tf.reduce_sum(second), name="total")
        tf.identity(second, name="second")
        return graph.as_graph_def()


def run(graph_def: tf.GraphDef, *tensors: str) -> list[np.ndarray]:
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.import_graph_def(graph_def, name="")
        return sess.run(list(tensors), {"x:0": np.arange(12, dtype=np.float32).reshape(2, 6) - 3})


def test_values_stay_and_no_call_is_left():
    before = traced()
    after = inline(before)
    assert calls(before)
    assert not calls(after)
    call = calls(before)[0].name
    ends = ("total:0", "second:0", f"{call}:0", f"{call}:1")
    for expected, got in zip(run(before, *ends), run(after, *ends), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_ops_within_have_names_and_short_ones_where_these_are_unique():
    graph_def = inline(traced())
    short = short_names(graph_def.node)
    assert short["joined"].endswith("PartitionedCall/PartitionedCall/joined")
    assert "x" not in short
    assert "total" not in short
    [joined] = run(graph_def, f"{short['joined']}:0")
    x = np.arange(12, dtype=np.float32).reshape(2, 6) - 3
    np.testing.assert_array_equal(joined, np.concatenate([x[:, :2], x[:, 2:4] * 3], 1))


def test_of_two_calls_of_one_function_nothing_is_short():
    @tf2.function
    def double(x):
        return tf.multiply(x, 2, name="doubled")

    with tf.Graph().as_default() as graph:
        double(double(tf.placeholder(tf.float32, [2, 6], name="x")))
        graph_def = inline(graph.as_graph_def())
    assert sum(node.name.endswith("/doubled") for node in graph_def.node) == 2
    assert "doubled" not in short_names(graph_def.node)


def test_of_the_library_only_what_branches_need_is_kept():
    before = traced()
    after = inline(before)
    kept = {function.signature.name for function in after.library.function}
    assert kept < {function.signature.name for function in before.library.function}
    assert any("cond_true" in name for name in kept)
    assert not any("outer" in name for name in kept)


def test_functions_that_call_themselves_are_refused_by_name():
    graph_def = traced()
    [function] = [each for each in graph_def.library.function if "outer" in each.signature.name]
    [node] = [each for each in function.node_def if each.op == "PartitionedCall"]
    node.attr["f"].func.name = function.signature.name
    with pytest.raises(GraphError, match=r"functions of the graph call themselves: .*outer"):
        inline(graph_def)
