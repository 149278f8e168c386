"""Walks over the ops of a graph: what is run for what, which variables are read, which placeholders must be fed.

Nothing here runs an op or adds one. Ops stand in the order in which a walk met them, which depends on the graph alone.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.tf_private import creation_number, op_definition

VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}
ASSIGNING = {"Assign", "AssignVariableOp"}
PLACEHOLDERS = {"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"}
WAYS_BACK = {"NextIteration", "RefNextIteration"}
# What hands its first input on as it is, and what hands on any of its inputs.
FORWARDING = {"Enter", "Identity", "ReadVariableOp", "RefEnter", "RefIdentity", "RefSwitch", "Switch"}
PASSING = FORWARDING | WAYS_BACK | {"Exit", "IdentityN", "LoopCond", "Merge", "RefExit", "RefMerge", "RefSelect"}
# What reads values of the variable whose handle it takes, and what takes a handle and writes nothing.
READERS = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd"}
_READ_ONLY = READERS | {"DisableCopyOnRead", "VarIsInitializedOp", "VariableShape"}
# What asks about a tensor, and has nothing of its values.
_QUESTIONS = {
    *("Shape", "ShapeN", "Size", "Rank", "OnesLike", "ZerosLike", "VariableShape"),
    *("VarIsInitializedOp", "IsVariableInitialized"),
}
# What looks at a value for the user's eyes or files alone: whoever is read by nobody else is not read by a network.
_LOOKERS = {*_QUESTIONS, "SaveV2", "Save", "SaveSlices", "Assert", "Print", "PrintV2"}
_RANDOM = ("Random", "Stateless", "TruncatedNormal", "ParameterizedTruncatedNormal", "Multinomial")


def needed(fetches: Iterable[tf.Operation], fed: Iterable[tf.Tensor] = ()) -> list[tf.Operation]:
    """Return the ops that are run for the fetches, each after what it waits for; a loop's way back does not count.

    Control dependencies are followed as inputs are. What merely computes a tensor that is `fed` is not run.
    """
    fed_refs = {tensor.ref() for tensor in fed}
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
            before = [*(tensor.op for tensor in op.inputs if tensor.ref() not in fed_refs), *op.control_inputs]
            ways_back += [other for other in before if other.type in WAYS_BACK]
            stack += [(op, True), *((other, False) for other in before if other.type not in WAYS_BACK)]
    return list(done)


def behind(tensors: Iterable[tf.Tensor]) -> list[tf.Operation]:
    """Return the ops whose values enter those of the tensors, the tensors' own ops among them.

    Control dependencies are not followed: an op that merely has to run before has no part in the value.
    """
    ops: dict[tf.Operation, None] = {}
    stack = [tensor.op for tensor in tensors]
    while stack:
        op = stack.pop()
        if op not in ops:
            ops[op] = None
            stack += [tensor.op for tensor in op.inputs]
    return list(ops)


def spread(
    sources: Iterable[tf.Operation], within: Sequence[tf.Operation], *, through_control: bool = False
) -> set[tf.Operation]:
    """Return the sources and what takes their outputs, directly or not; or also what only waits for them."""
    return _reached(set(sources).intersection(within), takers(within, through_control=through_control))


def takers(ops: Sequence[tf.Operation], *, through_control: bool = False) -> dict[tf.Operation, list[tf.Operation]]:
    """Return for each op those of the ops that take its outputs; or also those that only wait for it."""
    after: dict[tf.Operation, list[tf.Operation]] = {op: [] for op in ops}
    for op in ops:
        for before in (*(tensor.op for tensor in op.inputs), *(op.control_inputs if through_control else ())):
            after.setdefault(before, []).append(op)
    return after


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
    return sorted((op for op in behind(tensors) if op.type in VARIABLES), key=creation_number)


def placeholders(fetches: Iterable[tf.Operation], fed: Iterable[tf.Tensor] = ()) -> list[tf.Operation]:
    """Return the placeholders that are run for the fetches, those with a default among them, in the order made.

    Those that are `fed` are not among them, also where something merely waits for them.
    """
    fed = list(fed)
    fed_refs = {tensor.ref() for tensor in fed}
    lacking = [op for op in needed(fetches, fed) if op.type in PLACEHOLDERS and op.outputs[0].ref() not in fed_refs]
    return sorted(lacking, key=creation_number)


def variables_of(tensors: Iterable[tf.Tensor]) -> set[tf.Operation]:
    """Return the variable ops that those of the tensors which are handles or references lead to."""
    variables: set[tf.Operation] = set()
    seen, queue = set(), deque(tensors)
    while queue:
        tensor = queue.popleft()
        if tensor.ref() in seen or (tensor.dtype != tf.resource and tensor.dtype == tensor.dtype.base_dtype):
            continue
        seen.add(tensor.ref())
        if tensor.op.type in VARIABLES:
            variables.add(tensor.op)
        else:
            queue.extend(tensor.op.inputs)
    return variables


def memory_of(variable: tf.Operation) -> tuple[str, str]:
    """Return what names the memory of a variable op in a session: container and shared name.

    Two ops of one graph with the same are one variable under two names, as after importing one MetaGraph twice. Without
    a shared name a reference variable goes by its op's name; all resource variables without one are a single variable.
    """
    return memory_of_node(variable.node_def)


def memory_of_node(node: tf.NodeDef) -> tuple[str, str]:
    """Return what names the memory of a variable's NodeDef, as `memory_of` does."""
    container, shared = (node.attr[key].s.decode() if key in node.attr else "" for key in ("container", "shared_name"))
    return container, shared if node.op == "VarHandleOp" else shared or node.name


def called(op: tf.Operation) -> list[str]:
    """Return the names of the functions that an op calls: tf.cond's branches, a loop's body.

    The op of an old function (`Defun`) has its name as type.
    """
    definition = op_definition(op.type)
    if definition is None:
        return [op.type]
    values = [op.get_attr(attr.name) for attr in definition.attr if "func" in attr.type]
    functions = [f for value in values for f in (value if isinstance(value, list) else [value])]
    return [function.name for function in functions if function.name]


def called_in(node: Any) -> list[str]:
    """Return the names of the functions that a NodeDef calls."""
    if op_definition(node.op) is None:
        return [node.op]
    return [f.name for value in node.attr.values() for f in (value.func, *value.list.func) if f.name]


def function_library(graph: tf.Graph) -> dict[str, Any]:
    """Return the FunctionDefs of a graph by name."""
    return {function.signature.name: function for function in graph.as_graph_def().library.function}


def may_write(kind: str) -> bool:
    """Say whether ops of a type can write the variables that they take; what functions do is not looked at."""
    definition = op_definition(kind)
    return definition is not None and kind not in _READ_ONLY and (definition.is_stateful or takes_reference(kind))


def takes_reference(kind: str) -> bool:
    """Say whether ops of a type take a reference for more than to pass it on: they write it."""
    definition = op_definition(kind)
    return definition is not None and kind not in PASSING and any(arg.is_ref for arg in definition.input_arg)


# --- what belongs to a network ---

# Names, since an op would keep its graph alive.
_FORWARD: weakref.WeakKeyDictionary[tf.Graph, tuple[int, list[str]]] = weakref.WeakKeyDictionary()


def forward_variables(graph: tf.Graph) -> list[tf.Operation]:
    """Return the variable ops whose values enter what a graph computes of its data or of its trained variables.

    An output is an op whose value nothing takes, or that is written into what merely tells of a network: a metric,
    another local variable, a single number. What is assigned to other variables, applied to one by an optimizer, saved
    or only shown in a summary of numbers that depend on no data does not count: so optimizer slots, learning rates,
    metrics and averages of variables that nobody computes with are left out, and moving statistics are not.

    Returns:
      Ops of the types `VARIABLES`, in the order in which they were made. Collections do not matter but for
      TRAINABLE_VARIABLES, whose variables count as trained.
    """
    ops = graph.get_operations()
    known = _FORWARD.get(graph)
    if known is None or known[0] != len(ops):
        known = _FORWARD[graph] = len(ops), [op.name for op in _forward_variables(graph, ops)]
    return [graph.get_operation_by_name(name) for name in known[1]]


def steers_optimizer(variable: tf.Operation) -> bool:
    """Say whether the value of a variable enters an optimizer's op as something else than what that op trains."""
    reached, queue = {variable}, deque([variable])
    while queue:
        for tensor in queue.popleft().outputs:
            for op in tensor.consumers():
                if "Apply" in op.type and _takes_beside(op, tensor):
                    return True
                if op not in reached and not _writes(op):
                    reached.add(op)
                    queue.append(op)
    return False


def initializer_of(variable: tf.Operation) -> tf.Operation | None:
    """Return the op that assigns the initial value to a variable op: of the name that TensorFlow gives it, or else the
    first that assigns something that was not read from a file."""
    assigning = [op for op in _takers(variable) if op.type in ASSIGNING]
    named = [op for op in assigning if op.name == f"{variable.name}/Assign"]
    first = [op for op in assigning if not any(before.type.startswith("Restore") for before in behind(op.inputs[1:]))]
    return next(iter([*named, *first]), None)


def read_of(variable: tf.Operation) -> tf.Tensor | None:
    """Return a tensor that is the value of a variable op; None where no op reads it."""
    if variable.type != "VarHandleOp":
        return variable.outputs[0]
    return next((op.outputs[0] for op in _takers(variable) if op.type == "ReadVariableOp"), None)


def _takers(variable: tf.Operation) -> list[tf.Operation]:
    return [op for op in variable.outputs[0].consumers() if op.inputs[0].op is variable]


def _takes_beside(op: tf.Operation, tensor: tf.Tensor) -> bool:
    return any(other.ref() == tensor.ref() for other in list(op.inputs)[1:])


def _forward_variables(graph: tf.Graph, ops: Sequence[tf.Operation]) -> list[tf.Operation]:
    functions = _Functions(graph)
    taken = {op: _values_taken(op, functions) for op in ops}
    after: dict[tf.Operation, list[tf.Operation]] = {op: [] for op in ops}
    for op, tensors in taken.items():
        for tensor in tensors:
            after[tensor.op].append(op)
    trained = {variable.op for variable in graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)}
    outputs = [op for op in _outputs(ops) if not _is_variable(op, taken)]
    meant = _reached({op for op in ops if op in trained or _gives_data(op)}, after)
    told, telling = _told(graph, ops, trained)
    told = [op for op in told if op in meant and not _is_variable(op, taken)]
    shown = [op for op in outputs if op in meant]
    before = {op: [tensor.op for tensor in tensors] for op, tensors in taken.items()}
    read = _reached(shown if shown or told else outputs, before) | (_reached(told, before) - telling)
    return sorted((op for op in read if op.type in VARIABLES), key=creation_number)


def _told(
    graph: tf.Graph, ops: Sequence[tf.Operation], trained: set[tf.Operation]
) -> tuple[list[tf.Operation], set[tf.Operation]]:
    """Return the ops whose values are written into variables that merely tell of a network, and these variables."""
    keys = (tf.GraphKeys.METRIC_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES)
    local = {variable.op for key in keys for variable in graph.get_collection(key)}
    told: list[tf.Operation] = []
    telling: set[tf.Operation] = set()
    for op in ops:
        if op.type in PASSING or not may_write(op.type):
            continue
        variables = variables_of(op.inputs[:1])
        if variables and all(v in local or (_is_number(v) and v not in trained) for v in variables):
            told += [tensor.op for tensor in op.inputs[1:]]
            telling |= variables
    return told, telling


def _is_number(variable: tf.Operation) -> bool:
    return tf.TensorShape(variable.get_attr("shape")).rank == 0


def _values_taken(op: tf.Operation, functions: _Functions) -> list[tf.Tensor]:
    """Return the inputs whose values enter an op's own; of one that writes a variable, the variable alone."""
    if op.type in _QUESTIONS:
        return []
    if called(op):
        return [tensor for number, tensor in enumerate(op.inputs) if functions.read(op, number, tensor)]
    if op.type in PASSING | READERS:
        return list(op.inputs)
    if _writes(op):
        return [op.inputs[0]]
    handles = [tensor for tensor in op.inputs if tensor.dtype == tf.resource]
    return [] if handles and variables_of(handles) else list(op.inputs)


def _outputs(ops: Sequence[tf.Operation]) -> list[tf.Operation]:
    """Return the ops that write nothing and whose first output nothing takes but what only looks."""
    used = {tensor.ref() for op in ops if not _looks(op) for tensor in op.inputs}
    return [op for op in ops if op.outputs and not _looks(op) and op.outputs[0].ref() not in used and not _writes(op)]


def _looks(op: tf.Operation) -> bool:
    return op.type in _LOOKERS or op.type.endswith(("Summary", "SummaryV2"))


def _writes(op: tf.Operation) -> bool:
    """Say whether an op writes a reference variable; queues and tables are references too."""
    return takes_reference(op.type) and bool(variables_of(op.inputs[:1]))


def _is_variable(op: tf.Operation, taken: Mapping[tf.Operation, Sequence[tf.Tensor]]) -> bool:
    """Say whether an op gives a variable as it is, by way of reads, branches and copies, of no other value."""
    seen, stack = set(), [op]
    while stack:
        op = stack.pop()
        if op.type in VARIABLES or op in seen:
            continue
        seen.add(op)
        if op.type not in PASSING or not taken[op]:
            return False
        # What decides where a value goes is not the value.
        stack += [tensor.op for tensor in (taken[op][:1] if "Switch" in op.type else taken[op])]
    return True


def _gives_data(op: tf.Operation) -> bool:
    if op.type == "PlaceholderWithDefault" or op.type.startswith(_RANDOM):
        return True
    return bool(op.outputs) and not len(op.inputs) and op.type not in VARIABLES and op.type != "Const"


def _reached(
    sources: Iterable[tf.Operation], edges: Mapping[tf.Operation, Sequence[tf.Operation]]
) -> set[tf.Operation]:
    reached = set(sources)
    queue = deque(reached)
    while queue:
        for op in edges[queue.popleft()]:
            if op not in reached:
                reached.add(op)
                queue.append(op)
    return reached


class _Functions:
    """What the functions of a graph do with the variables that they are given."""

    def __init__(self, graph: tf.Graph) -> None:
        self._graph = graph
        self._library: dict[str, Any] | None = None
        self._known: dict[tuple[str, int], bool] = {}

    def read(self, op: tf.Operation, number: int, tensor: tf.Tensor) -> bool:
        """Say whether the value of an input enters what an op returns that calls functions."""
        if tensor.dtype != tf.resource or not variables_of([tensor]):
            return True
        return any(self._reads(name, number, len(op.inputs)) for name in called(op))

    def _reads(self, name: str, number: int, count: int) -> bool:
        function = self._function(name)
        if function is None:
            return True
        # A branch does not get the input that decides between branches.
        position = number - (count - len(function.signature.input_arg))
        if position < 0:
            return True
        key = name, position
        if key not in self._known:
            self._known[key] = False  # A function that calls itself adds nothing to itself.
            self._known[key] = self._body_reads(function, function.signature.input_arg[position].name)
        return self._known[key]

    def _function(self, name: str) -> Any:
        if self._library is None:
            self._library = function_library(self._graph)
        return self._library.get(name)

    def _body_reads(self, function: Any, handle: str) -> bool:
        handles, values = {handle}, set[str]()
        before = 0
        while before != len(handles) + len(values):
            before = len(handles) + len(values)
            for node in function.node_def:
                inputs = [text.partition(":")[0] for text in node.input if not text.startswith("^")]
                if any(text in handles for text in inputs):
                    self._spread_handle(node, inputs, handles, values)
                elif any(text in values for text in inputs) and not _writes_in_function(node):
                    values.add(node.name)
        return any(text.partition(":")[0] in values for text in function.ret.values())

    def _spread_handle(self, node: Any, inputs: Sequence[str], handles: set[str], values: set[str]) -> None:
        names = called_in(node)
        places = [place for place, text in enumerate(inputs) if text in handles]
        if node.op in READERS or any(self._reads(name, place, len(inputs)) for name in names for place in places):
            values.add(node.name)
        elif node.op in PASSING:
            handles.add(node.name)


def _writes_in_function(node: Any) -> bool:
    if called_in(node) or not may_write(node.op):
        return False
    return any(arg.type == tf.resource.as_datatype_enum for arg in op_definition(node.op).input_arg)
