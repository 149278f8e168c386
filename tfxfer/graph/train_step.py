"""One step of training, built before the session: losses, gradients, optimizers, metrics, savers, summaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import summaries
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
      loss: float32 scalar, the mean over the batch.
      metrics: per example, float32 [batch]: `loss`, and with labels `accuracy` (1 where the prediction is right).
      learning_rate: float32 scalar, before any multiplier.
      global_step: integer variable, the number of steps made.
      stages: in order of their epochs; the first begins at 0.
      slots: the optimizers' own variables, of all stages.
      finite: bool scalar: whether every trained variable is finite.
      saver: saves and restores all variables, those of the optimizers and global_step included.
      summary: serialized scalars (loss, accuracy, learning rate) and histograms of trained variables, for a fed batch.
      image_summary: serialized `input_image` of a fed batch.
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

    Raises:
      SelectionError: nothing or the same variable twice is to be trained, the loss does not depend on a variable that
        is, or a multiplier matches no trained variable, or two match one.
      GraphError: both or neither of `train` and `stages`, stages out of order, an unknown loss, or one that does not go
        with `outputs` or is not [batch].
    """
    plan = _stages(train, stages)
    with tf.name_scope("LOSS/"):
        metrics = {"loss": _losses(loss, labels, outputs)}
        probabilities = None if labels is None else _probabilities(outputs)
        if labels is not None:
            right = tf.equal(tf.argmax(probabilities, axis=1), labels)
            metrics["accuracy"] = tf.cast(right, tf.float32, name="accuracy")
        mean = tf.reduce_mean(metrics["loss"], name="mean_loss")
    steps = global_step()
    with tf.name_scope("SOLVER/"):
        rate = learning_rate(steps) if callable(learning_rate) else learning_rate
        rate = tf.cast(rate, tf.float32, name="learning_rate")
        optimizers = [
            (optimizer(learning_rate=rate * factor), group)
            for (_, factor), group in sorted(_groups(plan, multipliers or {}).items())
        ]
    built = _build_stages(mean, plan, optimizers, clip_norm, steps)
    with tf.name_scope("SUMMARY/"):
        summary = summaries.training(metrics, rate, built[-1].variables)
        image_summary = summaries.images(images)
    return Step(
        *(images, labels, outputs, probabilities, mean, metrics, rate, steps, built),
        slots=tuple(v for solver, _ in optimizers for v in solver.variables()),
        finite=_finite(built[-1].variables),
        saver=_saver(),
        summary=summary,
        image_summary=image_summary,
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


def _losses(loss: str | tf.Tensor, labels: tf.Tensor | None, outputs: tf.Tensor) -> tf.Tensor:
    if not isinstance(loss, str):
        if loss.shape.rank != 1:
            raise GraphError(
                f"loss is a tensor [batch], one number an example, not of shape {loss.shape}; "
                "train_step takes the mean itself"
            )
        return tf.identity(loss, name="loss")
    if loss not in ("softmax", "sigmoid"):
        raise GraphError(f"loss is 'softmax', 'sigmoid' or a tensor [batch], not {loss!r}")
    if labels is None:
        raise GraphError(f"loss={loss!r} needs labels; without them, loss is a tensor [batch]")
    if outputs.shape.rank != 2 or (outputs.shape[1] == 1) != (loss == "sigmoid"):
        shape = "[batch, classes], of two classes or more" if loss == "softmax" else "[batch, 1]"
        raise GraphError(f"loss={loss!r} takes outputs {shape}, not {outputs.shape}")
    if loss == "softmax":
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=outputs, name="loss")
    wanted = tf.cast(labels, tf.float32)
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=outputs[:, 0], name="loss")


def _probabilities(logits: tf.Tensor) -> tf.Tensor:
    if logits.shape[-1] == 1:
        second = tf.sigmoid(logits)
        return tf.concat([1 - second, second], axis=1, name="probabilities")
    return tf.nn.softmax(logits, name="probabilities")


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
    steps: tf.Variable,
) -> tuple[StageOps, ...]:
    built: list[StageOps] = []
    trained: list[tf.Variable] = []
    dropouts = tf.get_collection(DROPOUTS)
    for number, stage in enumerate(stages, 1):
        trained = [*trained, *stage.selection]
        chosen = {variable.op.name for variable in trained}
        norms = [norm for norm in batch_norms() if chosen.intersection(norm.trained)]
        applies = _apply(loss, trained, optimizers, clip_norm, f"stage{number}" if len(stages) > 1 else "apply")
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


def _apply(
    loss: tf.Tensor,
    variables: Sequence[tf.Variable],
    optimizers: Sequence[tuple[tf.train.Optimizer, set[str]]],
    clip_norm: float | None,
    name: str,
) -> list[tf.Operation]:
    with tf.name_scope("SOLVER/"):
        gradients = tf.gradients(loss, variables)
        lost = [v.op.name for v, gradient in zip(variables, gradients, strict=True) if gradient is None]
        if lost:
            raise SelectionError(f"the loss does not depend on {names.listed(lost)}; train only what it depends on")
        if clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, clip_norm)
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
