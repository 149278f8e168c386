"""A part of a graph in a graph of its own, whose variables have the values that they have in a session."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.formats.buffers import owned
from tfxfer.graph.traversal import VARIABLES
from tfxfer.graph_def.nodes import node_of
from tfxfer.store.fingerprint import read_in_groups, value_of


def subgraph(graph: tf.Graph, kept: Collection[str]) -> tf.GraphDef:
    """Return some ops of a graph, and all its functions."""
    whole = graph.as_graph_def()
    part = tf.GraphDef(versions=whole.versions, library=whole.library)
    part.node.extend(node for node in whole.node if node.name in kept)
    for node in part.node:
        node.attr.pop("_class", None)  # Beside which op it is to lie, which need not be there.
    return part


def pruned(graph_def: tf.GraphDef, tensors: Sequence[str]) -> tf.GraphDef:
    """Return a graph without the nodes that are not run for some tensors."""
    nodes = {node.name: node for node in graph_def.node}
    kept: set[str] = set()
    stack = list(tensors)
    while stack:
        name = node_of(stack.pop())
        if name not in kept:
            kept.add(name)
            stack += nodes[name].input
    part = tf.GraphDef(versions=graph_def.versions, library=graph_def.library)
    part.node.extend(node for node in graph_def.node if node.name in kept)
    return part


def assignment(variable: tf.Operation) -> tuple[tf.Tensor, tf.Operation]:
    """Return a placeholder and the op that puts what it is fed with into a variable."""
    (handle,) = variable.outputs
    value = tf.placeholder(variable.get_attr("dtype"))
    if handle.dtype == tf.resource:
        return value, tf.raw_ops.AssignVariableOp(resource=handle, value=value)
    return value, tf.assign(handle, value, validate_shape=False).op


@contextlib.contextmanager
def opened(
    graph_def: tf.GraphDef, config: tf.ConfigProto, sess: tf.Session, arrays: Mapping[str, np.ndarray]
) -> Iterator[tf.Session]:
    """Open a session on a graph, with values for all its variables; the session ends with the block.

    Args:
      graph_def: the graph.
      config: how the session is opened.
      sess: where variables of the same names have their values.
      arrays: the values of those that `sess` does not have, by name.

    Raises:
      GraphError: nothing in the graph of `sess` reads a variable as a whole.
    """
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
        loads = {op.name: assignment(op) for op in graph.get_operations() if op.type in VARIABLES}
    graph.finalize()
    with contextlib.closing(tf.Session(graph=graph, config=config)) as other:
        rest = {name: value_of(sess.graph.get_operation_by_name(name)) for name in loads if name not in arrays}
        for values in itertools.chain([arrays], read_in_groups(sess, rest)):
            pairs = [(*loads[name], array) for name, array in values.items()]
            other.run([assign for _, assign, _ in pairs], {place: _owned(array) for place, _, array in pairs})
        yield other


def _owned(value: Any) -> np.ndarray:
    """Return an array whose memory a variable may take over; strings are copied anyway."""
    array = np.asarray(value)
    return array if array.dtype == object else owned(array)
