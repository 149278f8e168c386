"""Which ops write variables, and which variables each of them writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.graph.traversal import called, called_in, function_library, may_write, variables_of
from tfxfer.tf_private import op_definition

# Ops that call functions with all their inputs but the first so many.
_BEFORE_ARGUMENTS = {"Case": 1, "If": 1, "StatelessCase": 1, "StatelessIf": 1}


def written(ops: Sequence[tf.Operation]) -> dict[tf.Operation, set[tf.Operation]]:
    """Return those of the ops that write variables, each with the variable ops that it writes.

    Functions, branches and loops are looked into: an op that calls what writes is one that writes.
    """
    functions: dict[str, Any] = {}
    writing: dict[tf.Operation, set[tf.Operation]] = {}
    for op in ops:
        handles = [t for t in op.inputs if t.dtype == tf.resource or t.dtype != t.dtype.base_dtype]
        if not handles:
            continue
        if called(op):
            functions = functions or function_library(op.graph)
            arguments = _arguments_written(called(op), functions)
            before = _BEFORE_ARGUMENTS.get(op.type, 0)
            handles = [tensor for place, tensor in enumerate(op.inputs) if place - before in arguments]
        elif not may_write(op.type):
            continue
        else:
            handles = [t for t, changes in zip(op.inputs, _changed(op), strict=True) if changes]
        if variables := variables_of(handles):
            writing[op] = variables
    return writing


def _changed(op: tf.Operation) -> list[bool]:
    """Say for each input of an op that writes whether it is a handle, or a reference that the op takes as one."""
    definition = op_definition(op.type)
    is_ref = [argument.is_ref for argument in definition.input_arg]
    exact = len(is_ref) == len(op.inputs)
    return [
        tensor.dtype == tf.resource or (tensor.dtype != tensor.dtype.base_dtype and (not exact or is_ref[place]))
        for place, tensor in enumerate(op.inputs)
    ]


def _arguments_written(names: Iterable[str], functions: dict[str, Any], within: tuple[str, ...] = ()) -> set[int]:
    """Return the places of the arguments that functions write."""
    written: set[int] = set()
    for name in names:
        if name not in functions or name in within:
            continue
        function = functions[name]
        places = {argument.name: place for place, argument in enumerate(function.signature.input_arg)}
        nodes = {node.name: node for node in function.node_def}
        for node in function.node_def:
            inputs = [reference for reference in node.input if reference[0] != "^"]
            if callees := called_in(node):
                before = _BEFORE_ARGUMENTS.get(node.op, 0)
                inner = _arguments_written(callees, functions, (*within, name))
                inputs = [reference for place, reference in enumerate(inputs) if place - before in inner]
            elif not may_write(node.op):
                continue
            owners = {_argument_behind(reference.partition(":")[0], nodes) for reference in inputs}
            written |= {
                places[owner]
                for owner in owners & set(places)
                if function.signature.input_arg[places[owner]].type == tf.resource.as_datatype_enum
            }
    return written


def _argument_behind(name: str, nodes: dict[str, Any]) -> str:
    """Return the argument of a function that a handle comes from, through ops that pass it on."""
    while name in nodes and nodes[name].op == "Identity":
        name = nodes[name].input[0].partition(":")[0]
    return name
