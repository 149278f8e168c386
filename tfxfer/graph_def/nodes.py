"""The nodes of a GraphDef, before anything of it is in a graph: what computes what, and what a tensor needs.

Nothing here looks at a tf.Graph; of one that is built, `graph.traversal` tells the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph.traversal import PASSING
from tfxfer.tf_private import op_definition


class Needed(NamedTuple):
    """What a tensor needs.

    Attributes:
      nodes: in the order in which they can be computed, but for the ways back of loops.
      dropped: names of the nodes that were only waited for, and are not among them.
    """

    nodes: list[tf.NodeDef]
    dropped: list[str]


class Nodes(Mapping[str, tf.NodeDef]):
    """The nodes of a GraphDef by name."""

    def __init__(self, graph_def: tf.GraphDef) -> None:
        """Index a GraphDef.

        Raises:
          GraphError: two nodes have one name.
        """
        self.graph_def = graph_def
        self._nodes = {node.name: node for node in graph_def.node}
        if len(self._nodes) != len(graph_def.node):
            raise GraphError("the graph is corrupt: several of its nodes have one name")

    def __getitem__(self, name: str) -> tf.NodeDef:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def tensor(self, name: str, *, role: str = "tensor") -> str:
        """Return the full name of a tensor, `NODE:0`, of that or of its node's name.

        Args:
          name: as the user has it.
          role: what the message calls it.

        Raises:
          GraphError: the graph has no such node, and the message gives the nearest; or the node has no such output.
        """
        node, _, output = name.partition(":")
        if node not in self._nodes or not (output or "0").isdigit():
            raise GraphError(f"the graph has no {role} {name!r}{names.did_you_mean(node, self._nodes)}")
        kinds = _kinds(self._nodes[node])
        if kinds is not None and int(output or 0) >= len(kinds):
            raise GraphError(f"the graph has no {role} {name!r}: {node} has {len(kinds)} outputs, counted from 0")
        return f"{node}:{output or 0}"

    def needed(self, tensors: Iterable[str], stops: Collection[str] = ()) -> Needed:
        """Return the nodes from which tensors are computed, without what computes those at which it stops.

        A node that others merely wait for counts if it steers branches and loops, and not if it does something of its
        own, such as updating a moving average or checking a shape.

        Args:
          tensors: full names.
          stops: full names of tensors that are given; their nodes are not among the result.
        """
        done: dict[str, tf.NodeDef] = {}
        seen: set[str] = set()
        dropped: dict[str, None] = {}
        stack = [(node_of(tensor), False) for tensor in tensors if tensor not in stops]
        ways_back: list[str] = []
        while stack or ways_back:
            name, expanded = stack.pop() if stack else (ways_back.pop(), False)
            if expanded:
                done[name] = self._nodes[name]
                continue
            if name in seen:
                continue
            seen.add(name)
            before = list(self._before(name, stops, dropped))
            ways_back += [other for other in before if self._goes_back(other)]
            stack += [(name, True), *((other, False) for other in before if not self._goes_back(other))]
        return Needed(list(done.values()), [name for name in dropped if name not in done])

    def _before(self, name: str, stops: Collection[str], dropped: dict[str, None]) -> Iterator[str]:
        for source in self._nodes[name].input:
            waited = source.startswith("^")
            other = node_of(source)
            if other not in self._nodes:
                raise GraphError(f"the graph is corrupt: {name} takes {source}, which is not in it")
            if waited and not self._steers(other, self._nodes[name]):
                dropped[other] = None
            elif waited or full_name(source) not in stops:
                yield other

    def _steers(self, name: str, waiting: tf.NodeDef) -> bool:
        """Say whether a node waits for another to be in its branch or loop; a constant may do so through a NoOp."""
        op = self._nodes[name].op
        return op in PASSING or (op == "NoOp" and not data_inputs(waiting))

    def _goes_back(self, name: str) -> bool:
        return self._nodes[name].op in ("NextIteration", "RefNextIteration")


def node_of(source: str) -> str:
    """Return the node's name of an input as a NodeDef has it: `NODE`, `NODE:1` or `^NODE`."""
    return source.removeprefix("^").partition(":")[0]


def full_name(source: str) -> str:
    """Return the full name of an input's tensor: `NODE:0` of `NODE`."""
    return source if ":" in source else f"{source}:0"


def data_inputs(node: tf.NodeDef) -> list[str]:
    """Return the full names of the tensors that a node takes."""
    return [full_name(source) for source in node.input if not source.startswith("^")]


def depending(nodes: Sequence[tf.NodeDef], tensors: Collection[str]) -> list[tf.NodeDef]:
    """Return those of some nodes, in the order of `Nodes.needed`, whose values come from any of the tensors."""
    reached: set[str] = set()
    result: list[tf.NodeDef] = []
    for node in nodes:
        inputs = data_inputs(node)
        if any(source in tensors or node_of(source) in reached for source in inputs):
            reached.add(node.name)
            result.append(node)
    return result


def dtype_of(node: tf.NodeDef, output: int = 0) -> tf.DType | None:
    """Return the dtype of an output of a node by its definition; None where that does not tell."""
    kinds = _kinds(node) or []
    return tf.as_dtype(kinds[output]) if output < len(kinds) and kinds[output] else None


def _kinds(node: tf.NodeDef) -> list[Any] | None:
    """Return the DataType of each output of a node, 0 where nothing tells; None of an op that is not known."""
    definition = op_definition(node.op)
    if definition is None:
        return None
    defaults = {attribute.name: attribute.default_value for attribute in definition.attr}
    kinds: list[Any] = []
    for arg in definition.output_arg:
        count = node.attr[arg.number_attr].i if arg.number_attr else 1
        if arg.type_list_attr:
            kinds += list(node.attr[arg.type_list_attr].list.type)
        else:
            # An exported graph leaves out what is as by default, such as the T of a MaxPool.
            there = node.attr if arg.type_attr in node.attr else defaults
            kinds += [arg.type or there[arg.type_attr].type] * count
    return kinds
