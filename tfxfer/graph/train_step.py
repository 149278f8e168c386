"""One step of training, built before the session: gradients, optimizers, metrics, savers, summaries."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph import eval_step, feeds, losses, mixed_precision, own_state, savers, summary_options, traversal
from tfxfer.graph.eval_step import EvalStep, check_feeds, check_graph
from tfxfer.graph.optimizer_groups import LearningRate, OptimizerGroups, OptimizerOptions
from tfxfer.graph.savers import Saved
from tfxfer.graph.stage_builder import StageBuilder
from tfxfer.graph.stages import Selection, Stage, StageOps, resolve_stages
from tfxfer.graph.summaries import image_summary
from tfxfer.graph.sync_replicas import Replicas
from tfxfer.graph.updates import Updates
from tfxfer.graph.variables import NEW_GRAPH, aliases, global_step, unlisted_variables

# A tuple: TensorFlow writes no collection of such a key into a MetaGraph. It holds names of tensors.
STEPS = ("tfxfer_steps",)

log = logging.getLogger("tfxfer")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step(EvalStep):
    """Everything that training and evaluation run; `EvalStep` has the attributes that evaluation needs.

    Attributes:
      loss: float32 scalar, the mean of `train_metrics["loss"]` over the batch.
      train_metrics: `metrics` as a step of training computes them: the same tensors, but for `train_precision`.
      learning_rate: float32 scalar, before any multiplier.
      global_step: integer variable, the number of steps made.
      slots: the optimizers' own variables, of all stages.
      finite: bool scalar: whether every trained variable is finite.
      saver: saves and restores all variables, those of the optimizers and global_step included.
      image_summary: serialized `input_image` of a fed batch; None where the images are not pictures.
      l2, class_weights: as given to `train_step`.
      summaries: what TensorBoard is shown, in the order of `tfxfer.graph.summary_options.SHOWN`.
      settings: what was asked for, as JSON has it, that the graph does not tell: a run goes on only under the same.
      generators: the state of each `tf.random.Generator` that draws in a step, as far as it is a global variable.
      moving: what any stage writes, the slots and global_step among it, and the local variables that a step reads.
      frozen: all other global variables.

    Example:
      >>> images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(images, classes=3)
      >>> step = tx.train_step(images, labels, logits, train=[".*"])
      >>> with tx.session() as sess:
      ...     for _ in range(3):
      ...         sess.run(step.stage(0).apply, {images: np.eye(3, 4), labels: [0, 1, 2]})
      ...     int(sess.run(step.global_step))
      3
    """

    loss: tf.Tensor
    train_metrics: Mapping[str, tf.Tensor]
    learning_rate: tf.Tensor
    global_step: tf.Variable
    slots: tuple[tf.Variable, ...]
    finite: tf.Tensor
    saver: tf.train.Saver
    image_summary: tf.Tensor | None
    l2: float
    class_weights: tuple[float, ...] | None
    summaries: tuple[str, ...]
    settings: Mapping[str, Any]
    generators: tuple[tf.Variable, ...]
    moving: Saved
    frozen: Saved

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
    optimizer: str | Callable[..., tf.train.Optimizer] = tf.train.AdamOptimizer,
    learning_rate: LearningRate = 1e-3,
    train: Selection | None = None,
    stages: Sequence[Stage] | None = None,
    multipliers: Mapping[str, float] | None = None,
    clip_norm: float | None = None,
    loss: str | tf.Tensor = "softmax",
    l2: float = 0.0,
    class_weights: Sequence[float] | None = None,
    updates: Sequence[Any] | None = None,
    train_feeds: Mapping[tf.Tensor | str, Any] | None = None,
    eval_feeds: Mapping[tf.Tensor | str, Any] | None = None,
    summaries: Sequence[str] | None = None,
    activations: Mapping[str, tf.Tensor] | None = None,
    replicas: Replicas | None = None,
    train_precision: str = "float32",
) -> Step:
    """Build one step of training that changes the chosen variables and no other.

    A step is ordered: nothing is written before all gradients and metrics of the step are computed. So the same seed
    gives the same bits, also where variables are reference variables, as in MetaGraphs of TensorFlow 1.

    Args:
      images: the placeholder that is fed with a batch of images, or of anything else: vectors, sequences, ids.
      labels: the placeholder of class numbers, integers [batch], or of one-hot rows [batch, classes] of any numeric
        dtype; None where `loss` needs none.
      outputs: what the model gives: logits [batch, classes] ([batch, 1] under "sigmoid") where there are labels.
      optimizer: a name out of `tfxfer.graph.optimizers.OPTIMIZERS` ("adam", "momentum", "sgd", ...), or a class of
        `tf.train`, called as `optimizer(learning_rate=tensor)`, once for each group of variables with one multiplier.
      learning_rate: a number from 0 on, or a function from global_step to a scalar tensor (a schedule).
      train: the variables to be trained throughout, or regular expressions as `select` takes them: short for one stage.
        Of an expression that matches trainable variables, these alone are trained: `".*"` leaves moving statistics.
      stages: what is trained from which epoch on, in order, the first from epoch 0.
      multipliers: regular expression (matched whole on op names) to the factor of the learning rate for those
        variables, from 0 on. It scales the update and not the gradient, so that it is right for Adam as well.
      clip_norm: gradients are scaled down together so that their global norm is at most this; above 0.
      loss: "softmax" or "sigmoid" cross-entropy of `labels` and `outputs`, or a tensor float32 [batch] of losses.
      l2: gradients are those of the loss plus l2 * sum(kernel**2) / 2 over the kernels that the running stage trains:
        its variables of rank 2 or more, so no bias, no batch normalisation and nothing frozen.
      class_weights: a number from 0 on for each class; gradients are then those of sum(weight * loss) / batch.
      updates: ops that every step runs beside the optimizers. Default: those in the graph's UPDATE_OPS, each in the
        stages that train its layer; `tfxfer.graph.updates` says how that is found. `[]` runs none.
      train_feeds: what placeholders are fed in training, by placeholder or name: `{keep_prob: 0.5, "is_training":
        True}`. One with a default that is not set keeps it, which is noted.
      eval_feeds: the same for validation, evaluation and what is precomputed.
      summaries: what TensorBoard is shown beside scalars: names out of `tfxfer.graph.summary_options.SHOWN`;
        default: its `DEFAULT`.
      activations: endpoints, as `conv1` and `pool5`, whose activations it is shown, by name; each [batch, ...].
      replicas: the processes that make each step together; default: this one alone.
      train_precision: "float32", or "bfloat16": in training, products of examples and trained variables (MatMul outside
        of functions, branches and loops) are computed in bfloat16, forwards and backwards. Variables, slots and all
        else are float32, and so is all of evaluation. `tfxfer.graph.mixed_precision` says what cannot be trained so.

    Raises:
      SelectionError: nothing or the same variable twice is to be trained, the loss does not depend on a variable that
        is, or a multiplier matches no trained variable, or two match one.
      GraphError: both or neither of `train` and `stages`, stages out of order, an unknown loss, or one that does not go
        with `outputs` or is not [batch]; labels, an optimizer, numbers, feeds, `updates`, `l2`, `class_weights`,
        `summaries`, `activations` or a `train_precision` that cannot be used; a placeholder that nobody feeds; an op
        of the network that writes a variable which is not trained; two variables that are one in memory, one of them
        trained; or the graph is finalized, since a session was opened by `tfxfer.session`, or has a step of training
        on the same `outputs`.

    Example:
      >>> images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(images, hidden=[8], classes=3)
      >>> step = tx.train_step(images, labels, logits, train=["logits/.*"], optimizer="adam", learning_rate=0.01)
      >>> [variable.op.name for variable in step.trained]
      ['logits/kernel', 'logits/bias']
    """
    check_graph("train_step", images, labels, outputs)
    _check_first(outputs)
    mixed_precision.check(train_precision)
    shown = summary_options.choose(summaries, activations or {}, labelled=labels is not None)
    plan = resolve_stages(train, stages)
    options = OptimizerOptions(optimizer, learning_rate, dict(multipliers or {}), clip_norm, l2)
    options.check(plan)
    selected = [variable for stage in plan for variable in stage.selection]
    losses.check_l2(l2, selected)
    _check_memory(selected)
    unlisted = unlisted_variables(tf.get_default_graph())
    fed_in_training = feeds.resolve(train_feeds, "train_feeds", {"images": images, "labels": labels})
    losses.check_labels(loss, labels)
    evaluation = eval_step.build(images, labels, outputs, loss, eval_feeds, activations)
    metrics = evaluation.metrics
    all_updates = Updates([tensor.op for tensor in metrics.values()], updates)
    training = evaluation
    if train_precision == "bfloat16":
        training = mixed_precision.in_bfloat16(evaluation, selected, all_updates.candidates())
    mean, objective = losses.build_objective(training.metrics["loss"], labels, training.probabilities, class_weights)
    _tell_regularizers(objective, selected)
    steps = global_step()
    groups = OptimizerGroups(options, plan, steps)
    ops = StageBuilder(
        evaluation=training,
        objective=objective,
        optimizers=groups,
        all_updates=all_updates,
        train_feeds=fed_in_training,
        unlisted=unlisted,
        show_norms="norms" in shown,
        replicas=replicas,
    ).build(plan)
    run = [*(stage.apply for stage in ops), *(metric.op for metric in [*metrics.values(), *training.metrics.values()])]
    generators = own_state.generators(run, tf.global_variables())
    written = [*ops[-1].written, *groups.slots, steps, *generators]
    moving, frozen = savers.split_saved(written, unlisted, run if replicas is None else ())
    step = Step(
        **vars(evaluation) | {"stages": ops},
        loss=mean,
        train_metrics=training.metrics,
        learning_rate=groups.rate,
        global_step=steps,
        slots=groups.slots,
        finite=_finite(ops[-1].variables),
        saver=savers.build_saver(savers.lasting_variables(unlisted)),
        image_summary=image_summary(images),
        l2=float(l2),
        class_weights=None if class_weights is None else tuple(map(float, class_weights)),
        summaries=shown,
        settings={
            **groups.settings(),
            **({"loss": loss} if isinstance(loss, str) else {}),  # the graph tells a loss of the caller's own
            **({} if train_precision == "float32" else {"train_precision": train_precision}),
            "processes": None if replicas is None else replicas.number,
            "train_feeds": feeds.describe(fed_in_training),
            "eval_feeds": feeds.describe(evaluation.eval_feeds),
        },
        generators=tuple(generators),
        moving=moving,
        frozen=frozen,
    )
    check_feeds(step)
    outputs.graph.get_collection_ref(STEPS).append(outputs.name)
    return step


def _check_first(outputs: tf.Tensor) -> None:
    """Refuse a second step on the same outputs: all variables of its optimizer would be there twice."""
    if outputs.name in outputs.graph.get_collection(STEPS):
        raise GraphError(
            f"the graph has a step of training on {outputs.name} already, as it has where a cell of a notebook runs "
            "twice; a second one doubles what the optimizer keeps of each variable, and checkpoints hold both. For a "
            f"graph of its own, {NEW_GRAPH}; or use the first step. If two are meant, give the second one "
            "tf.identity(outputs)"
        )


def _tell_regularizers(objective: tf.Tensor, trained: Sequence[tf.Variable]) -> None:
    """Log which regularization losses of trained variables, as of `get_variable(regularizer=)`, no loss has."""
    # TensorFlow keeps wrappers of tensors there, which have the op; what a program of Keras adds may have none.
    every = [loss for loss in tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES) if hasattr(loss, "op")]
    ops = {variable.op for variable in trained}
    added = {op.name for op in traversal.needed([objective.op])} if every else set()
    # A wrapper makes its tensor anew where it is asked for it: beside the first one, as its_scope/l2_1.
    added |= {f"{name.rpartition('/')[0]}/" for name in added if "/" in name}
    left = [
        name
        for loss in every
        if not {name := loss.op.name, f"{name.rpartition('/')[0]}/"} & added
        and not ops.isdisjoint(traversal.variables_read([loss]))
    ]
    if left:
        log.warning(
            "%s: regularization losses that are not part of the loss, so that training does not follow them; give "
            "`l2`, or as `loss` a tensor [batch] that tf.losses.get_regularization_loss() is added to",
            names.listed(left),
        )


def _check_memory(trained: Sequence[tf.Variable]) -> None:
    """Refuse to train a variable that shares its memory with another one."""
    ops = tf.get_default_graph().get_operations()
    shared = aliases(op for op in ops if op.type in traversal.VARIABLES)
    rows = [f"{v.op.name} and {names.listed(shared[v.op.name])}" for v in trained if v.op.name in shared]
    if rows:
        raise GraphError(
            "\n  ".join(["variables that are one in memory, by their shared_name, cannot be trained apart:", *rows])
            + "\nimport each copy by tfxfer.import_meta_graph(path, scope), which gives it variables of its own"
        )


def _finite(variables: Sequence[tf.Variable]) -> tf.Tensor:
    with tf.name_scope("SOLVER/"):
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(variable)) for variable in variables], name="finite")
