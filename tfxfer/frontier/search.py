"""Find where the frozen part of a graph ends: the tensors that can be computed once for each example.

An op is *live* if what it gives can change during training for the same image, or if running it does something: it
reads a label, a fed switch or a variable that an op of the step writes, draws at random, calls Python, or has another
state of its own; or if it takes something from a live op. The frontier are the tensors that depend on the images and
are not live, whose rows are proved to belong to one example each (see `tfxfer.frontier.per_example`), and that the
rest of the step takes. Fed with these, a step needs neither the images nor what computes them.

Some of what is not live is run in each step all the same, from what is fed: what is not proved to belong to single
examples, as a mean over the batch, or belongs to them in another way, as the pixels of all examples in one dimension;
and what costs next to nothing, as a cast of the images.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.frontier.batch_axis import Layout, Mixed, Rows
from tfxfer.frontier.per_example import layouts
from tfxfer.graph import feeds, traversal
from tfxfer.graph.eval_step import EvalStep
from tfxfer.graph.normalization import BOUNDARIES
from tfxfer.graph.stages import StageOps
from tfxfer.graph.traversal import VARIABLES, called, called_in, spread, variables_of
from tfxfer.tf_private import op_definition

# Ops that count as stateful and yet give the same to all who ask: those that read variables, as long as nobody writes
# them, which is told apart by handle; arrays and stacks of tensors, which live for one step; and checks.
_HARMLESS = VARIABLES | {"Assert", "CheckNumerics", "CheckNumericsV2", "DisableCopyOnRead", "IsVariableInitialized",
                          "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VarIsInitializedOp",
                          "VariableShape"}  # fmt: skip
_ARRAYS = ("TensorArray", "Stack")
_CALLERS = {"If", "Case", "While", "StatefulPartitionedCall"}
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
# What a Python function does lies in this process alone, also where it is said to be stateless.
PYTHON = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
# What moves, casts, scales or repeats numbers, and what asks for a shape.
_CHEAP = {"Add", "AddV2", "Cast", "ConcatV2", "Div", "EnsureShape", "ExpandDims", "Fill", "FloorDiv", "GatherV2",
          "Identity", "Maximum", "Minimum", "Mul", "Neg", "OnesLike", "Pack", "Prod", "Range", "Rank", "RealDiv",
          "Reshape", "ReverseV2", "Shape", "ShapeN", "Size", "Slice", "Split", "SplitV", "Squeeze", "StopGradient",
          "StridedSlice", "Sub", "Tile", "Transpose", "Unpack", "ZerosLike"}  # fmt: skip

NOTHING: Mapping[tf.Operation, np.ndarray] = {}


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The boundary of one stage.

    Attributes:
      tensors: what is fed in place of the images, each with the batch as its first dimension; the images themselves are
        among them where the step takes these too.
      frozen: the ops of the step that depend on the images and that a step fed so does not run.
      reasons: why each of the tensors, by name, is not computed further: the op that takes it and is run in each step,
        and what that does.
    """

    tensors: tuple[tf.Tensor, ...]
    frozen: frozenset[tf.Operation]
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)


def frontier(step: EvalStep, stage: StageOps | None = None) -> Frontier:
    """Find where the frozen part ends in one stage of a step.

    Args:
      step: what `train_step` or `eval_step` returned.
      stage: default: the last, which is right for all. The step of an evaluation has none; there all is frozen but
        what depends on the labels, and what is fetched.

    Raises:
      GraphError: images are fed in batches of one size only, or an op that is run in each step has a control
        dependency on the frozen part; each is named.
    """
    # A placeholder that training feeds otherwise than evaluation changes; one that both feed alike does not.
    stage = stage or step.last_stage
    training = stage.feeds if stage else step.eval_feeds
    differing = feeds.differing(training, step.eval_feeds)
    changing = [tensor.op for tensor in (step.labels, *differing) if tensor is not None]
    constant = feeds.constant(training, step.eval_feeds)
    shown = [*step.metrics.values(), *([] if step.probabilities is None else [step.probabilities])]
    fetched = [tensor.op for tensor in shown]
    applied = [stage.apply, stage.scalars.op] if stage else []
    return find(step.images, [*applied, *fetched], changing, constant, run=fetched)


def find(
    images: tf.Tensor,
    fetches: Sequence[tf.Operation],
    changing: Iterable[tf.Operation] = (),
    constant: Mapping[tf.Operation, np.ndarray] = NOTHING,
    *,
    run: Iterable[tf.Operation] = (),
) -> Frontier:
    """Find where the frozen part ends in any graph.

    Args:
      images: the placeholder that is fed with images.
      fetches: the ops that are to be run.
      changing: placeholders that are fed otherwise from step to step; one without a default counts as if it were.
      constant: placeholders that are always fed the same, with what they are fed.
      run: those of the fetches that are run in any case, since what is fed cannot be fetched.

    Raises:
      GraphError: see `frontier`.
    """
    if not _has_batch(images):
        raise GraphError(f"{images.name} has the shape {images.shape}; its first dimension must be None, for any batch")
    needed = traversal.needed(fetches)
    changing = set(changing)
    own = {op: reason for op, reason in _sources(needed, images.op).items() if op not in constant}
    sources = own | dict.fromkeys(changing, "is fed with something else in each step")
    live = spread(sources, needed, through_control=True)
    depending = spread({images.op}, needed)
    inner = traversal.inner(needed)
    frozen = depending - live - set(run)
    layout = layouts([op for op in needed if op in frozen and op is not images.op], images, changing, constant)
    frozen -= {op for op in frozen if any(isinstance(layout(tensor), Mixed) for tensor in op.outputs)}
    # Invariant: each op in `frozen` gives the same in each step, and what it gives is proved to belong to examples. In
    # each round, ops whose outputs are on the boundary and are not stored leave it, and what they take is on the next
    # boundary. Ops only leave, so that this ends; then all that is on the boundary is stored, or is the images.
    cut = _Cut(fetches, frozen)
    while unstored := _not_stored(needed, frozen, cut.tensors, images.op, lambda t: _storable(t, layout(t), inner)):
        frozen -= unstored
        cut = _Cut(fetches, frozen)
    cut.check()
    order = {op: number for number, op in enumerate(needed)}
    tensors = sorted(cut.tensors, key=lambda tensor: (order[tensor.op], tensor.value_index))
    why = _Reasons(needed, live, sources, layout)
    reasons = {tensor.name: why.of(tensor, cut.run) for tensor in tensors}
    return Frontier(tuple(tensors), frozenset(depending - cut.run - {images.op}), reasons)


# --- what is live of itself ---


def _sources(needed: Sequence[tf.Operation], images: tf.Operation) -> dict[tf.Operation, str]:
    """Return the ops that are live of themselves, each with what it does."""
    functions = Functions(images.graph)
    acting = {op for op in needed if functions.acts(op.type, called(op))}
    written = variables_of(tensor for op in acting for tensor in op.inputs)
    # A placeholder that has a default and is not fed is a constant; one without must be fed with who knows what.
    fed = {op for op in needed if op.type in ("Placeholder", "PlaceholderV2") and op is not images}
    marked = {tensor.op for tensor in images.graph.get_collection(BOUNDARIES)}.intersection(needed)
    return {
        **dict.fromkeys(marked, "belongs to the head, and features are stored as they are"),
        **dict.fromkeys(acting, "draws at random, calls Python or has another state of its own"),
        **dict.fromkeys(written, "is written in each step"),
        **dict.fromkeys(fed, "is fed in each step"),
    }


class Functions:
    """What the functions of a graph do."""

    def __init__(self, graph: tf.Graph) -> None:
        self._graph = graph
        self._library: dict[str, Any] | None = None
        self._known: dict[str, bool] = {}

    def acts(self, kind: str, called: Iterable[str]) -> bool:
        """Say whether an op gives something new each time, or does something, of itself or in what it calls."""
        definition = op_definition(kind)
        if definition is None:
            return self._acts(kind)
        if kind in PYTHON:
            return True
        if kind in _HARMLESS or kind.startswith(_ARRAYS):
            return False
        stateful = definition.is_stateful and kind not in _CALLERS
        return (
            stateful
            or traversal.takes_reference(kind)
            or kind.startswith(_RANDOM)
            or any(self._acts(name) for name in called)
        )

    def _acts(self, name: str) -> bool:
        if self._library is None:
            self._library = traversal.function_library(self._graph)
        if name not in self._library:
            return True
        if name not in self._known:
            self._known[name] = False  # A function that calls itself adds nothing to itself.
            self._known[name] = any(self.acts(node.op, called_in(node)) for node in self._library[name].node_def)
        return self._known[name]


# --- what can be stored ---


def _not_stored(
    needed: Sequence[tf.Operation],
    frozen: Collection[tf.Operation],
    tensors: Sequence[tf.Tensor],
    images: tf.Operation,
    storable: Callable[[tf.Tensor], bool],
) -> set[tf.Operation]:
    """Return the frozen ops that give tensors on the boundary and are to be run in each step all the same.

    These are ops whose tensors cannot be stored, and cheap ops that take only the images, what is stored, and what
    other cheap ops give.
    """
    on_boundary = {tensor.op for tensor in tensors} - {images}
    unstored = {tensor.op for tensor in tensors if not storable(tensor)} & on_boundary
    at_hand = {images}
    for op in needed:
        if op in frozen and op.type in _CHEAP and all(t.op in at_hand or t.op not in frozen for t in op.inputs):
            at_hand.add(op)
            unstored |= {op} & on_boundary
        elif op in on_boundary:
            at_hand.add(op)
    return unstored


def _storable(tensor: tf.Tensor, layout: Layout | None, inner: Collection[tf.Operation]) -> bool:
    plain = isinstance(layout, Rows) and layout.is_plain
    return plain and _is_numeric(tensor) and _has_batch(tensor) and tensor.op not in inner


def _is_numeric(tensor: tf.Tensor) -> bool:
    return tensor.dtype.is_floating or tensor.dtype.is_integer or tensor.dtype.is_bool


def _has_batch(tensor: tf.Tensor) -> bool:
    return tensor.shape.rank is None or tensor.shape.as_list()[:1] == [None]


class _Cut:
    """The boundary of the frozen ops.

    Attributes:
      run: the ops that are run for the fetches, if no frozen op is.
      tensors: of frozen ops, those that are taken by ops of `run`, or fetched.
      waiting: pairs of an op of `run` and a frozen op that it has a control dependency on.
    """

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
        """Refuse ops that would run the frozen part all the same, since they wait for it."""
        if self.waiting:
            rows = "\n".join(f"  {op.name} has a control dependency on {before.name}" for op, before in self.waiting)
            raise GraphError(
                f"the frozen part cannot be computed apart from what is trained:\n{rows}\n"
                "build these ops outside of tf.control_dependencies, or train from images"
            )


class _Reasons:
    """Why ops are run in each step."""

    def __init__(
        self,
        needed: Sequence[tf.Operation],
        live: Collection[tf.Operation],
        sources: Mapping[tf.Operation, str],
        layout: Callable[[tf.Tensor], Layout | None],
    ) -> None:
        self._order = {op: number for number, op in enumerate(needed)}
        self._live, self._sources, self._layout = live, sources, layout

    def of(self, tensor: tf.Tensor, run: Collection[tf.Operation]) -> str:
        """Say which op takes a tensor and is run in each step, and why; the empty string if it is only fetched."""
        queue, seen = deque(sorted(self._takers(tensor, run), key=self._place)), set[tf.Operation]()
        while queue:
            op = queue.popleft()
            why = self._why(op)
            if why:
                return f"{op.name} ({op.type}) {why}"
            seen.add(op)  # It is cheap, or gives something else than a row an example; what takes it is looked at.
            after = {other for output in op.outputs for other in self._takers(output, run)} - seen
            queue.extend(sorted(after, key=self._place))
        return ""

    def _takers(self, tensor: tf.Tensor, run: Collection[tf.Operation]) -> set[tf.Operation]:
        return {op for op in tensor.consumers() if op in run}

    def _place(self, op: tf.Operation) -> int:
        return self._order.get(op, len(self._order))

    def _why(self, op: tf.Operation) -> str:
        if op in self._live:
            source = self._nearest(op)
            reason = self._sources[source]
            return reason if source is op else f"depends on {source.name}, which {reason}"
        mixed = next((m for t in op.outputs if isinstance(m := self._layout(t), Mixed)), None)
        if mixed is None:
            return ""
        proof = "it is not proved that examples do not depend on each other"
        reason = mixed.reason.partition(") ")[2] or mixed.reason
        return f"{reason}: {proof}" if mixed.op == op.name else f"depends on {mixed.op}, which {reason}: {proof}"

    def _nearest(self, op: tf.Operation) -> tf.Operation:
        queue, seen = deque([op]), {op}
        while queue:
            op = queue.popleft()
            if op in self._sources:
                return op
            before = [*(tensor.op for tensor in op.inputs), *op.control_inputs]
            new = [other for other in dict.fromkeys(before) if other in self._live and other not in seen]
            seen.update(new)
            queue.extend(new)
        return op
