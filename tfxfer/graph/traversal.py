"""Walks over the ops of a graph: what is run for what, which variables are read, which placeholders must be fed.

Nothing here runs an op or adds one. Ops stand in the order in which a walk met them, which depends on the graph alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import op_def_registry

VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}
PLACEHOLDERS = {"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"}
_WAYS_BACK = {"NextIteration", "RefNextIteration"}


def needed(fetches: Iterable[tf.Operation], fed: Iterable[tf.Tensor] = ()) -> list[tf.Operation]:
    """Return the ops that are run for the fetches, each after what it waits for; a loop's way back does not count.

    Control dependencies are followed as inputs are. What merely computes a tensor that is `fed` is not run.
    """
    given = {tensor.ref() for tensor in fed}
    done: dict[tf.Operation, None] = {}
    seen: set[tf.Operation] = set()
    stack = [(op, False) for op in fetches]
    ways_back: list[tf.Operation] = []
    while stack or ways_back:
        op, expanded = stack.pop() if stack else (ways_back.pop(), False)
        if expanded:
            done[op] = None
        elif op not in seen:
            seen.add(op)
            before = [*(tensor.op for tensor in op.inputs if tensor.ref() not in given), *op.control_inputs]
            ways_back += [other for other in before if other.type in _WAYS_BACK]
            stack += [(op, True), *((other, False) for other in before if other.type not in _WAYS_BACK)]
    return list(done)


def behind(tensors: Iterable[tf.Tensor]) -> list[tf.Operation]:
    """Return the ops whose values enter those of the tensors, the tensors' own ops among them.

    Control dependencies are not followed: an op that merely has to run before has no part in the value.
    """
    found: dict[tf.Operation, None] = {}
    stack = [tensor.op for tensor in tensors]
    while stack:
        op = stack.pop()
        if op not in found:
            found[op] = None
            stack += [tensor.op for tensor in op.inputs]
    return list(found)


def spread(
    sources: Iterable[tf.Operation], within: Sequence[tf.Operation], *, through_control: bool = False
) -> set[tf.Operation]:
    """Return the sources and what takes their outputs, directly or not; or also what only waits for them."""
    after: dict[tf.Operation, list[tf.Operation]] = {op: [] for op in within}
    for op in within:
        for before in (*(tensor.op for tensor in op.inputs), *(op.control_inputs if through_control else ())):
            after[before].append(op)
    found = set(sources).intersection(within)
    queue = deque(found)
    while queue:
        for op in after[queue.popleft()]:
            if op not in found:
                found.add(op)
                queue.append(op)
    return found


def inner(needed: Sequence[tf.Operation]) -> set[tf.Operation]:
    """Return those of the needed ops that lie in the loops and branches of TensorFlow 1.

    What they give can be neither fetched nor fed, and nothing outside can wait for it: a branch may not be taken.
    """
    depths: dict[tf.Operation, int] = {}
    for op in needed:
        kind = op.type.removeprefix("Ref")
        before = [tensor.op for tensor in op.inputs]
        kinds = {other.type.removeprefix("Ref") for other in before}
        depth = max((depths.get(other, 0) for other in (*before, *op.control_inputs)), default=0)
        opens = kind == "Enter" or (kind == "Switch" and "LoopCond" not in kinds)
        closes = kind == "Exit" or (kind == "Merge" and not kinds & {"Enter", "NextIteration"})
        depths[op] = depth + opens - closes
    return {op for op, depth in depths.items() if depth > 0}


def variables_read(tensors: Iterable[tf.Tensor]) -> list[tf.Operation]:
    """Return the variable ops whose values enter those of the tensors, also by way of functions, branches and loops.

    These are ops of the types `VARIABLES`; whether a collection of the graph lists them does not matter. Sorted by the
    order in which they were made.
    """
    found = [op for op in behind(tensors) if op.type in VARIABLES]
    return sorted(found, key=lambda op: op._id)


def placeholders(fetches: Iterable[tf.Operation], fed: Iterable[tf.Tensor] = ()) -> list[tf.Operation]:
    """Return the placeholders that are run for the fetches, those with a default among them, in the order made.

    Those that are `fed` are not among them.
    """
    return sorted((op for op in needed(fetches, fed) if op.type in PLACEHOLDERS), key=lambda op: op._id)


def variables_of(tensors: Iterable[tf.Tensor]) -> set[tf.Operation]:
    """Return the variable ops that those of the tensors which are handles or references lead to."""
    found: set[tf.Operation] = set()
    seen, queue = set(), deque(tensors)
    while queue:
        tensor = queue.popleft()
        if tensor.ref() in seen or (tensor.dtype != tf.resource and tensor.dtype == tensor.dtype.base_dtype):
            continue
        seen.add(tensor.ref())
        if tensor.op.type in VARIABLES:
            found.add(tensor.op)
        else:
            queue.extend(tensor.op.inputs)
    return found


def memory_of(variable: tf.Operation) -> tuple[str, str]:
    """Return what names the memory of a variable op in a session: container and shared name.

    Two ops of one graph with the same are one variable under two names, as after importing one MetaGraph twice.
    """
    container = variable.get_attr("container").decode()
    return container, variable.get_attr("shared_name").decode() or variable.name


def called(op: tf.Operation) -> list[str]:
    """Return the names of the functions that an op calls: tf.cond's branches, a loop's body."""
    definition = op_def_registry.get(op.type)
    values = [op.get_attr(attr.name) for attr in definition.attr if "func" in attr.type] if definition else []
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [function.name for function in flat if function.name]


def called_in(node: Any) -> list[str]:
    """Return the names of the functions that a NodeDef calls."""
    return [one.name for value in node.attr.values() for one in (value.func, *value.list.func) if one.name]


# --- what is written ---

_PASSING = {"RefEnter", "RefExit", "RefIdentity", "RefMerge", "RefNextIteration", "RefSelect", "RefSwitch"}
_READING = {"DisableCopyOnRead", "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VarIsInitializedOp",
            "VariableShape"}  # fmt: skip
# Ops that call functions with all their inputs but the first so many.
_BEFORE_ARGUMENTS = {"Case": 1, "If": 1, "StatelessCase": 1, "StatelessIf": 1}


def written(ops: Sequence[tf.Operation]) -> dict[tf.Operation, set[tf.Operation]]:
    """Return those of the ops that write variables, each with the variable ops that it writes.

    Functions, branches and loops are looked into: an op that calls what writes is one that writes.
    """
    functions: dict[str, Any] = {}
    found: dict[tf.Operation, set[tf.Operation]] = {}
    for op in ops:
        handles = [t for t in op.inputs if t.dtype == tf.resource or t.dtype != t.dtype.base_dtype]
        if not handles or op.type in _PASSING or op.type in VARIABLES:
            continue
        if called(op):
            functions = functions or {f.signature.name: f for f in op.graph.as_graph_def().library.function}
            taken = _arguments_written(called(op), functions)
            before = _BEFORE_ARGUMENTS.get(op.type, 0)
            handles = [tensor for place, tensor in enumerate(op.inputs) if place - before in taken]
        elif not _writes(op.type):
            continue
        else:
            handles = [t for t, changes in zip(op.inputs, _changed(op), strict=True) if changes]
        if variables := variables_of(handles):
            found[op] = variables
    return found


def _writes(kind: str) -> bool:
    definition = op_def_registry.get(kind)
    if definition is None or kind in _READING:
        return False
    return definition.is_stateful or any(argument.is_ref for argument in definition.input_arg)


def _changed(op: tf.Operation) -> list[bool]:
    """Say for each input of an op that writes whether it is a handle, or a reference that the op takes as one."""
    definition = op_def_registry.get(op.type)
    is_ref = [argument.is_ref for argument in definition.input_arg]
    exact = len(is_ref) == len(op.inputs)
    return [
        tensor.dtype == tf.resource or (tensor.dtype != tensor.dtype.base_dtype and (not exact or is_ref[place]))
        for place, tensor in enumerate(op.inputs)
    ]


def _arguments_written(names: Iterable[str], functions: dict[str, Any], within: tuple[str, ...] = ()) -> set[int]:
    """Return the places of the arguments that functions write."""
    found: set[int] = set()
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
            elif not _writes(node.op):
                continue
            owners = {_argument_behind(reference.partition(":")[0], nodes) for reference in inputs}
            found |= {
                places[owner]
                for owner in owners & set(places)
                if function.signature.input_arg[places[owner]].type == tf.resource.as_datatype_enum
            }
    return found


def _argument_behind(name: str, nodes: dict[str, Any]) -> str:
    """Return the argument of a function that a handle comes from, through ops that pass it on."""
    while name in nodes and nodes[name].op == "Identity":
        name = nodes[name].input[0].partition(":")[0]
    return name
