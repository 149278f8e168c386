"""Bodies of functions in the place of their calls, against TensorFlow that calls them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

from tfxfer.errors import GraphError
from tfxfer.networks.inlining import calls, inline


def run(graph_def, fetch="y:0", **feeds):
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
        with tf.Session() as sess:
            return sess.run(fetch, {f"{name}:0": value for name, value in feeds.items()})


def nested():
    @tf.function
    def inner(a, b):
        return a * 2.0 + b, a

    @tf.function
    def outer(a, b):
        first, second = inner(a, b)
        third, _ = inner(second, first)
        return third, b

    with tf.Graph().as_default() as graph:
        x, z = (tf.placeholder(tf.float32, [None], name) for name in "xz")
        first, second = outer(x, z)
        tf.identity(first - second, "y")
    return graph.as_graph_def()


def test_calls_within_calls_give_the_same_and_every_op_has_a_name():
    graph_def = nested()
    assert calls(graph_def)
    flat = inline(graph_def)
    assert not calls(flat)
    feeds = {"x": np.float32([1, 2]), "z": np.float32([5, 7])}
    np.testing.assert_array_equal(run(flat, **feeds), run(graph_def, **feeds))
    names = [node.name for node in flat.node]
    assert len(names) == len(set(names))
    assert any(name.endswith("/mul") and "PartitionedCall/" in name for name in names)


def test_functions_of_another_process_are_put_in_their_place(tmp_path):
    graph_def = nested()
    (tmp_path / "graph.pb").write_bytes(graph_def.SerializeToString())
    code = (
        "import sys, tensorflow.compat.v1 as tf; from tfxfer.networks.inlining import inline; "
        "graph = tf.GraphDef.FromString(open(sys.argv[1], 'rb').read()); "
        "open(sys.argv[1], 'wb').write(inline(graph).SerializeToString())"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "graph.pb")], check=True)
    flat = tf.GraphDef.FromString((tmp_path / "graph.pb").read_bytes())
    assert [node.name for node in flat.node] == [node.name for node in inline(graph_def).node]


def test_a_name_that_is_there_already_is_not_taken_twice():
    graph_def = nested()
    call = calls(graph_def)[0].name
    taken = next(node.name for node in inline(graph_def).node if node.name.startswith(f"{call}/"))
    graph_def.node.add(name=taken, op="NoOp")
    names = [node.name for node in inline(graph_def).node]
    assert len(names) == len(set(names))
    assert f"{taken}_1" in names


def test_old_functions_whose_name_is_an_op_are_calls_too():
    @function.Defun(tf.float32)
    def twice(a):
        return a * 2.0

    with tf.Graph().as_default() as graph:
        tf.identity(twice(tf.placeholder(tf.float32, [None], "x")), "y")
    flat = inline(graph.as_graph_def())
    assert not calls(flat)
    np.testing.assert_array_equal(run(flat, x=np.float32([1, 2])), [2, 4])


def test_what_waits_for_a_call_waits_for_what_the_call_does():
    with tf.Graph().as_default() as graph:
        counter = tf.get_variable("counter", [], initializer=tf.zeros_initializer(), use_resource=True)

        @tf.function
        def count(a):
            counter.assign_add(1.0)
            return a

        called = count(tf.placeholder(tf.float32, [], "x"))
        with tf.control_dependencies([called]):
            tf.identity(counter.read_value(), "y")
    flat = inline(graph.as_graph_def())
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(flat, name="")
        with tf.Session() as sess:
            sess.run("counter/Assign")
            assert [sess.run("y:0", {"x:0": 0.0}) for _ in range(3)] == [1, 2, 3]


def test_a_function_that_calls_itself_is_refused():
    graph_def = nested()
    for each in graph_def.library.function:
        for node in each.node_def:
            if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
                node.attr["f"].func.name = each.signature.name
    with pytest.raises(GraphError, match="call themselves"):
        inline(graph_def)
