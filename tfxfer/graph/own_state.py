"""Ops whose outputs depend on how often they were run: generators, iterators, queues, Python functions.

What they hold lies in no variable, and so in no checkpoint: a training that has them cannot go on to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.graph import writes
from tfxfer.graph.traversal import VARIABLES, called, called_in, function_library, needed, variables_of
from tfxfer.tf_private import op_definition

# TensorFlow calls them stateful, and nothing of them outlives a step or changes with it: variables are in checkpoints,
# tables are filled once, control flow and functions are what is in them.
_HARMLESS = {
    *("VarHandleOp", "Variable", "VariableV2", "TemporaryVariable", "Placeholder", "_Arg", "_Retval", "_Send", "_Recv"),
    *("If", "While", "Case", "StatefulPartitionedCall", "RemoteCall", "Assert", "Print", "PrintV2"),
    *("CheckNumerics", "CheckNumericsV2", "DeepCopy", "GuaranteeConst", "Empty", "Stack", "StackV2"),
    *("TensorArray", "TensorArrayV2", "TensorArrayV3", "TensorArrayGrad", "TensorArrayGradV2"),
    *("HashTable", "HashTableV2", "AnonymousHashTable", "MutableHashTable", "MutableHashTableV2"),
    *("MutableHashTableOfTensors", "MutableHashTableOfTensorsV2", "MutableDenseHashTable", "MutableDenseHashTableV2"),
    *("SummaryWriter", "StatelessRandomGetAlg", "DeviceIndex", "GraphDefVersion", "IsTensorFloat32Enabled"),
    *("MutexV2", "ConsumeMutexLock", "SleepOp", "WriteFile", "LoadAndRemapMatrix", "Save", "SaveV2", "Restore"),
    *("RestoreV2", "RestoreSlice", "NoOp"),
}
_FILLED = {"LookupTableInsert", "LookupTableInsertV2", "LookupTableRemoveV2"}  # of tables, in the step itself
_OF_GENERATOR = ("Rng", "StatefulUniform", "StatefulStandardNormal", "StatefulTruncatedNormal", "StatefulRandom")


def variables_of_step(fetches: Iterable[tf.Operation], among: Iterable[tf.Variable]) -> list[tf.Variable]:
    """Return those of some variables that are read or written for the fetches."""
    run = {op.name for op in needed(fetches) if op.type in VARIABLES}
    return [variable for variable in among if variable.op.name in run]


def generators(fetches: Iterable[tf.Operation], among: Iterable[tf.Variable]) -> list[tf.Variable]:
    """Return those of some variables that are the state of a `tf.random.Generator` that draws for the fetches."""
    fetched = list(fetches)
    if not fetched:
        return []
    library = function_library(fetched[0].graph)
    drawing = {variable for op in needed(fetched) if _draws(op, library) for variable in variables_of(op.inputs)}
    return [variable for variable in among if variable.op in drawing]


def _draws(op: tf.Operation, library: dict[str, Any]) -> bool:
    return any(
        kind.startswith(_OF_GENERATOR)
        for kind in [op.type, *(node.op for node in _nodes_within(called(op), library, set()))]
    )


def holders(fetches: Iterable[tf.Operation], saved: Iterable[tf.Variable]) -> dict[str, str]:
    """Return the types of the ops that keep a state of their own, by name, of all that is run for the fetches.

    Those in bodies of functions, branches and loops count, under the name of the op that calls these.

    Args:
      fetches: what a step of training runs; one op or more.
      saved: the variables whose values are kept. Any other that is written counts as such an op.
    """
    fetched = list(fetches)
    kept = {variable.op.name for variable in saved}
    library = function_library(fetched[0].graph)
    holders: dict[str, str] = {}
    run = needed(fetched)
    written = {variable for variables in writes.written(run).values() for variable in variables}
    for op in run:
        lost = op in written and op.name not in kept
        types = {op.type} if lost or _holds(op.type, op.node_def.attr) else set()
        within = _nodes_within(called(op), library, set())
        types |= {node.op for node in within if _holds(node.op, node.attr)}
        if types:
            holders[op.name] = ", ".join(sorted(types))
    return holders


def _nodes_within(functions: Iterable[str], library: dict[str, Any], seen: set[str]) -> Iterator[Any]:
    """Yield the nodes in the bodies of functions, and of those that these call."""
    for name in functions:
        if name in library and name not in seen:
            seen.add(name)
            for node in library[name].node_def:
                yield node
                yield from _nodes_within(called_in(node), library, seen)


def _holds(kind: str, attributes: Any) -> bool:
    definition = op_definition(kind)
    if definition is None or kind in _HARMLESS:
        return False
    if "seed" in attributes and not kind.endswith("Dataset"):
        # FractionalMaxPool draws too, though TensorFlow does not call it stateful.
        return definition.is_stateful or (kind.startswith("Fractional") and not attributes["deterministic"].b)
    # What takes a handle changes what the handle is of, which is looked at where it is made.
    takes_handle = any(arg.type == tf.resource.as_datatype_enum or arg.is_ref for arg in definition.input_arg)
    return kind in _FILLED or (
        definition.is_stateful and not takes_handle and not kind.endswith(("Dataset", "DatasetV2"))
    )
