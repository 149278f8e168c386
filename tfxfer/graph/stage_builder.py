"""The ops of each stage: gradients, what applies them, update ops, and the summary of a batch."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import losses, summaries, traversal, updates
from tfxfer.graph.eval_step import EvalStep
from tfxfer.graph.feeds import Feeds
from tfxfer.graph.layers import DROPOUTS, BatchNorm, batch_norms
from tfxfer.graph.optimizer_groups import OptimizerGroups
from tfxfer.graph.stages import Stage, StageOps
from tfxfer.graph.sync_replicas import Replicas

log = logging.getLogger("tfxfer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageBuilder:
    """What all stages of a step are built from.

    Attributes:
      evaluation: the part of the step without training.
      objective: float32 scalar that gradients are of.
      optimizers: the groups of variables and their optimizers.
      all_updates: the update ops, and which stage runs them.
      train_feeds: what placeholders are fed in training.
      unlisted: what the network reads and GLOBAL_VARIABLES does not list.
      show_norms: whether summaries have the norms of gradients and weights.
      replicas: the processes that make each step together; None for this one alone.
    """

    evaluation: EvalStep
    objective: tf.Tensor
    optimizers: OptimizerGroups
    all_updates: updates.Updates
    train_feeds: Feeds
    unlisted: Sequence[tf.Variable]
    show_norms: bool
    replicas: Replicas | None

    def build(self, stages: Sequence[Stage]) -> tuple[StageOps, ...]:
        """Build the ops of all stages.

        Raises:
          SelectionError: the loss does not depend on a variable that is trained.
          GraphError: the network writes a variable that is not trained whenever it is run; or TensorFlow knows no
            gradient of an op between the loss and a trained variable.
        """
        built: list[StageOps] = []
        trained: list[tf.Variable] = []
        running: set[tf.Operation] = set()
        for number, stage in enumerate(stages, 1):
            trained = [*trained, *stage.selection]
            name = f"stage{number}" if len(stages) > 1 else "apply"
            norms = _norms_of(trained)
            update_ops = self._update_ops(trained, norms)
            running.update(update_ops)
            built.append(self._stage(stage.epoch, trained, norms, update_ops, name))
        updates.warn_of_writes(self._written_always)
        self.all_updates.note(running, self.train_feeds)
        _, left_out = summaries.runnable_summaries(built[-1].scalars, self._fed(built[-1].feeds))
        if left_out:
            log.warning("summaries of the graph are left out: %s", names.listed(left_out))
        return tuple(built)

    def _stage(
        self,
        epoch: int,
        trained: Sequence[tf.Variable],
        norms: Sequence[BatchNorm],
        update_ops: Sequence[tf.Operation],
        name: str,
    ) -> StageOps:
        written = {variable.op.name for variable in trained} | self.all_updates.written(trained, update_ops)
        updates.check_network(self._written_always, written)
        gradients = _gradients(self.objective, trained, self.optimizers.options.l2)
        pairs = list(zip(gradients, trained, strict=True))
        apply = self._apply(gradients, trained, update_ops, name)
        scalars = summaries.training_summary(
            self.evaluation.metrics, self.optimizers.rates(epoch), pairs if self.show_norms else ()
        )
        feeds = self._feeds(norms)
        own, _ = summaries.runnable_summaries(scalars, self._fed(feeds))
        return StageOps(
            epoch=epoch,
            variables=tuple(trained),
            written=tuple(v for v in [*tf.global_variables(), *self.unlisted] if v.op.name in written),
            apply=apply,
            feeds=feeds,
            summary=summaries.merge([scalars, *own]) if own else scalars,
            scalars=scalars,
            own_summaries=tuple(own),
        )

    @functools.cached_property
    def _written_always(self) -> updates.Writes:
        return updates.written_always(
            [tensor.op for tensor in self.evaluation.metrics.values()], self.evaluation.examples
        )

    def _fed(self, feeds: Feeds) -> list[tf.Tensor]:
        return [*self.evaluation.examples, *feeds]

    def _update_ops(self, trained: Sequence[tf.Variable], norms: Sequence[BatchNorm]) -> list[tf.Operation]:
        graph = tf.get_default_graph()
        of_norms = [graph.get_operation_by_name(op) for norm in norms for op in norm.updates]
        return [*([] if self.all_updates.explicit else of_norms), *self.all_updates.of(trained)]

    def _apply(
        self, gradients: Sequence[Any], trained: Sequence[tf.Variable], update_ops: Sequence[tf.Operation], name: str
    ) -> tf.Operation:
        reading = [*self.evaluation.metrics.values(), *updates.inputs_of(update_ops)]
        gated = updates.gate(_clipped(gradients, self.optimizers.options.clip_norm), reading)
        apply = functools.partial(self.optimizers.apply, name=name, updates=updates.after(gated, update_ops))
        pairs = list(zip(gated, trained, strict=True))
        return apply(pairs) if self.replicas is None else self.replicas.apply(apply, pairs, self.optimizers.steps)

    def _feeds(self, norms: Sequence[BatchNorm]) -> Feeds:
        graph = tf.get_default_graph()
        switches = [*tf.get_collection(DROPOUTS), *(graph.get_tensor_by_name(norm.switch) for norm in norms)]
        return {**{switch: np.asarray(True) for switch in switches}, **self.train_feeds}


def _norms_of(trained: Sequence[tf.Variable]) -> list[BatchNorm]:
    """Return the batch normalisations whose gamma or beta is trained."""
    chosen = {variable.op.name for variable in trained}
    return [norm for norm in batch_norms() if chosen.intersection(norm.trained)]


def _gradients(objective: tf.Tensor, variables: Sequence[tf.Variable], l2: float) -> list[Any]:
    with tf.name_scope("SOLVER/"):
        try:
            gradients = tf.gradients(objective, variables)
        except LookupError as error:
            raise GraphError(_without_gradient(str(error), variables)) from error
        # Looked at before L2 is added, which every kernel depends on.
        lost = [v.op.name for v, gradient in zip(variables, gradients, strict=True) if gradient is None]
        if lost:
            raise SelectionError(f"the loss does not depend on {names.listed(lost)}; train only what it depends on")
        return losses.with_l2(gradients, variables, l2)


def _without_gradient(told: str, variables: Sequence[tf.Variable]) -> str:
    """Return what to say of the op that TensorFlow says it knows no gradient of."""
    graph = tf.get_default_graph()
    found = re.search(r"operation ?'(.+?)' \(op type: (\w+)\)", told)
    if found is None:
        return f"the gradients of the loss cannot be computed: {told}"
    name, kind = found.groups()
    op = next((op for op in graph.get_operations() if op.name == name), None)
    read = None if op is None else set(traversal.variables_read(op.outputs))  # None: it lies in a function's body.
    trained = [v.op.name for v in variables if read is None or v.op in read]
    own = op.node_def.attr["_gradient_op_type"].s.decode() if op else ""  # as tf.custom_gradient names it
    return (
        f"TensorFlow knows no gradient of {name} ({own or kind}), which lies between the loss and "
        f"{names.listed(trained)}; train only what the loss depends on without this op, or register a gradient before "
        f"train_step: tf.RegisterGradient({own or kind!r})(function), where function(op, *gradients) returns one for "
        "each input" + ("; tf.custom_gradient registers its own only where it builds the network" if own else "")
    )


def _clipped(gradients: Sequence[Any], clip_norm: float | None) -> Sequence[Any]:
    with tf.name_scope("SOLVER/"):
        return gradients if clip_norm is None else tf.clip_by_global_norm(gradients, clip_norm)[0]
