"""Where the frozen part of a graph ends: the tensors that can be computed once for each example.

An op is *live* if what it gives can change during training for the same image, or if running it does something: it
reads a label, a fed switch or a variable that an op of the step writes, draws at random, or has another state of its
own; or if it takes something from a live op, or what was reduced over the batch. The frontier are the tensors that
depend on the images and are not live, and that the rest of the step takes. Fed with these, a step needs neither the
images nor what computes them.

Some of what is not live is run in each step all the same, from what is fed: what does not belong to single examples,
as a mean over the batch or a shape, and what costs next to nothing, as a cast of the images.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import op_def_registry

from tfxfer.errors import GraphError
from tfxfer.graph import feeds, traversal
from tfxfer.graph.train_step import StageOps, Step
from tfxfer.graph.traversal import VARIABLES, called, called_in, spread, variables_of

# Ops that count as stateful and yet give the same to all who ask: those that read variables, as long as nobody writes
# them, which is told apart by handle; arrays and stacks of tensors, which live for one step; and checks.
_HARMLESS = VARIABLES | {"Assert", "CheckNumerics", "CheckNumericsV2", "DisableCopyOnRead", "IsVariableInitialized",
                          "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VarIsInitializedOp",
                          "VariableShape"}  # fmt: skip
_ARRAYS = ("TensorArray", "Stack")
_CALLERS = {"If", "Case", "While", "StatefulPartitionedCall"}
_PASSING = {"RefEnter", "RefExit", "RefIdentity", "RefMerge", "RefNextIteration", "RefSelect", "RefSwitch"}
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
# They reduce over the batch and use it in one op.
_FUSED = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}
_SHAPES = {"Rank", "Shape", "ShapeN", "Size"}
# What moves, casts, scales or repeats numbers, and what asks for a shape.
_CHEAP = {"Add", "AddV2", "Cast", "ConcatV2", "Div", "EnsureShape", "ExpandDims", "Fill", "FloorDiv", "GatherV2",
          "Identity", "Maximum", "Minimum", "Mul", "Neg", "OnesLike", "Pack", "Prod", "Range", "Rank", "RealDiv",
          "Reshape", "ReverseV2", "Shape", "ShapeN", "Size", "Slice", "Split", "SplitV", "Squeeze", "StopGradient",
          "StridedSlice", "Sub", "Tile", "Transpose", "Unpack", "ZerosLike"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The boundary of one stage.

    Attributes:
      tensors: what is fed in place of the images, each with the batch as its first dimension; the images themselves are
        among them where the step takes these too.
      frozen: the ops of the step that depend on the images and that a step fed so does not run.
    """

    tensors: tuple[tf.Tensor, ...]
    frozen: frozenset[tf.Operation]


def frontier(step: Step, stage: StageOps) -> Frontier:
    """Find where the frozen part ends in one stage of a training step.

    Raises:
      GraphError: images are fed in batches of one size only, or an op that is run in each step has a control
        dependency on the frozen part; each is named.
    """
    # A placeholder that training feeds otherwise than evaluation changes; one that both feed alike does not.
    differing = feeds.differing(stage.feeds, step.eval_feeds)
    changing = [tensor.op for tensor in (step.labels, *differing) if tensor is not None]
    constant = [tensor.op for tensor in feeds.constant(stage.feeds, step.eval_feeds)]
    fetches = [stage.apply, *(tensor.op for tensor in (*step.metrics.values(), stage.scalars))]
    if step.probabilities is not None:
        fetches.append(step.probabilities.op)
    return find(step.images, fetches, changing, constant)


def find(
    images: tf.Tensor,
    fetches: Sequence[tf.Operation],
    changing: Iterable[tf.Operation] = (),
    constant: Iterable[tf.Operation] = (),
) -> Frontier:
    """Find where the frozen part ends in any graph.

    Args:
      images: the placeholder that is fed with images.
      fetches: the ops that are to be run.
      changing: placeholders that are fed otherwise from step to step; one without a default counts as if it were.
      constant: placeholders that are always fed the same value.

    Raises:
      GraphError: see `frontier`.
    """
    if not _has_batch(images):
        raise GraphError(f"{images.name} has the shape {images.shape}; its first dimension must be None, for any batch")
    needed = traversal.needed(fetches)
    live = spread(_sources(needed, images.op) - set(constant) | set(changing), needed, through_control=True)
    depending = spread({images.op}, needed)
    inner = traversal.inner(needed)
    frozen = depending - live
    frozen -= spread(_mixed(needed, frozen - inner), needed)
    while True:
        cut = _Cut(fetches, frozen)
        moved = _not_stored(needed, frozen, cut.tensors, images.op, inner)
        if not moved:
            break
        frozen -= moved
    cut.check()
    order = {op: number for number, op in enumerate(needed)}
    tensors = sorted(cut.tensors, key=lambda tensor: (order[tensor.op], tensor.value_index))
    return Frontier(tuple(tensors), frozenset(depending - cut.run - {images.op}))


# --- what is live of itself ---


def _sources(needed: Sequence[tf.Operation], images: tf.Operation) -> set[tf.Operation]:
    functions = _Functions(images.graph)
    acting = {op for op in needed if functions.acts(op.type, called(op))}
    written = variables_of(tensor for op in acting for tensor in op.inputs)
    # A placeholder that has a default and is not fed is a constant; one without must be fed with who knows what.
    fed = {op for op in needed if op.type in ("Placeholder", "PlaceholderV2") and op is not images}
    return acting | written | fed


class _Functions:
    """What the functions of a graph do."""

    def __init__(self, graph: tf.Graph) -> None:
        self._graph = graph
        self._library: dict[str, Any] | None = None
        self._known: dict[str, bool] = {}

    def acts(self, kind: str, called: Iterable[str]) -> bool:
        """Say whether an op gives something new each time, or does something, of itself or in what it calls."""
        definition = op_def_registry.get(kind)
        if definition is None:
            return self._acts(kind)
        if kind in _HARMLESS or kind.startswith(_ARRAYS):
            return False
        writes = kind not in _PASSING and any(arg.is_ref for arg in definition.input_arg)
        stateful = definition.is_stateful and kind not in _CALLERS
        return stateful or writes or kind.startswith(_RANDOM) or any(self._acts(name) for name in called)

    def _acts(self, name: str) -> bool:
        if self._library is None:
            self._library = {f.signature.name: f for f in self._graph.as_graph_def().library.function}
        if name not in self._library:
            return True
        if name not in self._known:
            self._known[name] = False  # A function that calls itself adds nothing to itself.
            self._known[name] = any(self.acts(node.op, called_in(node)) for node in self._library[name].node_def)
        return self._known[name]


# --- what can be stored ---


def _mixed(needed: Sequence[tf.Operation], frozen: Collection[tf.Operation]) -> set[tf.Operation]:
    """Return the ops that take what was reduced over the batch, and may give tensors that have a batch again.

    Within functions and branches this is not looked for: an untaken branch may well compute moments.
    """
    reduced = {
        tensor.ref()
        for op in needed
        if op in frozen and op.type not in _SHAPES and not op.type.startswith(_ARRAYS) and not called(op)
        if any(tensor.op in frozen and _has_batch(tensor) for tensor in op.inputs)
        for tensor in op.outputs
        if _is_numeric(tensor) and not _has_batch(tensor)
    }
    takers = {op for op in needed if any(tensor.ref() in reduced for tensor in op.inputs)}
    return takers | {op for op in frozen if op.type in _FUSED and op.get_attr("is_training")}


def _not_stored(
    needed: Sequence[tf.Operation],
    frozen: Collection[tf.Operation],
    tensors: Sequence[tf.Tensor],
    images: tf.Operation,
    inner: Collection[tf.Operation],
) -> set[tf.Operation]:
    """Return the frozen ops that give these tensors and are to be run in each step all the same."""
    taken = {tensor.op for tensor in tensors} - {images}
    moved = {tensor.op for tensor in tensors if not _storable(tensor, inner)} & taken
    near = {images}  # The images, what is stored, and what can be got from these by cheap ops.
    for op in needed:
        if op in frozen and op.type in _CHEAP and all(t.op in near or t.op not in frozen for t in op.inputs):
            near.add(op)
            moved |= {op} & taken
        elif op in taken:
            near.add(op)
    return moved


def _storable(tensor: tf.Tensor, inner: Collection[tf.Operation]) -> bool:
    return _is_numeric(tensor) and _has_batch(tensor) and tensor.op not in inner


def _is_numeric(tensor: tf.Tensor) -> bool:
    return tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool


def _has_batch(tensor: tf.Tensor) -> bool:
    return tensor.shape.rank is None or tensor.shape.as_list()[:1] == [None]


class _Cut:
    """What is run for the fetches, if no frozen op is: `run`, and the frozen `tensors` that it takes."""

    def __init__(self, fetches: Iterable[tf.Operation], frozen: Collection[tf.Operation]) -> None:
        taken = {tensor.ref(): tensor for op in fetches if op in frozen for tensor in op.outputs}
        self.waiting: list[tuple[tf.Operation, tf.Operation]] = []
        queue = deque(op for op in fetches if op not in frozen)
        self.run = set(queue)
        while queue:
            op = queue.popleft()
            taken |= {tensor.ref(): tensor for tensor in op.inputs if tensor.op in frozen}
            self.waiting += [(op, before) for before in op.control_inputs if before in frozen]
            for before in {tensor.op for tensor in op.inputs}.union(op.control_inputs).difference(frozen, self.run):
                self.run.add(before)
                queue.append(before)
        self.tensors = list(taken.values())

    def check(self) -> None:
        """Refuse ops that would run the frozen part all the same."""
        if self.waiting:
            rows = "\n".join(f"  {op.name} has a control dependency on {one.name}" for op, one in self.waiting)
            raise GraphError(
                f"the frozen part cannot be computed apart from what is trained:\n{rows}\n"
                "build these ops outside of tf.control_dependencies, or train from images"
            )
