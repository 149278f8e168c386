"""What a graph computes, as a digest in which no name of an op and no value of a variable counts.

Variables enter by name, shape and dtype, since a checkpoint restores them so. Two graphs of one digest do the same with
the same variables; another activation, padding, rate or seed gives another digest, though all shapes agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.graph.traversal import VARIABLES, WAYS_BACK

# Attributes that say where an op lies or how it is displayed, and not what it computes; a Python function's token is a
# number of this process.
_IDLE = {"_XlaMustCompile", "_class", "_gradient_op_type", "_output_shapes", "container", "debug_name", "frame_name",
         "parallel_iterations", "shared_name", "stack_name", "tensor_array_name", "token"}  # fmt: skip


class Structure:
    """The digests of what the ops of a graph compute; the graph is read once."""

    def __init__(self, graph: tf.Graph) -> None:
        """Read the graph as it is now."""
        definition = graph.as_graph_def()
        self._nodes = {node.name: node for node in definition.node}
        self._functions = FunctionDigests({f.signature.name: f for f in definition.library.function})
        self._own: dict[str, list[Any]] = {}

    def digest(self, fetches: Iterable[tf.Tensor | tf.Operation], leaves: Iterable[tf.Tensor] = ()) -> str:
        """Return the digest of what is computed for the fetches, control dependencies and all that is run for them.

        Args:
          fetches: in an order that counts.
          leaves: tensors that are known otherwise, in an order that counts: what computes them does not enter.

        Returns:
          Hexadecimal digits.
        """
        done = {tensor.op.name: f"leaf {number}" for number, tensor in enumerate(leaves)}
        places = [(fetch.op.name, fetch.value_index) if hasattr(fetch, "op") else (fetch.name, -1) for fetch in fetches]
        return hash_parts([(_folded(name, self._nodes, done, self._combine), index) for name, index in places])

    def _combine(self, node: Any, inputs: list[str], waited: list[str]) -> str:
        if node.name not in self._own:  # a constant may be large, and is behind many fetches
            self._own[node.name] = self._own_part(node)
        return hash_parts(self._own[node.name], inputs, sorted(set(waited)))

    def _own_part(self, node: Any) -> list[Any]:
        if node.op in VARIABLES:
            return ["variable", node.name, _text(node.attr["shape"]), _text(node.attr["dtype"])]
        return [self._functions.digest(node.op), self._functions.attributes(node.attr)]


class FunctionDigests:
    """Digests of the functions of a graph; what they are called does not enter."""

    def __init__(self, library: Mapping[str, Any]) -> None:
        """Take FunctionDefs by name."""
        self._library = library
        self._digests: dict[str, str] = {}

    def digest(self, name: str) -> str:
        """Return the digest of a function, or the name itself where that is an op's."""
        if name not in self._digests:
            self._digests[name] = name  # What calls itself is known by its name within.
            self._digests[name] = self._body(self._library[name]) if name in self._library else name
        return self._digests[name]

    def attributes(self, attributes: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return what stands for the attributes of an op; functions among them go by their digests."""
        return [(name, self._attribute(attributes[name])) for name in sorted(set(attributes) - _IDLE)]

    def _attribute(self, value: Any) -> str:
        functions = [f.name for f in (value.func, *value.list.func) if f.name]
        return " ".join(map(self.digest, functions)) if functions else _text(value)

    def _body(self, function: Any) -> str:
        nodes = {node.name: node for node in function.node_def}
        done = {arg.name: f"argument {number} {arg.type}" for number, arg in enumerate(function.signature.input_arg)}

        def combine(node: Any, inputs: list[str], waited: list[str]) -> str:
            return hash_parts(self.digest(node.op), self.attributes(node.attr), inputs, sorted(set(waited)))

        returned = [function.ret[arg.name] for arg in function.signature.output_arg]
        run = sorted({function.control_ret[name] for name in function.signature.control_output})
        outputs = [(_folded(_owner(text), nodes, done, combine), text.partition(":")[2]) for text in returned]
        return hash_parts("function", outputs, sorted(_folded(name, nodes, done, combine) for name in run))


def _folded(root: str, nodes: Mapping[str, Any], done: dict[str, str], combine: Any) -> str:
    """Return what `combine` makes of a node and of what it made of all before it; `done` is filled on the way.

    A loop of TensorFlow 1 leads back to where it begins. There the way back is left out; what goes round the loop is
    folded by itself, with the place that it comes back to, and enters beside the root.
    """
    loops: list[tuple[str, str]] = []
    _fill(root, nodes, done, combine, loops)
    rounds = []
    while loops:
        merge, back = loops.pop()
        _fill(back, nodes, done, combine, loops)
        rounds.append(hash_parts(done[merge], done[back]))
    return hash_parts(done[root], sorted(rounds)) if rounds else done[root]


def _fill(
    root: str, nodes: Mapping[str, Any], done: dict[str, str], combine: Any, loops: list[tuple[str, str]]
) -> None:
    stack = [(root, False)]
    while stack:
        name, expanded = stack.pop()
        if name in done:
            continue
        node = nodes[name]
        ways_back = {owner for owner in _owners(node) if owner in nodes and nodes[owner].op in WAYS_BACK}
        if not expanded:
            stack.append((name, True))
            stack += [(owner, False) for owner in _owners(node) if owner not in done and owner not in ways_back]
            continue
        loops += [(name, owner) for owner in sorted(ways_back)]
        data = [
            "round a loop" if _owner(text) in ways_back else f"{done[_owner(text)]}:{text.partition(':')[2] or 0}"
            for text in node.input
            if text[0] != "^"
        ]
        done[name] = combine(node, data, [done[text[1:]] for text in node.input if text[0] == "^"])


def _owners(node: Any) -> Iterator[str]:
    return (_owner(text) for text in node.input)


def _owner(reference: str) -> str:
    return reference.removeprefix("^").partition(":")[0]


def _text(value: Any) -> str:
    return hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()


def hash_parts(*parts: Any) -> str:
    """Return the digest of what JSON can hold."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
