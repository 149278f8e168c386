"""Steps that several processes make together, and where their variables lie."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.graph.optimizer_groups import Pairs
from tfxfer.graph.partitioned import splitting


class _Joint(tf.train.Optimizer):
    """The optimizers of all groups of a stage as one, which also counts the step."""

    def __init__(self, update: Callable[[Pairs], tf.Operation]) -> None:
        super().__init__(use_locking=False, name="joint")
        self._update = update

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: str | None = None) -> tf.Operation:
        return self._update(list(grads_and_vars))


@dataclasses.dataclass
class Replicas:
    """Processes that make each step of training together, each from its own part of the batch.

    The chief's op takes the mean of all gradients and updates the variables: nothing changes but while it runs, so that
    what the chief validates and saves between two steps is whole.

    Attributes:
      number: how many processes there are.
      chief: whether this is the one that updates.
      start_ops: for each op that `apply` returned, the op that has to run before it is first run in a start or a stage.
      local_step_ops: for each such op of the chief, the op that sets its local step to global_step, so that its
        gradients count in the step that is due.
      leftovers: the chief's: for each accumulator and queue in which a killed start may have left something, how many
        items there are, and what takes them out.
      extra_tokens: the chief's: puts as many tokens into the queue as there are processes, so that each can begin the
        step that is due once more.
    """

    number: int
    chief: bool
    start_ops: dict[tf.Operation, tf.Operation] = dataclasses.field(default_factory=dict)
    local_step_ops: dict[tf.Operation, tf.Operation] = dataclasses.field(default_factory=dict)
    leftovers: list[tuple[tf.Tensor, tf.Tensor]] = dataclasses.field(default_factory=list)
    extra_tokens: tf.Operation | None = None

    def apply(self, apply_updates: Callable[[Pairs], tf.Operation], pairs: Pairs, steps: tf.Variable) -> tf.Operation:
        """Return the op by which this process takes part in a step.

        Args:
          apply_updates: makes, from gradients and their variables, the op that makes a step and counts it.
          pairs: this process's gradients and their variables.
          steps: the variable that counts steps.
        """
        solver = tf.train.SyncReplicasOptimizer(_Joint(apply_updates), replicas_to_aggregate=self.number)
        contribute = solver.apply_gradients(pairs, global_step=steps)
        contribute = getattr(contribute, "op", contribute)
        solver.ready_for_local_init_op.mark_used()  # It is the Scaffold's to ask that, which has an op of its own.
        if not self.chief:
            self.start_ops[contribute] = solver.local_step_init_op
            return contribute
        # TensorFlow runs this in a thread of its own, at any time; here it is part of the chief's step.
        (update,) = solver.get_chief_queue_runner().enqueue_ops
        self.extra_tokens = solver.get_init_tokens_op(self.number)
        self.leftovers += [_gradients_left(gradient, variable) for gradient, variable in pairs]
        self.leftovers.append(_tokens_left(steps))
        with tf.name_scope("SOLVER/"):
            together = tf.group(contribute, update, name="together")
        self.start_ops[together], self.local_step_ops[together] = solver.chief_init_op, solver.local_step_init_op
        return together


def _gradients_left(gradient: Any, variable: tf.Variable) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients in the accumulator that SyncReplicasOptimizer keeps for a variable."""
    name = f"{variable.name}/grad_accum"
    with tf.device(variable.device), tf.name_scope("SOLVER/"):
        if isinstance(gradient, tf.IndexedSlices):
            sparse = tf.SparseConditionalAccumulator(gradient.dtype, shape=(), shared_name=name)
            count = sparse.num_accumulated()
            return count, sparse.take_indexed_slices_grad(tf.maximum(count, 1)).values
        dense = tf.ConditionalAccumulator(gradient.dtype, shape=variable.get_shape(), shared_name=name)
        count = dense.num_accumulated()
        return count, dense.take_grad(tf.maximum(count, 1))


def _tokens_left(steps: tf.Variable) -> tuple[tf.Tensor, tf.Tensor]:
    """The tokens in the queue by which SyncReplicasOptimizer lets processes begin their next step."""
    with tf.device(steps.device), tf.name_scope("SOLVER/"):
        queue = tf.FIFOQueue(-1, steps.dtype.base_dtype, shapes=(), shared_name="sync_token_q")
        count = queue.size()
        return count, queue.dequeue_many(count)


@contextlib.contextmanager
def placed(cluster: Mapping[str, Sequence[str]], device: str, min_slice_size: int) -> Iterator[None]:
    """Put variables on parameter servers, by size, and all else on a process's own device.

    Args:
      cluster: addresses by role.
      device: what TensorFlow calls the process's device, as `/job:worker/task:1`.
      min_slice_size: the bytes of the smallest part that a variable is split into, to lie on several servers.
    """
    spec = tf.train.ClusterSpec({role: list(addresses) for role, addresses in cluster.items()})
    loads = [0] * len(cluster["ps"])
    setter = tf.train.replica_device_setter(
        cluster=spec, worker_device=device, ps_strategy=lambda op: _lightest(loads, op)
    )
    getter = splitting(len(loads), min_slice_size)
    with (
        tf.device(setter),
        tf.variable_scope(tf.get_variable_scope(), custom_getter=getter, auxiliary_name_scope=False),
    ):
        yield


def _lightest(loads: list[int], op: tf.Operation) -> int:
    """Return the server that has the fewest bytes so far, and count those of the variable that is made."""
    place = loads.index(min(loads))
    sides = [side.size for side in op.get_attr("shape").dim]
    loads[place] += math.prod(max(side, 1) for side in sides) * op.get_attr("dtype").size
    return place
