"""Walks over the nodes of a GraphDef, against the tf.Graph that it was made of."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

from tests.networks.made import write_trained
from tfxfer.errors import GraphError
from tfxfer.graph import traversal
from tfxfer.graph_def.nodes import Nodes, data_inputs, depending, dtype_of, node_of


@pytest.fixture(scope="module")
def graph_def(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    write_trained(str(folder / "model.ckpt"))
    return tf.MetaGraphDef.FromString((folder / "model.ckpt.meta").read_bytes()).graph_def


@pytest.fixture(scope="module")
def graph(graph_def):
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    return graph


@pytest.mark.parametrize("name", ["pool", "logits", "relu1", "Mean"])
def test_what_a_tensor_needs_is_what_computes_it_in_an_order_in_which_it_can_be_computed(graph_def, graph, name):
    needed = Nodes(graph_def).needed([f"{name}:0"])
    expected = traversal.behind([graph.get_tensor_by_name(f"{name}:0")])
    assert {node.name for node in needed.nodes} == {op.name for op in expected}
    done: set[str] = set()
    for node in needed.nodes:
        assert {node_of(source) for source in data_inputs(node)} <= done
        done.add(node.name)


def test_what_computes_a_given_tensor_is_not_needed(graph_def):
    nodes = [node.name for node in Nodes(graph_def).needed(["logits:0"], {"pool:0"}).nodes]
    assert sorted(nodes) == ["fc/kernel", "logits", "logits/ReadVariableOp"]


def test_what_is_merely_waited_for_is_told_and_what_steers_branches_is_needed():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [], "x")
        counter = tf.get_variable("counter", [], initializer=tf.zeros_initializer())
        with tf.control_dependencies([tf.assign_add(counter, 1.0, name="count"), tf.identity(x, "steered")]):
            tf.identity(x, "y")
    needed = Nodes(graph.as_graph_def()).needed(["y:0"])
    assert [node.name for node in needed.nodes] == ["x", "steered", "y"]
    assert needed.dropped == ["AssignAddVariableOp"]


def test_a_loop_comes_whole_and_ends():
    tf.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float32, [], "x")
            y = tf.while_loop(lambda v: v < 10, lambda v: v * 2, [x])
            tf.identity(y, "y")
    finally:
        tf.enable_control_flow_v2()
    kinds = {node.op for node in Nodes(graph.as_graph_def()).needed(["y:0"]).nodes}
    assert {"Enter", "Merge", "LoopCond", "Switch", "NextIteration", "Exit"} <= kinds


def test_dtypes_are_those_of_the_graph(graph_def, graph):
    for node in graph_def.node:
        for output, tensor in enumerate(graph.get_operation_by_name(node.name).outputs):
            assert dtype_of(node, output) == tensor.dtype.base_dtype, node.name


def test_what_depends_on_a_tensor_is_what_its_value_enters(graph_def):
    nodes = Nodes(graph_def).needed(["logits:0"]).nodes
    assert [node.name for node in depending(nodes, {"pool:0"})] == ["logits"]


def test_a_name_that_is_not_there_is_refused_with_the_nearest_and_twins_are(graph_def):
    nodes = Nodes(graph_def)
    assert nodes.tensor("pool") == "pool:0"
    for wrong in ("poool", "pool:x"):
        with pytest.raises(GraphError, match=r"no endpoint '" + wrong):
            nodes.tensor(wrong, role="endpoint")
    twins = tf.GraphDef(node=[graph_def.node[0], graph_def.node[0]])
    with pytest.raises(GraphError, match="several of its nodes have one name"):
        Nodes(twins)
    with pytest.raises(GraphError, match="takes gone, which is not in it"):
        Nodes(tf.GraphDef(node=[tf.NodeDef(name="a", op="Identity", input=["gone"])])).needed(["a:0"])
