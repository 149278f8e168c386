"""Update ops: what has to run beside the optimizers, as the moving statistics of a batch normalisation do.

Each of them is run in the stages that train what it belongs to. That is read from the graph:

- An update that takes no example and writes trainable variables, as a bound on weights does, is run where all of these
  are trained. So is one that takes nothing but what it writes, where the network computes with that.
- One that takes other variables and no example, as a moving average of weights does, is run where one of these is
  trained.
- One that takes nothing but what it writes, and that the network does not compute with, is run in every stage. So is
  a counter, which is an integer, a single number or a local variable that is not trainable, also where the network
  computes with it.
- One that takes examples follows what is computed from them. Downstream of what it follows and of the variables that it
  writes, the nearest variables are looked for. Those with as many elements as what is written are the normalisation's
  own, its gamma and beta: it is run where one of them is trained. Where there are none, it is run where one of the
  layers next to it is trained: the nearest variables before and after it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph import traversal, writes
from tfxfer.graph.feeds import Feeds
from tfxfer.graph.layers import batch_norms
from tfxfer.graph.traversal import VARIABLES, called

log = logging.getLogger("tfxfer")

Writes = Mapping[tf.Operation, set[tf.Operation]]

# What passes a variable's value on, or gives it another shape or dtype.
_CARRYING = traversal.FORWARDING | {"BroadcastTo", "Cast", "ExpandDims", "Reshape", "Squeeze"}
LOOPS = {"Enter", "Exit", "LoopCond", "NextIteration", "RefEnter", "RefExit", "RefNextIteration"}


@dataclasses.dataclass(frozen=True)
class _Owner:
    """The variable ops that decide whether an update runs: None for none, all of them, or any one."""

    variables: set[tf.Operation] | None
    all_of: bool = False

    def is_trained(self, chosen: set[tf.Operation]) -> bool:
        if self.variables is None:
            return True
        return self.variables <= chosen if self.all_of else bool(self.variables & chosen)


class Updates:
    """The update ops of a step, and which of them each stage runs."""

    def __init__(self, fetches: Iterable[tf.Operation], updates: Sequence[Any] | None) -> None:
        """Read what the update ops belong to.

        Args:
          fetches: what the step runs beside them.
          updates: ops, or tensors that they give, to be run in each stage; None for those in the graph's UPDATE_OPS,
            each in the stages that train what it belongs to.

        Raises:
          GraphError: one of them is not an op of this graph.
        """
        graph = tf.get_default_graph()
        self.explicit = updates is not None
        own = {name for norm in batch_norms() for name in norm.updates}
        ops = [
            op
            for update in (graph.get_collection(tf.GraphKeys.UPDATE_OPS) if updates is None else updates)
            for op in ([_op(update, graph)] if self.explicit else _grouped(_op(update, graph)))
        ]
        self.ops = list(dict.fromkeys(op for op in ops if self.explicit or op.name not in own))
        fetches = list(fetches)
        self._forward = traversal.needed(fetches)
        self._trainable = {variable.op for variable in graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)}
        read = traversal.variables_read([tensor for op in fetches for tensor in op.outputs])
        local = {variable.op for variable in graph.get_collection(tf.GraphKeys.LOCAL_VARIABLES)}
        self._weights = self._trainable | {variable for variable in read if not _counts(variable)} - local
        self.writes = {op: _variables_written(op) for op in self.ops}
        # Those that follow the batch, each with whether the network reads what it writes.
        self._by_batch: dict[tf.Operation, bool] = {}
        self._owners = {} if self.explicit else {op: self._owner(op, self.writes[op]) for op in self.ops}

    def candidates(self) -> list[tf.Operation]:
        """Return all that any stage may run, those of batch normalisations among them."""
        graph = tf.get_default_graph()
        of_norms = [graph.get_operation_by_name(name) for norm in batch_norms() for name in norm.updates]
        return [*self.ops, *([] if self.explicit else of_norms)]

    def of(self, trained: Iterable[tf.Variable]) -> list[tf.Operation]:
        """Return the updates of a stage that trains these variables."""
        chosen = {variable.op for variable in trained}
        if self.explicit:
            return list(self.ops)
        owners = self._owners
        running = [op for op in self.ops if owners[op].is_trained(chosen)]
        # Towers that share a layer have an update each, for the same statistics.
        touched = {variable for op in running if owners[op].variables for variable in self.writes[op]}
        return [op for op in self.ops if op in running or (self.writes[op] & touched and not owners[op].all_of)]

    def written(self, trained: Iterable[tf.Variable], running: Iterable[tf.Operation]) -> set[str]:
        """Return the names of what a stage writes beside the trained variables.

        Args:
          trained: all that the stage trains.
          running: the update ops that run with it. What the network itself writes, in branches that may be taken,
            counts where it belongs to a trained layer; elsewhere it is frozen, and must not move.
        """
        chosen = {variable.op for variable in trained}
        network = [
            variables
            for op, variables in writes.written(self._forward).items()
            if self._owner(op, variables).is_trained(chosen)
        ]
        written = [*(_variables_written(op) for op in running), *network]
        return {variable.name for variables in written for variable in variables}

    def note(self, running: Iterable[tf.Operation], feeds: Feeds) -> None:
        """Warn of updates that no stage runs: of frozen weights, and of frozen normalisations that use the batch.

        Args:
          running: the updates that any stage runs.
          feeds: what placeholders are fed in training.
        """
        running = set(running)
        alone = [owner.variables for op, owner in self._owners.items() if owner.all_of and op not in running]
        if held := sorted({variable.name for variables in alone for variable in variables or ()}):
            log.warning(
                "%s: ops of tf.GraphKeys.UPDATE_OPS write these weights, and run only where all that they write is "
                "trained, which holds in none of the stages; train these weights, or give updates=[...] with all "
                "that is to run",
                names.listed(held),
            )
        idle = [op for op in self._by_batch if op not in running]
        switches = {tensor.op for tensor, value in feeds.items() if value.dtype == bool and value.all()}
        switched = {op: switches.intersection(traversal.needed([op])) for op in idle if self._by_batch[op]}
        self._warn(
            [op for op in idle if not self._by_batch[op]],
            "the network normalises by the batch, in evaluation too; build it with is_training=False where it is "
            "frozen, or give updates=[...]",
        )
        self._warn(
            [op for op, on in switched.items() if on],
            f"with {names.listed(sorted({op.name for on in switched.values() for op in on}))} fed True the network may "
            "normalise by the batch in training, and by these in evaluation; give frozen layers a switch that stays "
            "False, or updates=[...]",
        )

    def _warn(self, idle: Iterable[tf.Operation], reason: str) -> None:
        variables = sorted({variable.name for op in idle for variable in self.writes[op]})
        if variables:
            log.warning(
                "%s: their layers are frozen, so that these stay as they are, but %s", names.listed(variables), reason
            )

    def _owner(self, update: tf.Operation, written: set[tf.Operation]) -> _Owner:
        """Return what must be trained for an update to run."""
        before = traversal.needed([update])
        writing = writes.written(before)
        # What an op merely waits for has no part in what it writes.
        values = traversal.behind(tensor for op in writing for tensor in op.inputs) if writing else before
        weights = written & self._trainable
        if not any(_is_example(op) for op in values) or (weights and any(called(op) for op in writing)):
            others = {op for op in values if op.type in VARIABLES} - written
            weights = weights or (set() if others else written & self._weights)
            return _Owner(weights, all_of=True) if weights else _Owner(others or None)
        return _Owner(self._layer(update, before, written))

    def _layer(
        self, update: tf.Operation, before: Iterable[tf.Operation], written: set[tf.Operation]
    ) -> set[tf.Operation]:
        """Return the variable ops of the layer that an update belongs to which takes examples."""
        forward = set(self._forward)
        inner = set(before) - forward
        # Where the update and the network part: what the update takes from ops of the network.
        shared = {t.op for op in inner for t in op.inputs if t.op in forward and t.op.type not in VARIABLES}
        starts = [op for op in shared if not _is_read(op)]
        reads = [op for op in self._forward if _direct(op) & written]
        if starts and update in self.writes:
            self._by_batch[update] = bool(reads)
        sizes = {_size(variable) for variable in written}
        after = self._after([*starts, *reads], written, sizes)
        own = {variable for variable in after if _size(variable) in sizes}
        return own or after | _before(starts, written)

    def _after(self, starts: Iterable[tf.Operation], written: set[tf.Operation], sizes: set[int]) -> set[tf.Operation]:
        """Return the variables that the first ops on each way downstream take.

        Behind a first variable a way goes on through what has as many elements, as gamma / sqrt(variance), and through
        ops that take another variable of that size. Of the former, inputs are looked at as well.
        """
        nearest: set[tf.Operation] = set()
        following = traversal.takers(self._forward)
        queue = deque((op, False) for op in starts)
        seen = set(queue)
        while queue:
            op, passed = queue.popleft()
            variables = _direct(op) - written
            nearest |= variables
            passed = passed or any(_size(variable) != 1 for variable in variables)
            near = [other for other in following[op] if not passed or _is_small(other, sizes)]
            near += [
                other
                for other in following[op]
                if passed and any(_size(variable) in sizes for variable in _direct(other) - written)
            ]
            near += [tensor.op for tensor in op.inputs if _has_size(tensor, sizes) and not _is_read(tensor.op)]
            fresh = [(other, passed) for other in dict.fromkeys(near) if (other, passed) not in seen]
            seen.update(fresh)
            queue.extend(fresh)
        return nearest


def _before(starts: Iterable[tf.Operation], written: set[tf.Operation]) -> set[tf.Operation]:
    """Return the variables that the first ops on each way upstream take; a bias is passed, up to its kernel."""
    nearest: set[tf.Operation] = set()
    queue = deque(starts)
    seen = set(queue)
    while queue:
        op = queue.popleft()
        variables = _direct(op) - written
        nearest |= variables
        if any(tf.TensorShape(variable.get_attr("shape")).rank != 1 for variable in variables):
            continue
        fresh = {tensor.op for tensor in op.inputs} - seen
        seen |= fresh
        queue.extend(fresh)
    return nearest


def _is_small(op: tf.Operation, sizes: set[int]) -> bool:
    """Say whether all that an op gives has as many elements as a statistic, and so no batch."""
    return bool(op.outputs) and all(_has_size(tensor, sizes) for tensor in op.outputs)


def _has_size(tensor: tf.Tensor, sizes: set[int]) -> bool:
    return tensor.shape.is_fully_defined() and tensor.shape.num_elements() in sizes


def check_network(always: Writes, written: set[str]) -> None:
    """Refuse a network that writes frozen variables whenever it is run.

    What is written in a branch only is not refused: it may well not be taken, and what a stage does not train is proved
    not to have moved after the first step of a run.

    Args:
      always: what `written_always` returned.
      written: the names of what the stage trains, and of what belongs to that.

    Raises:
      GraphError: an op writes another variable; each such op is named.
    """
    wrong = [
        f"{op.name} ({op.type}) writes {names.listed(variable.name for variable in variables)}"
        for op, variables in always.items()
        if not {variable.name for variable in variables} <= written
    ]
    if wrong:
        raise GraphError(
            "\n  ".join(["the outputs or the loss wait for ops that write what is not trained:", *wrong])
            + "\nbuild these ops outside of tf.control_dependencies, and give them as updates=[...] or put them into "
            "tf.GraphKeys.UPDATE_OPS; or train the layer that they belong to"
        )


def warn_of_writes(always: Writes) -> None:
    """Log which variables a network writes whenever it is run; see `written_always`."""
    variables = sorted({variable.name for variables in always.values() for variable in variables})
    if variables:
        log.warning(
            "%s: written whenever the network is run, in evaluation too; build what writes them outside of "
            "tf.control_dependencies, and put it into tf.GraphKeys.UPDATE_OPS",
            names.listed(variables),
        )


def written_always(fetches: Sequence[tf.Operation], fed: Sequence[tf.Tensor]) -> Writes:
    """Return the ops that write variables whenever the fetches are run, and not in a branch alone, each with these."""
    ops = traversal.needed(fetches, fed)
    inner = traversal.inner(ops)
    return {op: variables for op, variables in writes.written(ops).items() if not (op in inner or called(op))}


def _op(update: Any, graph: tf.Graph) -> tf.Operation:
    op = getattr(update, "op", update)
    if not isinstance(op, tf.Operation) or op.graph is not graph:
        raise GraphError(f"updates: {update!r} is not an op of this graph; give ops, as tf.assign makes them")
    return op


def _grouped(op: tf.Operation) -> list[tf.Operation]:
    """Return the ops that tf.group has put together, each of which may belong to another layer; or the op itself."""
    if op.type != "NoOp" or not op.control_inputs:
        return [op]
    return [part for other in op.control_inputs for part in _grouped(other)]


def _is_example(op: tf.Operation) -> bool:
    """Say whether an op gives examples; a scalar that is fed is a switch or a rate."""
    if op.type in traversal.PLACEHOLDERS:
        return op.outputs[0].shape.rank != 0
    return op.type.startswith(("IteratorGetNext", "QueueDequeue"))


def _counts(variable: tf.Operation) -> bool:
    """Say whether a variable that is not trainable is a counter, or a state, also where the network reads it.

    An integer is one, such as the state of a generator of random numbers, and a single number: a weight of the loss
    that grows from step to step.
    """
    return tf.as_dtype(variable.get_attr("dtype")).is_integer or tf.TensorShape(variable.get_attr("shape")).rank == 0


def _variables_written(update: tf.Operation) -> set[tf.Operation]:
    return {variable for written in writes.written(traversal.needed([update])).values() for variable in written}


def _source(op: tf.Operation) -> tf.Operation:
    """Return the op whose value an op gives, but for shape and dtype."""
    while op.type in _CARRYING and op.inputs:
        op = op.inputs[0].op
    return op


def _is_read(op: tf.Operation) -> bool:
    """Say whether an op merely reads a variable."""
    return _source(op).type in VARIABLES


def _direct(op: tf.Operation) -> set[tf.Operation]:
    """Return the variables whose values an op takes as they are, but for shape and dtype; none for a mere read."""
    if _is_read(op):
        return set()
    return {source for tensor in op.inputs if (source := _source(tensor.op)).type in VARIABLES}


def _size(variable: tf.Operation) -> int:
    shape = tf.TensorShape(variable.get_attr("shape"))
    return shape.num_elements() or 0 if shape.is_fully_defined() else -1


# --- order ---


def gate(gradients: Sequence[Any], others: Iterable[tf.Tensor | tf.Operation]) -> list[Any]:
    """Return gradients that are there once all of them and all else is computed that reads variables.

    Without this, an optimizer would write one variable while the gradient of another, or a metric, still reads it.
    """
    parts = [part for gradient in gradients for part in _parts(gradient)]
    with tf.name_scope("SOLVER/"):
        with tf.control_dependencies([*parts, *others]):
            computed = tf.no_op("computed")  # One op to wait for: each for each would be the square of their number.
        with tf.control_dependencies([computed]):
            return [_identity(gradient) for gradient in gradients]


def _parts(gradient: Any) -> list[tf.Tensor]:
    return [gradient.values, gradient.indices] if isinstance(gradient, tf.IndexedSlices) else [gradient]


def _identity(gradient: Any) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        values, indices = tf.identity(gradient.values), tf.identity(gradient.indices)
        return tf.IndexedSlices(values, indices, gradient.dense_shape)
    return tf.identity(gradient, name="gradient")


def inputs_of(updates: Sequence[tf.Operation]) -> list[tf.Tensor]:
    """Return the values that the writing ops of updates take, handles and references aside."""
    writing = _Writing(updates)
    late = set(writing.late)
    return [t for op in late for t in op.inputs if t.op not in late | writing.inner and not _is_handle(t)]


def after(gradients: Sequence[Any], updates: Sequence[tf.Operation]) -> list[tf.Operation]:
    """Return ops that do what updates do, but only once gated gradients are there, and one variable's one by one.

    The ops that write are made anew, since nothing can make an op wait that is there already, and the graph that is
    given stays as it is.
    """
    writing = _Writing(updates)
    if any(op.type in LOOPS for op in writing.late):
        return list(updates)
    waiting = [part for gradient in gradients for part in _parts(gradient)]
    copies: dict[tf.Operation, tf.Operation] = {}
    last: dict[tf.Operation, tf.Operation] = {}
    for op in writing.late:
        variables = writing.written.get(op, set())
        copies[op] = copy(op, copies, [*waiting, *(last[variable] for variable in variables if variable in last)])
        if op not in writing.inner:
            last |= dict.fromkeys(variables, copies[op])
    return [copies.get(op, op) for op in updates]


class _Writing:
    """The ops of updates, in order, that write or come `after` one that does; what each writes; which are `inner`."""

    def __init__(self, updates: Sequence[tf.Operation]) -> None:
        ops = traversal.needed(updates)
        self.written = writes.written(ops)
        spread = traversal.spread(self.written, ops, through_control=True)
        self.late = [op for op in ops if op in spread]
        self.inner = traversal.inner(ops)


def copy(
    op: tf.Operation,
    copies: Mapping[tf.Operation, tf.Operation],
    waiting: Sequence[Any] = (),
    scope: str = "SOLVER/updates",
) -> tf.Operation:
    """Make an op anew under a name scope: it takes copies where there are some, and waits for what is `waiting`."""
    definition = tf.GraphDef(versions=tf.get_default_graph().graph_def_versions)
    node = definition.node.add()
    node.CopyFrom(op.node_def)
    node.attr.pop("_class", None)  # Beside which op it is to lie, which is not among what is imported.
    del node.input[:]
    inputs = {}
    for place, tensor in enumerate(op.inputs):
        node.input.append(f"input{place}:0")
        source = copies.get(tensor.op)
        inputs[f"input{place}:0"] = source.outputs[tensor.value_index] if source else tensor
    before = [copies.get(other, other) for other in op.control_inputs]
    with tf.control_dependencies([*before, *waiting]):
        (copy,) = tf.import_graph_def(definition, inputs, [node.name], name=scope)
    return copy


def _is_handle(tensor: tf.Tensor) -> bool:
    return tensor.dtype == tf.resource or tensor.dtype != tensor.dtype.base_dtype
