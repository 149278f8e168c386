"""What computes a tensor, as a digest: the ops behind it and the values of the variables they read, but no names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.run import frozen

# Attributes that say where an op lies or how it is displayed, and not what it computes.
_IDLE = {"_class", "_output_shapes", "shared_name", "container", "debug_name", "_gradient_op_type", "_XlaMustCompile"}
_VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}


def addresses(
    sess: tf.Session, tensors: Sequence[tf.Tensor], images: tf.Tensor, conditions: Mapping[str, Any]
) -> list[str]:
    """Return for each tensor a digest of what computes it: two graphs that do the same share it, whatever their names.

    Args:
      sess: the session whose variables are read.
      tensors: what is computed, from the images and from variables that stay as they are.
      images: the placeholder of the images.
      conditions: what else decides the bits: the batch size, the precision.

    Returns:
      Hexadecimal digits.
    """
    functions = _Functions(images.graph)
    variables = {v.op.name: v for v in images.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}
    digests: dict[tf.Operation, str] = {images.op: f"images {images.dtype.name} {images.shape[1:]}"}
    for op in _in_order([tensor.op for tensor in tensors], images.op):
        if op.type in _VARIABLES and op.name in variables:
            digests[op] = frozen.digest(sess.run(variables[op.name]))
        else:
            # A loop of the old kind leads back to an op that has no digest yet; there, its name must do.
            inputs = [f"{digests.get(tensor.op, tensor.op.name)}:{tensor.value_index}" for tensor in op.inputs]
            digests[op] = _hash(op.type, _attributes(op.node_def.attr, functions), inputs)
    asked = json.dumps(dict(conditions), sort_keys=True)
    return [_hash(digests[tensor.op], str(tensor.value_index), asked) for tensor in tensors]


def _in_order(ops: Iterable[tf.Operation], stop: tf.Operation) -> list[tf.Operation]:
    """Return the ops and what they depend on through tensors, `stop` left out, inputs before what takes them."""
    done: dict[tf.Operation, None] = {}
    seen, stack = {stop}, [(op, False) for op in ops]
    while stack:
        op, expanded = stack.pop()
        if expanded:
            done[op] = None
        elif op not in seen:
            seen.add(op)
            stack.append((op, True))
            stack += [(tensor.op, False) for tensor in op.inputs]
    return list(done)


class _Functions:
    """Digests of the functions of a graph, by their names, which do not enter."""

    def __init__(self, graph: tf.Graph) -> None:
        self._library = {f.signature.name: f for f in graph.as_graph_def().library.function}
        self._digests: dict[str, str] = {}

    def digest(self, name: str) -> str:
        if name not in self._digests:
            self._digests[name] = name  # What calls itself is known by its name within.
            self._digests[name] = self._body(self._library[name]) if name in self._library else name
        return self._digests[name]

    def _body(self, function: Any) -> str:
        known = {arg.name: f"argument {number} {arg.type}" for number, arg in enumerate(function.signature.input_arg)}
        nodes = {node.name: node for node in function.node_def}

        def of(reference: str) -> str:
            name, _, output = reference.partition(":")
            if name not in known and name in nodes:
                known[name] = name
                node = nodes[name]
                data = [one for one in node.input if not one.startswith("^")]
                known[name] = _hash(node.op, _attributes(node.attr, self), [of(one) for one in data])
            return f"{known.get(name, name)}:{output}"

        return _hash("function", [of(function.ret[arg.name]) for arg in function.signature.output_arg])


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
