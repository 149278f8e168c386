"""Where the frozen part of a graph ends: the tensors that can be computed once for each example.

An op is *live* if what it gives can change during training for the same image: it reads a label, a fed switch or a
variable that the step writes, draws at random, or has any other state of its own; or if one of its inputs does. The
frontier are the tensors that depend on the images and are not live, and that a live op (or the caller) takes. Fed with
these, a step needs neither the images nor any op that is not live and depends on them.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterable, Sequence

import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.graph.train_step import StageOps, Step

# Ops with state that give the same to all who ask, as long as nobody writes the variable: that is told apart by handle.
_READERS = {"VarHandleOp", "VariableV2", "Variable", "ReadVariableOp", "ResourceGather", "ResourceGatherNd",
            "VarIsInitializedOp", "IsVariableInitialized", "VariableShape"}  # fmt: skip
_PLACEHOLDERS = {"Placeholder", "PlaceholderWithDefault", "PlaceholderV2"}
# Stateless random ops repeat themselves for the same seed, and the seed is a function of global_step or of nothing; in
# both cases what they draw belongs to the step and not to the image.
_RANDOM = (
    "StatelessRandom",
    "StatelessMultinomial",
    "StatelessTruncatedNormal",
    "StatelessParameterizedTruncatedNormal",
    "StatelessSampleDistortedBoundingBox",
    "StatelessShuffle",
)


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The boundary of one stage.

    Attributes:
      tensors: what is fed in place of the images, each with the batch as its first dimension, in the graph's order.
      frozen: the ops that compute them from the images, which a step fed so does not run.
    """

    tensors: tuple[tf.Tensor, ...]
    frozen: frozenset[tf.Operation]


def frontier(step: Step, stage: StageOps) -> Frontier:
    """Find where the frozen part ends in one stage of a training step.

    Raises:
      GraphError: what is trained needs a tensor that depends on the images and has not the batch as its first dimension
        (`tf.shape` of the images, say), or a control dependency on the frozen part; each is named.
    """
    written = {variable.op.name for variable in (*stage.written, *step.slots, step.global_step)}
    changing = [tensor.op for tensor in (step.labels, *stage.switches) if tensor is not None]
    fetches = [stage.apply, *(tensor.op for tensor in (*step.metrics.values(), step.summary))]
    if step.probabilities is not None:
        fetches.append(step.probabilities.op)
    return find(step.images, fetches, changing, written)


def find(
    images: tf.Tensor, fetches: Sequence[tf.Operation], changing: Iterable[tf.Operation], written: Collection[str]
) -> Frontier:
    """Find where the frozen part ends in any graph.

    Args:
      images: the placeholder that is fed with images.
      fetches: the ops that are to be run.
      changing: placeholders that are fed otherwise from step to step: labels, switches.
      written: op names of the variables that the fetches write.

    Raises:
      GraphError: see `frontier`.
    """
    needed = _ancestors(fetches)
    ordered = [op for op in images.graph.get_operations() if op in needed]
    live = _spread([op for op in ordered if op in set(changing) or _is_live(op, images.op, written)], needed)
    seen = _spread([images.op], needed)
    frozen = seen - live
    tensors = _crossing(ordered, frozen, set(fetches))
    tensors, kept = _without_shapes(tensors, frozen, ordered, set(fetches))
    _check(tensors, ordered, kept)
    return Frontier(tuple(tensors), frozenset(kept - {images.op}))


def _ancestors(fetches: Iterable[tf.Operation]) -> set[tf.Operation]:
    found, queue = set(fetches), deque(fetches)
    while queue:
        op = queue.popleft()
        for before in (*(tensor.op for tensor in op.inputs), *op.control_inputs):
            if before not in found:
                found.add(before)
                queue.append(before)
    return found


def _spread(sources: Iterable[tf.Operation], within: set[tf.Operation]) -> set[tf.Operation]:
    """Return the sources and what takes their outputs, directly or not. Control edges carry no values."""
    found, queue = set(sources), deque(sources)
    while queue:
        for tensor in queue.popleft().outputs:
            for after in tensor.consumers():
                if after in within and after not in found:
                    found.add(after)
                    queue.append(after)
    return found


def _is_live(op: tf.Operation, images: tf.Operation, written: Collection[str]) -> bool:
    if op is images:
        return False
    if op.type in _PLACEHOLDERS:
        # One that has a default and is not fed is a constant; one without must be fed with who knows what.
        return op.type != "PlaceholderWithDefault"
    if op.type in _READERS:
        return op.name in written
    return _draws(op.type, op.op_def.is_stateful and not _bodies(op)) or any(
        _draws(node, stateful) for node, stateful in _nodes_of(op)
    )


def _draws(kind: str, stateful: bool) -> bool:
    return kind not in _READERS and (stateful or kind.startswith(_RANDOM))


def _bodies(op: tf.Operation) -> list[str]:
    """Return the names of the functions that an op calls: tf.cond's branches, a loop's body."""
    values = [op.node_def.attr[name] for name in op.node_def.attr]
    return [function.name for value in values for function in (value.func, *value.list.func) if function.name]


def _nodes_of(op: tf.Operation) -> Iterable[tuple[str, bool]]:
    """Yield type and statefulness of every node in the functions that an op calls, and in those that they call."""
    library = (
        {function.signature.name: function for function in op.graph.as_graph_def().library.function}
        if _bodies(op)
        else {}
    )
    queue, done = deque(_bodies(op)), set()
    while queue:
        name = queue.popleft()
        if name in done or name not in library:
            continue
        done.add(name)
        for node in library[name].node_def:
            called = [f.name for value in node.attr.values() for f in (value.func, *value.list.func) if f.name]
            queue.extend(called)
            yield node.op, not called and _is_stateful(node.op)


def _is_stateful(kind: str) -> bool:
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(kind)
    return definition is None or definition.is_stateful


def _crossing(
    ordered: Sequence[tf.Operation], frozen: set[tf.Operation], fetches: set[tf.Operation]
) -> list[tf.Tensor]:
    taken = {tensor.ref() for op in ordered if op not in frozen for tensor in op.inputs}
    return [tensor for op in ordered if op in frozen for tensor in op.outputs if tensor.ref() in taken or op in fetches]


def _has_batch(tensor: tf.Tensor) -> bool:
    return tensor.shape.rank is None or tensor.shape.as_list()[:1] == [None]


def _without_shapes(
    tensors: list[tf.Tensor], frozen: set[tf.Operation], ordered: Sequence[tf.Operation], fetches: set[tf.Operation]
) -> tuple[list[tf.Tensor], set[tf.Operation]]:
    """Leave to the step what has no batch dimension and follows from frontier tensors alone: their shapes, mostly."""
    kept = set(frozen)
    while True:
        good = {tensor.ref() for tensor in tensors if _has_batch(tensor)}
        movable = {
            tensor.op
            for tensor in tensors
            if not _has_batch(tensor) and all(one.ref() in good or one.op not in kept for one in tensor.op.inputs)
        } - fetches
        if not movable:
            return tensors, kept
        kept -= movable
        tensors = _crossing(ordered, kept, fetches)


def _check(tensors: Sequence[tf.Tensor], ordered: Sequence[tf.Operation], frozen: set[tf.Operation]) -> None:
    wrong = [f"{tensor.name} {tensor.shape} has not the batch as its first dimension" for tensor in tensors
             if not _has_batch(tensor)]  # fmt: skip
    wrong += [
        f"{op.name} has a control dependency on {before.name}"
        for op in ordered
        if op not in frozen
        for before in op.control_inputs
        if before in frozen
    ]
    if wrong:
        rows = "\n".join(f"  {line}" for line in wrong)
        raise GraphError(
            f"the frozen part cannot be computed apart from the images:\n{rows}\n"
            "compute it from tensors that have the batch as their first dimension, or train from images"
        )
