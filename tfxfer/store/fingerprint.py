"""A digest of what computes a tensor: the ops behind it and the values of their variables, without any names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.frontier.search import Functions
from tfxfer.graph.traversal import VARIABLES, behind, called
from tfxfer.weights.digests import digest

# Attributes that say where an op lies or how it is displayed, and not what it computes.
_IDLE = {"_XlaMustCompile", "_class", "_gradient_op_type", "_output_shapes", "container", "debug_name", "frame_name",
         "shared_name", "stack_name", "tensor_array_name"}  # fmt: skip
_SHOWN = {"Print", "PrintV2"}  # They show something, and change nothing.

NOTHING: Mapping[tf.Tensor, np.ndarray] = {}

Node = TypeVar("Node", bound=Hashable)


def addresses(
    sess: tf.Session,
    tensors: Sequence[tf.Tensor],
    images: tf.Tensor,
    conditions: Mapping[str, Any],
    *,
    feeds: Mapping[tf.Tensor, np.ndarray] = NOTHING,
    variables: dict[str, str] | None = None,
) -> list[str]:
    """Return for each tensor a digest of what computes it: two graphs that do the same share it, whatever their names.

    Args:
      sess: the session whose variables are read.
      tensors: what is computed, from the images and from variables that stay as they are.
      images: the placeholder of the images.
      conditions: what else decides the bits, as JSON has it: the batch size, the size of the images; `rewrites`, if
        it is not as this session rewrites graphs.
      feeds: what else is fed, the same for all examples: arrays by placeholder.
      variables: gets the digest of the value of each variable that is read, by its name.

    Returns:
      Hexadecimal digits.

    Raises:
      GraphError: a tensor needs another placeholder fed, a variable that nothing but a function reads, or what no
        digest can stand for: a Python function, a table, random numbers.
    """
    _check(tensors)
    functions = _Functions(images.graph)
    values = {} if variables is None else variables
    constants = {
        tensor.op: _hash("fed", value.dtype.str, value.shape, digest(value)) for tensor, value in feeds.items()
    }

    def combine(op: tf.Operation, inputs: list[str]) -> str:
        if op is images.op:
            return "images"
        if op in constants:
            return constants[op]
        if op.type in ("Placeholder", "PlaceholderV2"):
            raise GraphError(f"{op.name} must be fed, and only {images.op.name} is; compute what does not depend on it")
        if op.type in VARIABLES:
            if op.name not in values:
                values[op.name] = digest(sess.run(value_of(op)))
            return values[op.name]
        taken = [f"{digest}:{tensor.value_index}" for digest, tensor in zip(inputs, op.inputs, strict=True)]
        return _hash(functions.digest(op.type), _attributes(op.node_def.attr, functions), taken)

    settings = json.dumps({"rewrites": rewrites(sess), **conditions}, sort_keys=True)

    def inputs(op: tf.Operation) -> list[tf.Operation]:
        return [] if op is images.op or op in constants else [tensor.op for tensor in op.inputs]

    folded = [_fold(tensor.op, inputs, combine) for tensor in tensors]
    return [_hash(digest, tensor.value_index, settings) for digest, tensor in zip(folded, tensors, strict=True)]


def _check(tensors: Sequence[tf.Tensor]) -> None:
    """Refuse what gives something else each time, or whose content is not in the graph."""
    functions = Functions(tensors[0].graph)
    acting = [op for op in behind(tensors) if op.type not in _SHOWN and functions.acts(op.type, called(op))]
    bound = [f"{op.name} ({op.type})" for op in acting if op.type not in ("Placeholder", "PlaceholderV2")]
    if bound:
        raise GraphError(
            f"{names.listed(bound)}: what {'these give' if len(bound) > 1 else 'this gives'} is not decided by the "
            "graph, the variables and the images (a Python function, a table, random numbers or another state), so "
            "that it cannot be found again in a store; compute what does not depend on it"
        )


def _fold(root: Node, inputs: Callable[[Node], Sequence[Node]], combine: Callable[[Node, list[str]], str]) -> str:
    """Return what `combine` gives for a node and for what it gave for the inputs of the node.

    A node that is met again within itself (a loop of TensorFlow 1) stands as the number at which it was first met.
    """
    done: dict[Node, str] = {}
    met: dict[Node, int] = {}
    stack = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            done[node] = combine(node, [done.get(before, f"met {met[before]}") for before in inputs(node)])
        elif node not in met:
            met[node] = len(met)
            stack.append((node, True))
            stack += [(before, False) for before in inputs(node)]
    return done[root]


def value_of(variable: tf.Operation) -> tf.Tensor:
    """Return a tensor that gives a variable's value and waits for nothing; in no collection need it be.

    Raises:
      GraphError: nothing in the graph reads the variable as a whole.
    """
    (handle,) = variable.outputs
    if handle.dtype != tf.resource:
        return handle
    reads = [op for op in handle.consumers() if op.type == "ReadVariableOp" and not op.control_inputs]
    if not reads:
        raise GraphError(f"nothing reads {variable.name} as a whole, so that its value cannot be part of an address")
    return reads[0].outputs[0]


def rewrites(sess: tf.Session) -> str:
    """Return how a session was told to change graphs: bfloat16 in place of float32 gives other bits."""
    options = getattr(sess, "_config", tf.ConfigProto()).graph_options
    return hashlib.sha256(options.SerializeToString(deterministic=True)).hexdigest()


class _Functions:
    """Digests of the functions of a graph, by their names, which do not enter."""

    def __init__(self, graph: tf.Graph) -> None:
        self._library = {f.signature.name: f for f in graph.as_graph_def().library.function}
        self._digests: dict[str, str] = {}

    def digest(self, name: str) -> str:
        """Return the digest of a function, or the name itself where that is no function's."""
        if name not in self._digests:
            self._digests[name] = name  # What calls itself is known by its name within.
            self._digests[name] = self._body(self._library[name]) if name in self._library else name
        return self._digests[name]

    def _body(self, function: Any) -> str:
        arguments = {arg.name: f"{number} {arg.type}" for number, arg in enumerate(function.signature.input_arg)}
        nodes = {node.name: node for node in function.node_def}

        def inputs(name: str) -> list[str]:
            return [_owner(one) for one in nodes[name].input if one[0] != "^"] if name in nodes else []

        def combine(name: str, digests: list[str]) -> str:
            if name not in nodes:
                return f"argument {arguments[name]}"
            node = nodes[name]
            outputs = [one.partition(":")[2] for one in node.input if one[0] != "^"]
            return _hash(self.digest(node.op), _attributes(node.attr, self), list(zip(digests, outputs, strict=True)))

        returned = [function.ret[arg.name] for arg in function.signature.output_arg]
        parts = [(_fold(_owner(one), inputs, combine), one.partition(":")[2]) for one in returned]
        return _hash("function", parts)


def _owner(reference: str) -> str:
    return reference.partition(":")[0]


def _attributes(attributes: Mapping[str, Any], functions: _Functions) -> list[tuple[str, str]]:
    rows = []
    for name in sorted(set(attributes) - _IDLE):
        value = attributes[name]
        called = [f.name for f in (value.func, *value.list.func) if f.name]
        text = (
            " ".join(functions.digest(function) for function in called)
            if called
            else hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()
        )
        rows.append((name, text))
    return rows


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
