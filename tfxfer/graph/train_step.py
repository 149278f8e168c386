"""One step of training, built before the session: gradients, optimizers, metrics, savers, summaries."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import losses, own_state, shown
from tfxfer.graph import summaries as summary_ops
from tfxfer.graph.layers import DROPOUTS, batch_norms
from tfxfer.graph.parts import name_of
from tfxfer.graph.replicas import Replicas, update
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
      summary: serialized scalars of a fed batch: loss, accuracy, learning rates of the groups that are trained in it,
        and norms of gradients and weights by layer if they are among `Step.summaries`.
    """

    epoch: int
    variables: tuple[tf.Variable, ...]
    written: tuple[tf.Variable, ...]
    apply: tf.Operation
    switches: tuple[tf.Tensor, ...]
    summary: tf.Tensor


class Saved(NamedTuple):
    """Variables that are saved together, and what saves and restores them; None where there are none."""

    variables: tuple[tf.Variable, ...] = ()
    saver: tf.train.Saver | None = None


_NOTHING = Saved()


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
      image_summary: serialized `input_image` of a fed batch.
      l2, class_weights: as given to `train_step`.
      summaries: what TensorBoard is shown, in the order of `tfxfer.graph.shown.SHOWN`.
      activations: endpoints whose activations it is shown, by name.
      settings: what was asked for, as JSON has it, that the graph does not tell: a run goes on only under the same.
      generators: the state of each `tf.random.Generator` that draws in a step, as far as it is a global variable.
      moving: what any stage writes, the slots and global_step among it, and the local variables that a step reads.
      frozen: all other global variables.
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
    image_summary: tf.Tensor
    l2: float = 0.0
    class_weights: tuple[float, ...] | None = None
    summaries: tuple[str, ...] = ()
    activations: Mapping[str, tf.Tensor] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    generators: tuple[tf.Variable, ...] = ()
    moving: Saved = _NOTHING
    frozen: Saved = _NOTHING

    @property
    def trained(self) -> tuple[tf.Variable, ...]:
        """The variables that any stage trains."""
        return self.stages[-1].variables

    @property
    def summary(self) -> tf.Tensor:
        """The summary of the last stage."""
        return self.stages[-1].summary

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
    summaries: Sequence[str] | None = None,
    activations: Mapping[str, tf.Tensor] | None = None,
    replicas: Replicas | None = None,
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
      summaries: what TensorBoard is shown beside scalars: names out of `tfxfer.graph.shown.SHOWN`, its `DEFAULT`
        unless given.
      activations: endpoints, as `conv1` and `pool5`, whose activations it is shown, by name; each [batch, ...].
      replicas: the processes that make each step together; this one alone unless given.

    Raises:
      SelectionError: nothing or the same variable twice is to be trained, the loss does not depend on a variable that
        is, or a multiplier matches no trained variable, or two match one.
      GraphError: both or neither of `train` and `stages`, stages out of order, an unknown loss, or one that does not go
        with `outputs` or is not [batch], or `l2`, `class_weights`, `summaries` or `activations` that cannot be used.
    """
    chosen = shown.chosen(summaries, activations or {}, images, labelled=labels is not None)
    plan = _stages(train, stages)
    losses.check_l2(l2, [variable for stage in plan for variable in stage.selection])
    built = losses.build(loss, labels, outputs, class_weights)
    steps = global_step()
    with tf.name_scope("SOLVER/"):
        rate = learning_rate(steps) if callable(learning_rate) else learning_rate
        rate = tf.cast(rate, tf.float32, name="learning_rate")
        groups = _groups(plan, multipliers or {}, optimizer, rate)
    summary = functools.partial(_summary, built.metrics, rate, groups, "norms" in chosen)
    ops = _build_stages(built.objective, plan, groups, clip_norm, l2, steps, summary, replicas)
    slots = tuple(variable for group in groups for variable in group.solver.variables())
    run = [*(stage.apply for stage in ops), *(metric.op for metric in built.metrics.values())]
    generators = own_state.generators(run, tf.global_variables())
    moving, frozen = _saved([*ops[-1].written, *slots, steps, *generators], run if replicas is None else ())
    return Step(
        *(images, labels, outputs, built.probabilities, built.mean, built.metrics, rate, steps, ops),
        slots=slots,
        finite=_finite(ops[-1].variables),
        saver=_saver(),
        image_summary=summary_ops.images(images),
        l2=float(l2),
        class_weights=None if class_weights is None else tuple(map(float, class_weights)),
        summaries=chosen,
        activations=dict(activations or {}),
        settings=_settings(groups, learning_rate, clip_norm, loss, replicas),
        generators=tuple(generators),
        moving=moving,
        frozen=frozen,
    )


def _settings(
    groups: Sequence[_Group],
    learning_rate: LearningRate,
    clip_norm: float | None,
    loss: str | tf.Tensor,
    replicas: Replicas | None,
) -> dict[str, Any]:
    """Return what was asked for; a schedule and a loss of the caller's own are told by the graph."""
    factors = {name: group.factor for group in groups for name in group.members if group.factor != 1}
    return {
        "optimizer": _described(groups[0].solver),
        **({} if callable(learning_rate) or tf.is_tensor(learning_rate) else {"learning_rate": float(learning_rate)}),
        **({"loss": loss} if isinstance(loss, str) else {}),
        "multipliers": dict(sorted(factors.items())) or None,
        "clip_norm": None if clip_norm is None else float(clip_norm),
        "processes": None if replicas is None else replicas.number,
    }


def _described(solver: tf.train.Optimizer) -> dict[str, Any]:
    """Return an optimizer's class and the numbers that it holds; a wrapped optimizer is one of them."""
    described: dict[str, Any] = {"class": type(solver).__name__}
    of_all = {*vars(tf.train.Optimizer(use_locking=False, name="any"))}  # how it is called, and its slots
    for name, value in sorted(vars(solver).items()):
        if name in of_all or name.startswith("_self_"):
            continue
        if isinstance(value, tf.train.Optimizer):
            described[name.lstrip("_")] = _described(value)
        elif isinstance(value, bool | int | float | np.number):
            described[name.lstrip("_")] = value.item() if isinstance(value, np.number) else value
    return described


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


class _Group(NamedTuple):
    """Variables, by name, that join in one epoch and share one multiplier, and their optimizer."""

    epoch: int
    factor: float
    rate: tf.Tensor
    solver: tf.train.Optimizer
    members: set[str]


def _groups(
    stages: Sequence[Stage],
    multipliers: Mapping[str, float],
    optimizer: Callable[..., tf.train.Optimizer],
    rate: tf.Tensor,
) -> list[_Group]:
    """Make an optimizer for the variables that join in one stage and share one multiplier.

    Those of different stages cannot share an optimizer: Adam corrects for slots that begin at zero by the number of
    steps that the optimizer, and not the variable, has made.
    """
    return [
        _Group(stages[place].epoch, factor, scaled := rate * factor, optimizer(learning_rate=scaled), members)
        for (place, factor), members in sorted(_members(stages, multipliers).items())
    ]


def _members(stages: Sequence[Stage], multipliers: Mapping[str, float]) -> dict[tuple[int, float], set[str]]:
    """Return the names of the variables that join in one stage and share one multiplier, by these two."""
    joins = {name_of(variable): number for number, stage in enumerate(stages) for variable in stage.selection}
    factors = {name_of(variable): stage.multiplier for stage in stages for variable in stage.selection}
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


def _rates(groups: Sequence[_Group], epoch: int) -> dict[str, tf.Tensor]:
    """Return by tag the learning rates of the groups that are trained from an epoch on; nothing if there is but one."""
    if len(groups) == 1 and groups[0].factor == 1:
        return {}
    from_later = any(group.epoch for group in groups)
    titles = [f"epoch_{group.epoch}_x{group.factor:g}" if from_later else f"x{group.factor:g}" for group in groups]
    return {
        f"learning_rate/{title}": group.rate
        for title, group in zip(titles, groups, strict=True)
        if group.epoch <= epoch
    }


def _summary(
    metrics: Mapping[str, tf.Tensor],
    rate: tf.Tensor,
    groups: Sequence[_Group],
    norms: bool,
    epoch: int,
    gradients: Sequence[tuple[Any, tf.Variable]],
) -> tf.Tensor:
    """Return the summary of the stage that begins at an epoch."""
    rates = {"learning_rate": rate, **_rates(groups, epoch)}
    return summary_ops.training(metrics, rates, gradients if norms else ())


def _build_stages(
    loss: tf.Tensor,
    stages: Sequence[Stage],
    groups: Sequence[_Group],
    clip_norm: float | None,
    l2: float,
    steps: tf.Variable,
    summary: Callable[[int, Sequence[tuple[Any, tf.Variable]]], tf.Tensor],
    replicas: Replicas | None,
) -> tuple[StageOps, ...]:
    built: list[StageOps] = []
    trained: list[tf.Variable] = []
    dropouts = tf.get_collection(DROPOUTS)
    for number, stage in enumerate(stages, 1):
        trained = [*trained, *stage.selection]
        chosen = {variable.op.name for variable in trained}
        norms = [norm for norm in batch_norms() if chosen.intersection(norm.trained)]
        gradients = _gradients(loss, trained, l2)
        pairs = list(zip(_clipped(gradients, clip_norm), trained, strict=True))
        updates = [tf.get_default_graph().get_operation_by_name(op) for norm in norms for op in norm.updates]
        named = f"stage{number}" if len(stages) > 1 else "apply"
        alone = functools.partial(update, groups=groups, name=named, also=updates)
        apply = alone(pairs, steps) if replicas is None else replicas.apply(alone, pairs, steps)
        switches = [*dropouts, *(tf.get_default_graph().get_tensor_by_name(norm.switch) for norm in norms)]
        written = {*chosen, *(name for norm in norms for name in norm.statistics)}
        built.append(
            StageOps(
                stage.epoch,
                tuple(trained),
                tuple(v for v in tf.global_variables() if v.op.name in written),
                apply,
                tuple(switches),
                summary(stage.epoch, list(zip(gradients, trained, strict=True))),
            )
        )
    return tuple(built)


def _gradients(loss: tf.Tensor, variables: Sequence[tf.Variable], l2: float) -> list[Any]:
    with tf.name_scope("SOLVER/"):
        gradients = tf.gradients(loss, variables)
        # Looked at before L2 is added, which every kernel depends on.
        lost = [v.op.name for v, gradient in zip(variables, gradients, strict=True) if gradient is None]
        if lost:
            raise SelectionError(f"the loss does not depend on {names.listed(lost)}; train only what it depends on")
        return losses.with_l2(gradients, variables, l2)


def _clipped(gradients: Sequence[Any], clip_norm: float | None) -> Sequence[Any]:
    with tf.name_scope("SOLVER/"):
        return gradients if clip_norm is None else tf.clip_by_global_norm(gradients, clip_norm)[0]


def _finite(variables: Sequence[tf.Variable]) -> tf.Tensor:
    with tf.name_scope("SOLVER/"):
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(variable)) for variable in variables], name="finite")


def _saver(variables: Sequence[tf.Variable] | None = None) -> tf.train.Saver:
    # What is kept and what is deleted is the run directory's to say: 0 tells the Saver to delete nothing.
    return tf.train.Saver(
        tf.global_variables() if variables is None else variables, max_to_keep=0, save_relative_paths=True
    )


def _saved(moving: Sequence[tf.Variable], run: Sequence[tf.Operation]) -> tuple[Saved, Saved]:
    """Tell what a step writes from what stays as it is, so that each can be saved by itself.

    Args:
      moving: what a step writes.
      run: the ops of a step, whose local variables move too.
    """
    names_of_moving = {variable.op.name for variable in moving}
    everything = tf.global_variables()
    recorded = {variable.op.name for variable in everything}
    apart = [variable for variable in moving if variable.op.name not in recorded]
    local = [v for v in own_state.variables_of_step(run, tf.local_variables()) if v.op.name not in recorded]
    parts = (
        [*(v for v in everything if v.op.name in names_of_moving), *apart, *local],
        [v for v in everything if v.op.name not in names_of_moving],
    )
    first, second = (Saved(tuple(part), _saver(part) if part else None) for part in parts)
    return first, second
