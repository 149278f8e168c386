"""Bodies of functions in the place of their calls, with TensorFlow itself as the oracle."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.graph_def.inlining import calls, inline, short_names


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


@pytest.mark.slow
def test_functions_of_another_process_are_put_in_their_place(tmp_path):
    graph_def = traced()
    (tmp_path / "graph.pb").write_bytes(graph_def.SerializeToString())
    code = (
        "import sys, tensorflow.compat.v1 as tf; from tfxfer.graph_def.inlining import inline; "
        "graph = tf.GraphDef.FromString(open(sys.argv[1], 'rb').read()); "
        "open(sys.argv[1], 'wb').write(inline(graph).SerializeToString())"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "graph.pb")], check=True)
    flat = tf.GraphDef.FromString((tmp_path / "graph.pb").read_bytes())
    assert [node.name for node in flat.node] == [node.name for node in inline(graph_def).node]


def test_what_waits_for_a_call_waits_for_what_the_call_does():
    with tf.Graph().as_default() as graph:
        counter = tf.get_variable("counter", [], initializer=tf.zeros_initializer(), use_resource=True)

        @tf2.function
        def count(a):
            counter.assign_add(1.0)
            return a

        called = count(tf.placeholder(tf.float32, [], "x"))
        with tf.control_dependencies([called]):
            tf.identity(counter.read_value(), "y")
    with tf.Graph().as_default():
        tf.import_graph_def(inline(graph.as_graph_def()), name="")
        with tf.Session() as sess:
            sess.run("counter/Assign")
            assert [sess.run("y:0", {"x:0": 0.0}) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("large", [False, True])
def test_a_call_in_a_branch_that_is_not_taken_gives_nothing(control_flow, large):
    @tf2.function(autograph=False)
    def half(x):
        return tf.constant(0.5)

    @tf2.function(autograph=False)
    def outer(x):
        return half(x) + half(tf.constant(1.0)), tf.constant(0.25)

    def inner(x):
        return tf.cond(x[0, 0] > -9, lambda: outer(x)[0] + outer(x)[1], lambda: tf.reduce_sum(x))

    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 6], "x")
        tf.cond(tf.reduce_sum(x) > (-100 if large else 100), lambda: inner(x), lambda: tf.reduce_max(x) + 7, name="y")
        tf.while_loop(lambda v: v < half(v) * 8, lambda v: v + half(v), [x[0, 0]], name="z")
        before = graph.as_graph_def()
    ends = [next(f"{node.name}:0" for node in before.node[::-1] if node.name.startswith(scope)) for scope in "yz"]
    # TensorFlow itself, which inlines them too, is wrong about y.
    assert run(inline(before), *ends) == [1.25 if large else 15.0, 4.0]


def test_a_call_on_another_device_stays():
    @tf2.function(autograph=False)
    def double(x):
        return x * 2.0

    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [2, 6], "x")
        device = tf.constant("/job:localhost/replica:0/task:0/device:CPU:0")
        function = double.get_concrete_function(x)
        function.add_to_graph()
        [there] = tf.raw_ops.RemoteCall(target=device, args=[x], Tout=[tf.float32], f=function)
        tf.add(there, double(x), name="y")
        before = graph.as_graph_def()
    after = inline(before)
    assert [node.op for node in after.node if "Call" in node.op] == ["RemoteCall"]
    np.testing.assert_array_equal(run(after, "y:0"), run(before, "y:0"))


def test_functions_that_call_each_other_twice_each_are_refused_before_they_are_written_out():
    graph_def = tf.GraphDef(node=[tf.NodeDef(name="call", op="f0")])
    for number in range(40):
        function = graph_def.library.function.add()
        function.signature.name = f"f{number}"
        function.node_def.extend([tf.NodeDef(name=name, op=f"f{number + 1}") for name in "ab"])
    with pytest.raises(GraphError, match=r"call each other so often that they are 1,099,511,627,776 ops"):
        inline(graph_def)
