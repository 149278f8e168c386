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


def needed(fetches: Iterable[tf.Operation]) -> list[tf.Operation]:
    """Return the ops that are run for the fetches, each after what it waits for; a loop's way back does not count.

    Control dependencies are followed as inputs are.
    """
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
            before = [*(tensor.op for tensor in op.inputs), *op.control_inputs]
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


def variables_read(tensors: Iterable[tf.Tensor]) -> list[tf.Operation]:
    """Return the variable ops whose values enter those of the tensors, also by way of functions, branches and loops.

    These are ops of the types `VARIABLES`; whether a collection of the graph lists them does not matter. Sorted by the
    order in which they were made.
    """
    found = [op for op in behind(tensors) if op.type in VARIABLES]
    return sorted(found, key=lambda op: op._id)


def placeholders(fetches: Iterable[tf.Operation]) -> list[tf.Operation]:
    """Return the placeholders that are run for the fetches, those with a default among them, in the order made."""
    return sorted((op for op in needed(fetches) if op.type in PLACEHOLDERS), key=lambda op: op._id)


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
