"""A digest of what computes a tensor: the ops behind it and the values of their variables, without any names."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.frontier.search import Functions
from tfxfer.graph.partitioned import bytes_of, groups
from tfxfer.graph.structure import FunctionDigests, hash_parts
from tfxfer.graph.traversal import VARIABLES, behind, called, called_in, function_library, needed
from tfxfer.tf_private import session_config
from tfxfer.weights.digests import digest

_SHOWN = {"Print", "PrintV2"}  # They show something, and change nothing.

NOTHING: Mapping[tf.Tensor, np.ndarray] = {}


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
      GraphError: a tensor needs another placeholder fed, a variable that nothing but a function reads or that lies
        within one, or what no digest can stand for: a Python function, a table, random numbers.
    """
    library = function_library(images.graph)
    _check(tensors, library)
    functions = FunctionDigests(library)
    values = {} if variables is None else variables
    constants = {
        tensor.op: hash_parts("fed", value.dtype.str, value.shape, digest(value)) for tensor, value in feeds.items()
    }

    def combine(op: tf.Operation, inputs: list[str]) -> str:
        if op is images.op:
            return "images"
        if op in constants:
            return constants[op]
        if op.type in ("Placeholder", "PlaceholderV2"):
            raise GraphError(f"{op.name} must be fed, and only {images.op.name} is; compute what does not depend on it")
        if op.type in VARIABLES:
            return values[op.name]
        indices = [tensor.value_index for tensor in (*op.inputs, *choices.get(op, ()))]
        taken = [f"{what}:{index}" for what, index in zip(inputs, indices, strict=True)]
        count = len(op.inputs)  # What chooses stands in an order that other tensors have a part in.
        taken = taken[:count] + sorted(taken[count:])
        return hash_parts(functions.digest(op.type), functions.attributes(op.node_def.attr), taken)

    settings = json.dumps({"rewrites": rewrites(session_config(sess)), **conditions}, sort_keys=True)

    choices = _choices(tensors)

    def inputs(op: tf.Operation) -> list[tf.Operation]:
        if op is images.op or op in constants:
            return []
        return [tensor.op for tensor in (*op.inputs, *choices.get(op, ()))]

    values |= _digests(sess, [op for op in _reached(tensors, inputs) if op.type in VARIABLES and op.name not in values])
    folded = [_fold(tensor.op, inputs, combine) for tensor in tensors]
    return [hash_parts(digest, tensor.value_index, settings) for digest, tensor in zip(folded, tensors, strict=True)]


def _reached(
    tensors: Sequence[tf.Tensor], inputs: Callable[[tf.Operation], Sequence[tf.Operation]]
) -> list[tf.Operation]:
    """Return the ops that tensors are computed by, each once."""
    reached: dict[tf.Operation, None] = {}
    stack = [tensor.op for tensor in tensors]
    while stack:
        op = stack.pop()
        if op not in reached:
            reached[op] = None
            stack += inputs(op)
    return list(reached)


def _digests(sess: tf.Session, variables: Sequence[tf.Operation]) -> dict[str, str]:
    """Return the digest of the value of each variable."""
    values = read_in_groups(sess, {op.name: value_of(op) for op in variables})
    return {name: digest(array) for group in values for name, array in group.items()}


def read_in_groups(sess: tf.Session, values: Mapping[str, tf.Tensor]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of tensors by name, small ones together."""
    sizes = {name: bytes_of(value.shape, value.dtype) for name, value in values.items()}
    for group in groups(sizes):
        yield sess.run({name: values[name] for name in group})


def _choices(tensors: Sequence[tf.Tensor]) -> dict[tf.Operation, list[tf.Tensor]]:
    """Return what chooses between the branches of TensorFlow 1 that ops merge, as far as none of their inputs tells.

    A constant in a branch takes no input: it waits for the branch alone.
    """
    told: dict[tf.Operation, int] = {}  # sets as bits, since each op has those of all before it
    waited: dict[tf.Operation, int] = {}
    numbers: dict[Any, int] = {}
    choices: dict[tf.Operation, list[tf.Tensor]] = {}

    def bit(switch: tf.Operation) -> int:
        return 1 << numbers.setdefault(_copied(switch.inputs[1]).ref(), len(numbers))

    for op in needed(tensor.op for tensor in tensors):
        before = [tensor.op for tensor in op.inputs]
        kinds = {other.type.removeprefix("Ref") for other in before}
        told[op] = functools.reduce(operator.or_, (told.get(other, 0) for other in before), 0)
        waited[op] = functools.reduce(operator.or_, (waited.get(other, 0) for other in before), 0)
        for switch in _branches(op):
            waited[op] |= bit(switch)
        if op.type in ("Switch", "RefSwitch"):
            told[op] |= bit(op)
        elif op.type in ("Merge", "RefMerge") and not kinds & {"Enter", "NextIteration"}:  # which a loop begins with
            untold = waited[op] & ~told[op]
            choices[op] = [ref.deref() for ref, number in numbers.items() if untold >> number & 1]
            told[op] |= untold
    return choices


def _copied(tensor: tf.Tensor) -> tf.Tensor:
    """Return what a tensor is a copy of, or itself."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _branches(op: tf.Operation) -> Iterator[tf.Operation]:
    """Yield what switches to the branches that an op waits for; loops are left out."""
    stack = list(op.control_inputs)
    while stack:
        before = stack.pop()
        if before.type == "NoOp":
            stack += before.control_inputs
        elif before.type == "Identity":
            stack.append(before.inputs[0].op)
        elif before.type == "Switch" and before.inputs[1].op.type != "LoopCond":
            yield before


def _check(tensors: Sequence[tf.Tensor], library: Mapping[str, Any]) -> None:
    """Refuse what gives something else each time, or whose content is not in the graph."""
    hidden = [
        f"{node.attr['shared_name'].s.decode() or node.name} (in {name}, called by {op.name})"
        for op in behind(tensors)
        for name in _all_called(op, library)
        for node in library[name].node_def
        if node.op in VARIABLES
    ]
    if hidden:
        raise GraphError(
            f"{names.listed(hidden)}: a variable that a function makes for itself cannot be part of an address; make "
            "the variable outside the function, and let the function take it"
        )
    functions = Functions(tensors[0].graph)
    acting = [op for op in behind(tensors) if op.type not in _SHOWN and functions.acts(op.type, called(op))]
    bound = [f"{op.name} ({op.type})" for op in acting if op.type not in ("Placeholder", "PlaceholderV2")]
    if bound:
        raise GraphError(
            f"{names.listed(bound)}: what {'these give' if len(bound) > 1 else 'this gives'} is not decided by the "
            "graph, the variables and the images (a Python function, a table, random numbers or another state), so "
            "that it cannot be found again in a store; compute what does not depend on it"
        )


def _all_called(op: tf.Operation, library: Mapping[str, Any]) -> list[str]:
    """Return the functions that an op calls, and those that they call."""
    found: dict[str, None] = {}
    stack = called(op)
    while stack:
        name = stack.pop()
        if name in library and name not in found:
            found[name] = None
            stack += [other for node in library[name].node_def for other in called_in(node)]
    return list(found)


def _fold(
    root: tf.Operation,
    inputs: Callable[[tf.Operation], Sequence[tf.Operation]],
    combine: Callable[[tf.Operation, list[str]], str],
) -> str:
    """Return what `combine` makes of an op and of what it made of its inputs.

    An op that is met again within itself (a loop of TensorFlow 1) stands as the number at which it was first met.
    """
    done: dict[tf.Operation, str] = {}
    met: dict[tf.Operation, int] = {}
    stack = [(root, False)]
    while stack:
        op, expanded = stack.pop()
        if expanded:
            done[op] = combine(op, [done.get(before, f"met {met[before]}") for before in inputs(op)])
        elif op not in met:
            met[op] = len(met)
            stack.append((op, True))
            stack += [(before, False) for before in inputs(op)]
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


def rewrites(config: tf.ConfigProto) -> str:
    """Return how a session is told to change graphs: bfloat16 in place of float32 gives other bits."""
    return hashlib.sha256(config.graph_options.SerializeToString(deterministic=True)).hexdigest()
