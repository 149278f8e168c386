"""One step of training, built before the session: gradients, optimizers, metrics, savers, summaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import losses, summaries
from tfxfer.graph.layers import DROPOUTS, batch_norms
from tfxfer.graph.variables import global_step

LearningRate = float | Callable[[tf.Variable], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Stage:
    """From an epoch on, further variables are trained.

    Attributes:
      epoch: the first epoch of the stage, counted from 0.
      selection: the variables that join those of earlier stages.
      multiplier: what the learning rate is multiplied by for them.
    """

    epoch: int
    selection: Sequence[tf.Variable]
    multiplier: float = 1.0


@dataclasses.dataclass(frozen=True)
class StageOps:
    """What training runs from `epoch` on.

    Attributes:
      epoch: the first epoch of the stage, counted from 0.
      variables: all that is trained in it.
      written: all that it writes but optimizer slots and global_step: `variables`, and the moving statistics of a batch
        normalisation whose gamma or beta is among them.
      apply: the op that makes one step and adds 1 to global_step.
      switches: the boolean placeholders to be fed True with it.
    """

    epoch: int
    variables: tuple[tf.Variable, ...]
    written: tuple[tf.Variable, ...]
    apply: tf.Operation
    switches: tuple[tf.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """Everything that training and evaluation run.

    Attributes:
      images, labels, outputs: as given to `train_step`; `labels` may be None.
      probabilities: float32 [batch, classes], or None without labels.
      loss: float32 scalar, the mean of `metrics["loss"]` over the batch.
      metrics: per example, float32 [batch]: `loss`, and with labels `accuracy` (1 where the prediction is right). They
        are plain: neither L2 nor a class weight is in them, so that runs with others compare.
      learning_rate: float32 scalar, before any multiplier.
      global_step: integer variable, the number of steps made.
      stages: in order of their epochs; the first begins at 0.
      slots: the optimizers' own variables, of all stages.
      finite: bool scalar: whether every trained variable is finite.
      saver: saves and restores all variables, those of the optimizers and global_step included.
      summary: serialized scalars (loss, accuracy, learning rate) and histograms of trained variables, for a fed batch.
      image_summary: serialized `input_image` of a fed batch.
      l2, class_weights: as given to `train_step`.
    """

    images: tf.Tensor
    labels: tf.Tensor | None
    outputs: tf.Tensor
    probabilities: tf.Tensor | None
    loss: tf.Tensor
    metrics: Mapping[str, tf.Tensor]
    learning_rate: tf.Tensor
    global_step: tf.Variable
    stages: tuple[StageOps, ...]
    slots: tuple[tf.Variable, ...]
    finite: tf.Tensor
    saver: tf.train.Saver
    summary: tf.Tensor
    image_summary: tf.Tensor
    l2: float = 0.0
    class_weights: tuple[float, ...] | None = None

    @property
    def trained(self) -> tuple[tf.Variable, ...]:
        """The variables that any stage trains."""
        return self.stages[-1].variables

    def stage(self, epoch: int) -> StageOps:
        """Return the stage that an epoch (counted from 0) belongs to."""
        return [stage for stage in self.stages if stage.epoch <= epoch][-1]


def train_step(
    images: tf.Tensor,
    labels: tf.Tensor | None,
    outputs: tf.Tensor,
    *,
    optimizer: Callable[..., tf.train.Optimizer] = tf.train.AdamOptimizer,
    learning_rate: LearningRate = 1e-3,
    train: Sequence[tf.Variable] | None = None,
    stages: Sequence[Stage] | None = None,
    multipliers: Mapping[str, float] | None = None,
    clip_norm: float | None = None,
    loss: str | tf.Tensor = "softmax",
    l2: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> Step:
    """Build one step of training that changes the chosen variables and no other.

    Args:
      images: the placeholder that is fed with a batch of images.
      labels: the placeholder of int64 [batch], or None where `loss` needs none.
      outputs: what the model gives: logits [batch, classes] ([batch, 1] under "sigmoid") where there are labels.
      optimizer: called as `optimizer(learning_rate=tensor)`, once for each group of variables with one multiplier.
      learning_rate: a number, or a function from global_step to a scalar tensor (a schedule).
      train: the variables to be trained throughout: short for one stage.
      stages: what is trained from which epoch on, in order, the first from epoch 0.
      multipliers: regular expression (matched whole on op names) to the factor of the learning rate for those
        variables. It scales the update and not the gradient, so that it is right for Adam as well.
      clip_norm: gradients are scaled down together so that their global norm is at most this.
      loss: "softmax" or "sigmoid" cross-entropy of `labels` and `outputs`, or a tensor float32 [batch] of losses.
      l2: gradients are those of the loss plus l2 * sum(kernel**2) / 2 over the kernels that the running stage trains:
        its variables of rank 2 or more, so no bias, no batch normalisation and nothing frozen.
      class_weights: a number from 0 on for each class; gradients are then those of sum(weight * loss) / batch.

    Raises:
      SelectionError: nothing or the same variable twice is to be trained, the loss does not depend on a variable that
        is, or a multiplier matches no trained variable, or two match one.
      GraphError: both or neither of `train` and `stages`, stages out of order, an unknown loss, or one that does not go
        with `outputs` or is not [batch], or `l2` or `class_weights` that cannot be used.
    """
    plan = _stages(train, stages)
    losses.check_l2(l2, [variable for stage in plan for variable in stage.selection])
    built = losses.build(loss, labels, outputs, class_weights)
    steps = global_step()
    with tf.name_scope("SOLVER/"):
        rate = learning_rate(steps) if callable(learning_rate) else learning_rate
        rate = tf.cast(rate, tf.float32, name="learning_rate")
        optimizers = [
            (optimizer(learning_rate=rate * factor), group)
            for (_, factor), group in sorted(_groups(plan, multipliers or {}).items())
        ]
    ops = _build_stages(built.objective, plan, optimizers, clip_norm, l2, steps)
    with tf.name_scope("SUMMARY/"):
        summary = summaries.training(built.metrics, rate, ops[-1].variables)
        image_summary = summaries.images(images)
    return Step(
        *(images, labels, outputs, built.probabilities, built.mean, built.metrics, rate, steps, ops),
        slots=tuple(v for solver, _ in optimizers for v in solver.variables()),
        finite=_finite(ops[-1].variables),
        saver=_saver(),
        summary=summary,
        image_summary=image_summary,
        l2=float(l2),
        class_weights=None if class_weights is None else tuple(map(float, class_weights)),
    )


def _stages(train: Sequence[tf.Variable] | None, stages: Sequence[Stage] | None) -> list[Stage]:
    if (train is None) == (stages is None):
        raise GraphError("say what is trained by train= or by stages=, and not by both")
    result = [Stage(0, train)] if train is not None else list(stages or ())
    epochs = [stage.epoch for stage in result]
    if not result or epochs[0] != 0 or epochs != sorted(set(epochs)):
        raise GraphError(f"stages must begin at epoch 0 and at later and later epochs, not at {epochs}")
    chosen = [variable.op.name for stage in result for variable in stage.selection]
    if not all(stage.selection for stage in result):
        raise SelectionError("a stage trains no variable; select at least one")
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise SelectionError(f"{names.listed(twice)}: chosen twice; name each variable once, in its first stage")
    return result


def _groups(stages: Sequence[Stage], multipliers: Mapping[str, float]) -> dict[tuple[int, float], set[str]]:
    """Return the op names of the variables that join in one stage and share one multiplier, by these two.

    Those of different stages cannot share an optimizer: Adam corrects for slots that begin at zero by the number of
    steps that the optimizer, and not the variable, has made.
    """
    joins = {variable.op.name: number for number, stage in enumerate(stages) for variable in stage.selection}
    factors = {variable.op.name: stage.multiplier for stage in stages for variable in stage.selection}
    matches = {pattern: names.match([pattern], list(factors)) for pattern in multipliers}
    every = [name for found in matches.values() for name in found]
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise SelectionError(f"{names.listed(twice)}: matched by two of the multipliers {list(multipliers)}")
    for pattern, found in matches.items():
        for name in found:
            factors[name] *= multipliers[pattern]
    groups: dict[tuple[int, float], set[str]] = {}
    for name, factor in factors.items():
        groups.setdefault((joins[name], factor), set()).add(name)
    return groups


def _build_stages(
    loss: tf.Tensor,
    stages: Sequence[Stage],
    optimizers: Sequence[tuple[tf.train.Optimizer, set[str]]],
    clip_norm: float | None,
    l2: float,
    steps: tf.Variable,
) -> tuple[StageOps, ...]:
    built: list[StageOps] = []
    trained: list[tf.Variable] = []
    dropouts = tf.get_collection(DROPOUTS)
    for number, stage in enumerate(stages, 1):
        trained = [*trained, *stage.selection]
        chosen = {variable.op.name for variable in trained}
        norms = [norm for norm in batch_norms() if chosen.intersection(norm.trained)]
        gradients = _gradients(loss, trained, clip_norm, l2)
        applies = _apply(gradients, trained, optimizers, f"stage{number}" if len(stages) > 1 else "apply")
        updates = [tf.get_default_graph().get_operation_by_name(op) for norm in norms for op in norm.updates]
        with tf.name_scope("SOLVER/"), tf.control_dependencies([*applies, *updates]):
            apply = steps.assign_add(1, read_value=False, name="step")
        switches = [*dropouts, *(tf.get_default_graph().get_tensor_by_name(norm.switch) for norm in norms)]
        written = {*chosen, *(name for norm in norms for name in norm.statistics)}
        built.append(
            StageOps(
                stage.epoch,
                tuple(trained),
                tuple(v for v in tf.global_variables() if v.op.name in written),
                getattr(apply, "op", apply),
                tuple(switches),
            )
        )
    return tuple(built)


def _gradients(loss: tf.Tensor, variables: Sequence[tf.Variable], clip_norm: float | None, l2: float) -> list[Any]:
    with tf.name_scope("SOLVER/"):
        gradients = tf.gradients(loss, variables)
        # Looked at before L2 is added, which every kernel depends on.
        lost = [v.op.name for v, gradient in zip(variables, gradients, strict=True) if gradient is None]
        if lost:
            raise SelectionError(f"the loss does not depend on {names.listed(lost)}; train only what it depends on")
        gradients = losses.with_l2(gradients, variables, l2)
        return gradients if clip_norm is None else tf.clip_by_global_norm(gradients, clip_norm)[0]


def _apply(
    gradients: Sequence[Any],
    variables: Sequence[tf.Variable],
    optimizers: Sequence[tuple[tf.train.Optimizer, set[str]]],
    name: str,
) -> list[tf.Operation]:
    pairs = list(zip(gradients, variables, strict=True))
    applies = []
    for number, (solver, group) in enumerate(optimizers, 1):
        mine = [(gradient, variable) for gradient, variable in pairs if variable.op.name in group]
        if mine:
            # The scope goes in as a name: within tf.name_scope, beta1_power would be called SOLVER/beta1_power.
            scope = name if len(optimizers) == 1 else f"{name}_group{number}"
            applies.append(solver.apply_gradients(mine, name=f"SOLVER/{scope}"))
    return applies


def _finite(variables: Sequence[tf.Variable]) -> tf.Tensor:
    with tf.name_scope("SOLVER/"):
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(variable)) for variable in variables], name="finite")


def _saver() -> tf.train.Saver:
    # What is kept and what is deleted is the run directory's to say: 0 tells the Saver to delete nothing.
    return tf.train.Saver(tf.global_variables(), max_to_keep=0, save_relative_paths=True)
