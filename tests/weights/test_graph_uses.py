"""What takes the constants of a graph."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

from tests import tables
from tfxfer.errors import WeightsError
from tfxfer.weights import graph_uses
from tfxfer.weights.graph_uses import Room, Uses


def uses_of(graph: tf.Graph) -> Uses:
    return Uses([node.SerializeToString() for node in graph.as_graph_def().node], Room("t"))


def test_what_takes_a_constant_is_found_behind_ops_that_hand_it_on():
    with tf.Graph().as_default() as graph:
        for name in ("computed", "assigned", "looked", "quantized", "unused"):
            tf.constant([1.0, 2.0], name=name)

        def behind(name):
            return tf.identity(tf.reshape(tf.cast(graph.get_tensor_by_name(f"{name}:0"), tf.float32), [2]))

        tf.nn.relu(behind("computed"))
        tf.assign(tf.Variable(0.0, shape=tf.TensorShape(None), use_resource=False, name="v"), behind("assigned"))
        tf.raw_ops.Shape(input=behind("looked"))
        tf.quantization.fake_quant_with_min_max_vars(behind("quantized"), 0.0, 1.0)
    uses = uses_of(graph)
    assert b"computed" in uses.computed
    assert b"assigned" in uses.assigned - uses.computed
    assert b"looked" in uses.looked - uses.computed
    assert b"quantized" in uses.quantized
    assert b"computed" not in uses.quantized
    assert b"unused" in uses.constants
    assert not any(b"unused" in taken for taken in (uses.computed, uses.assigned, uses.looked, uses.read))
    assert uses.variables == {b"v": b"VariableV2"}


def test_ops_that_hand_on_in_a_circle_end():
    nodes = [
        tables.field(1, name) + tables.field(2, op) + tables.field(3, source)
        for name, op, source in [(b"a", b"Merge", b"b"), (b"b", b"NextIteration", b"a"), (b"c", b"Relu", b"a:0")]
    ]
    assert Uses(nodes, Room("t")).computed == {b"a", b"b"}


def test_a_loop_takes_its_constants(control_flow):
    with tf.Graph().as_default() as graph:
        kernel = tf.constant([[1.0, 2.0], [3.0, 4.0]], name="kernel")
        tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.matmul(x, kernel)), [0, tf.ones([2, 2])])
    assert b"kernel" in uses_of(graph).computed


def test_more_fields_than_anybody_can_wait_for_are_refused(monkeypatch):
    monkeypatch.setattr(graph_uses, "MAX_FIELDS", 30)
    node = tables.field(1, b"x") + tables.field(2, b"Relu")
    Uses([node] * 10, Room("t"))
    with pytest.raises(WeightsError, match="t is refused: its nodes have more than 30 fields; take out of it what"):
        Uses([node] * 11, Room("t"))
    with pytest.raises(WeightsError, match="t is refused: its nodes have more than 30 fields"):
        Uses([node + tables.field(3, b"i") * 40], Room("t"))
