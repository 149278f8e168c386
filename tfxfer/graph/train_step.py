"""One step of training, built before the session: gradients, optimizers, metrics, savers, summaries."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import feeds as constants
from tfxfer.graph import losses, optimizers, own_state, summary_options, traversal
from tfxfer.graph import summaries as summary_ops
from tfxfer.graph import updates as update_ops
from tfxfer.graph.feeds import Feeds
from tfxfer.graph.layers import DROPOUTS, BatchNorm, batch_norms
from tfxfer.graph.partitioned import name_of
from tfxfer.graph.sync_replicas import Replicas, update
from tfxfer.graph.variables import global_step, select, unlisted_variables

log = logging.getLogger("tfxfer")

Selection = str | Sequence[str | tf.Variable]
LearningRate = float | Callable[[tf.Variable], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Stage:
    """From an epoch on, further variables are trained.

    Attributes:
      epoch: the first epoch of the stage, counted from 0.
      selection: the variables that join those of earlier stages; or regular expressions, as `select` takes them.
      multiplier: what the learning rate is multiplied by for them.

    Example:
      >>> images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(images, hidden=[8], classes=3)
      >>> stages = [tx.Stage(0, ["logits/.*"]), tx.Stage(5, ["fc1/.*"], multiplier=0.1)]
      >>> step = tx.train_step(images, labels, logits, stages=stages)
      >>> [(stage.epoch, len(stage.variables)) for stage in step.stages]
      [(0, 2), (5, 4)]
    """

    epoch: int
    selection: Selection
    multiplier: float = 1.0


@dataclasses.dataclass(frozen=True)
class StageOps:
    """What training runs from `epoch` on.

    Attributes:
      epoch: the first epoch of the stage, counted from 0.
      variables: all that is trained in it.
      written: all that it writes but optimizer slots and global_step: `variables`, and what the update ops that run
        with it write, as the moving statistics of a batch normalisation whose gamma or beta is among them.
      apply: the op that makes one step and adds 1 to global_step.
      feeds: what placeholders are fed with it, in each step the same: the switches of dropout and of batch
        normalisations that are trained, and `train_feeds`.
      summary: serialized scalars of a fed batch: loss, accuracy, learning rates of the groups that are trained in it,
        and norms of gradients and weights by layer if they are among `Step.summaries`; and of the graph's own
        summaries (`tf.summary.scalar` and the like) those that can be run with what is fed.
      scalars: `summary` without the graph's own.
      own_summaries: the graph's own, one by one.
    """

    epoch: int
    variables: tuple[tf.Variable, ...]
    written: tuple[tf.Variable, ...]
    apply: tf.Operation
    feeds: Feeds
    summary: tf.Tensor
    scalars: tf.Tensor
    own_summaries: tuple[tf.Tensor, ...] = ()


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
      image_summary: serialized `input_image` of a fed batch; None where the images are no pictures.
      eval_feeds: what placeholders are fed in evaluation, in each batch the same.
      l2, class_weights: as given to `train_step`.
      summaries: what TensorBoard is shown, in the order of `tfxfer.graph.summary_options.SHOWN`.
      activations: endpoints whose activations it is shown, by name.
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
    image_summary: tf.Tensor | None
    eval_feeds: Feeds = dataclasses.field(default_factory=dict)
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

    Raises:
      SelectionError: nothing or the same variable twice is to be trained, the loss does not depend on a variable that
        is, or a multiplier matches no trained variable, or two match one.
      GraphError: both or neither of `train` and `stages`, stages out of order, an unknown loss, or one that does not go
        with `outputs` or is not [batch]; labels, an optimizer, numbers, feeds, `updates`, `l2`, `class_weights`,
        `summaries` or `activations` that cannot be used; a placeholder that nobody feeds; an op of the network that
        writes a variable which is not trained; two variables that are one in memory, one of them trained; or the graph
        is finalized, since a session was opened by `tfxfer.session`.

    Example:
      >>> images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(images, hidden=[8], classes=3)
      >>> step = tx.train_step(images, labels, logits, train=["logits/.*"], optimizer="adam", learning_rate=0.01)
      >>> [variable.op.name for variable in step.trained]
      ['logits/kernel', 'logits/bias']
    """
    _check_graph(images, labels, outputs)
    chosen = summary_options.chosen(summaries, activations or {}, images, labelled=labels is not None)
    plan = _stages(train, stages)
    _check_numbers(plan, learning_rate, clip_norm, multipliers or {})
    every = [variable for stage in plan for variable in stage.selection]
    losses.check_l2(l2, every)
    _check_memory(every)
    unlisted = unlisted_variables(tf.get_default_graph())
    make = optimizers.maker(optimizer)
    examples = {"images": images, "labels": labels}
    in_training = constants.resolve(train_feeds, "train_feeds", examples)
    in_evaluation = constants.resolve(eval_feeds, "eval_feeds", examples)
    built = losses.build(loss, labels, outputs, class_weights)
    steps = global_step()
    with tf.name_scope("SOLVER/"):
        rate = learning_rate(steps) if callable(learning_rate) else learning_rate
        rate = tf.cast(rate, tf.float32, name="learning_rate")
        groups = _groups(plan, multipliers or {}, make, rate)
    builder = _Builder(
        examples=[tensor for tensor in (images, labels) if tensor is not None],
        unlisted=unlisted,
        last=every[-1],
        built=built,
        groups=groups,
        steps=steps,
        updates=update_ops.Updates([tensor.op for tensor in built.metrics.values()], updates),
        clip_norm=clip_norm,
        l2=l2,
        feeds=in_training,
        summary=functools.partial(_summary, built.metrics, rate, groups, "norms" in chosen),
        replicas=replicas,
    )
    ops = builder.stages(plan)
    slots = tuple(variable for group in groups for variable in group.solver.variables())
    run = [*(stage.apply for stage in ops), *(metric.op for metric in built.metrics.values())]
    generators = own_state.generators(run, tf.global_variables())
    written = [*ops[-1].written, *slots, steps, *generators]
    moving, frozen = _saved(written, unlisted, run if replicas is None else ())
    step = Step(
        *(images, labels, outputs, built.probabilities, built.mean, built.metrics, rate, steps, ops),
        slots=slots,
        finite=_finite(ops[-1].variables),
        saver=_saver(_lasting(unlisted)),
        image_summary=summary_ops.images(images),
        eval_feeds=in_evaluation,
        l2=float(l2),
        class_weights=None if class_weights is None else tuple(map(float, class_weights)),
        summaries=chosen,
        activations=dict(activations or {}),
        settings={
            **_settings(groups, learning_rate, clip_norm, loss, replicas),
            "train_feeds": constants.described(in_training),
            "eval_feeds": constants.described(in_evaluation),
        },
        generators=tuple(generators),
        moving=moving,
        frozen=frozen,
    )
    _check_fed(step, builder.examples)
    return step


# --- at the door ---


def _check_graph(images: tf.Tensor, labels: tf.Tensor | None, outputs: tf.Tensor) -> None:
    graph = tf.get_default_graph()
    given = {"images": images, "outputs": outputs} | ({} if labels is None else {"labels": labels})
    wrong = [f"{name} is {value!r}" for name, value in given.items() if not isinstance(value, tf.Tensor)]
    if wrong:
        raise GraphError(f"{'; '.join(wrong)}: give tensors, images and labels as tf.placeholder makes them")
    apart = [name for name, value in given.items() if value.graph is not graph]
    if apart:
        raise GraphError(
            f"{names.listed(apart)} of another graph than the default one; call train_step within the "
            "`with graph.as_default():` in which they were made"
        )
    if graph.finalized:
        raise GraphError(
            "the graph is finalized, as tfxfer.session does when it opens one: nothing can be added; call train_step, "
            "and make summaries, before the session"
        )


def _check_numbers(
    stages: Sequence[Stage], learning_rate: LearningRate, clip_norm: float | None, multipliers: Mapping[str, float]
) -> None:
    factors = {f"multipliers[{pattern!r}]": factor for pattern, factor in multipliers.items()}
    factors |= {f"the multiplier of the stage at epoch {stage.epoch}": stage.multiplier for stage in stages}
    optimizers.check_numbers(learning_rate, clip_norm, factors)


def _check_memory(trained: Sequence[tf.Variable]) -> None:
    """Refuse to train a variable that is in memory another one too."""
    ops = [op for op in tf.get_default_graph().get_operations() if op.type in traversal.VARIABLES]
    places: dict[tuple[str, str], list[str]] = {}
    for op in ops:
        places.setdefault(traversal.memory_of(op), []).append(op.name)
    shared = {name: place for place, members in places.items() if len(members) > 1 for name in members}
    wrong = [variable.op.name for variable in trained if variable.op.name in shared]
    if wrong:
        rows = [
            f"{name} and {names.listed(other for other in places[shared[name]] if other != name)}" for name in wrong
        ]
        raise GraphError(
            "\n  ".join(["variables that are one in memory, by their shared_name, cannot be trained apart:", *rows])
            + "\nempty the shared_name of one before it is imported:\n"
            "  for node in meta_graph.graph_def.node:\n"
            '    if "shared_name" in node.attr: node.attr["shared_name"].s = b""'
        )


def _check_fed(step: Step, examples: Sequence[tf.Tensor]) -> None:
    last = step.stages[-1]
    fetches = [tensor.op for tensor in step.metrics.values()]
    shown_ops = [tensor.op for tensor in step.activations.values()]
    outputs = [] if step.probabilities is None else [step.probabilities.op]
    training = [op for stage in step.stages for op in (stage.apply, stage.scalars.op)]
    norms = [tf.get_default_graph().get_tensor_by_name(norm.switch) for norm in batch_norms()]
    constants.check(
        {"train_feeds": [*training, *fetches], "eval_feeds": [*fetches, *outputs, *shown_ops]},
        {"train_feeds": last.feeds, "eval_feeds": step.eval_feeds},
        examples,
        [*norms, *tf.get_collection(DROPOUTS)],
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


def _stages(train: Selection | None, stages: Sequence[Stage] | None) -> list[Stage]:
    if (train is None) == (stages is None):
        raise GraphError("say what is trained by train= or by stages=, and not by both")
    result = [Stage(0, train)] if train is not None else list(stages or ())
    epochs = [stage.epoch for stage in result]
    if not result or epochs[0] != 0 or epochs != sorted(set(epochs)):
        raise GraphError(f"stages must begin at epoch 0 and at later and later epochs, not at {epochs}")
    selections = [_selected(stage.selection) for stage in result]
    chosen = [variable.op.name for selection in selections for variable in selection]
    if not all(selections):
        raise SelectionError("a stage trains no variable; select at least one")
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise SelectionError(f"{names.listed(twice)}: chosen twice; name each variable once, in its first stage")
    return [dataclasses.replace(stage, selection=own) for stage, own in zip(result, selections, strict=True)]


def _selected(selection: Selection) -> list[tf.Variable]:
    """Return variables for a selection of variables and regular expressions."""
    every: list[Any] = [selection] if isinstance(selection, str) or _is_variable(selection) else list(selection)
    patterns = [pattern for pattern in every if isinstance(pattern, str)]
    variables = [variable for variable in every if not isinstance(variable, str)]
    graph = tf.get_default_graph()
    wrong = [repr(variable) for variable in variables if not _is_variable(variable) or variable.graph is not graph]
    if wrong:
        raise SelectionError(f"{names.listed(wrong)}: give variables of this graph, or regular expressions of names")
    return [*variables, *(_matched(patterns) if patterns else ())]


def _matched(patterns: Sequence[str]) -> list[tf.Variable]:
    """Return what regular expressions match; of one that matches trainable variables, these alone.

    So ".*" means what `minimize` trains, and not the moving statistics, which have gradients too where they are used.
    """
    every = select(*patterns)
    trainable = {variable.op for variable in tf.trainable_variables()}
    trainable |= {variable.op for variable in every if variable.trainable}
    meant: set[tf.Operation] = set()
    for pattern in patterns:
        matches = {variable.op for variable in select(pattern, among=every)}
        meant |= matches & trainable or matches
    return [variable for variable in every if variable.op in meant]


def _is_variable(value: Any) -> bool:
    """Say whether something is a variable. The two kinds of TensorFlow have no class in common but private ones."""
    op = None if isinstance(value, tf.Tensor) else getattr(value, "op", None)
    return isinstance(op, tf.Operation) and op.type in traversal.VARIABLES


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
    make: Callable[..., tf.train.Optimizer],
    rate: tf.Tensor,
) -> list[_Group]:
    """Make an optimizer for the variables that join in one stage and share one multiplier.

    Those of different stages cannot share an optimizer: Adam corrects for slots that begin at zero by the number of
    steps that the optimizer, and not the variable, has made.
    """
    return [
        _Group(stages[place].epoch, factor, scaled := rate * factor, optimizers.made(make, scaled), members)
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


@dataclasses.dataclass
class _Builder:
    """What the stages of a step are built from."""

    examples: list[tf.Tensor]
    unlisted: list[tf.Variable]
    last: tf.Variable
    built: losses.Losses
    groups: Sequence[_Group]
    steps: tf.Variable
    updates: update_ops.Updates
    clip_norm: float | None
    l2: float
    feeds: Feeds
    summary: Callable[[int, Sequence[tuple[Any, tf.Variable]]], tf.Tensor]
    replicas: Replicas | None

    def stages(self, plan: Sequence[Stage]) -> tuple[StageOps, ...]:
        ops: list[StageOps] = []
        trained: list[tf.Variable] = []
        running: set[tf.Operation] = set()
        for number, stage in enumerate(plan, 1):
            trained = [*trained, *stage.selection]
            chosen = {variable.op.name for variable in trained}
            norms = [norm for norm in batch_norms() if chosen.intersection(norm.trained)]
            updates = self._updates(trained, norms)
            running |= set(updates)
            written = self._written(trained, updates)
            name = f"stage{number}" if len(plan) > 1 else "apply"
            gradients = _gradients(self.built.objective, trained, self.l2)
            apply = self._apply(gradients, trained, updates, name)
            scalars = self.summary(stage.epoch, list(zip(gradients, trained, strict=True)))
            fed = self._feeds(norms)
            own, left_out = summary_ops.own(scalars, [*self.examples, *fed])
            variables = tuple(v for v in [*tf.global_variables(), *self.unlisted] if v.op.name in written)
            summary = summary_ops.merged([scalars, *own]) if own else scalars
            ops.append(StageOps(stage.epoch, tuple(trained), variables, apply, fed, summary, scalars, tuple(own)))
        self.updates.note(running, self.feeds)
        if left_out:
            log.warning("summaries of the graph are left out: %s", names.listed(left_out))
        return tuple(ops)

    def _updates(self, trained: Sequence[tf.Variable], norms: Sequence[BatchNorm]) -> list[tf.Operation]:
        graph = tf.get_default_graph()
        own = (
            [] if self.updates.explicit else [graph.get_operation_by_name(op) for norm in norms for op in norm.updates]
        )
        return [*own, *self.updates.of(trained)]

    def _written(self, trained: Sequence[tf.Variable], updates: Sequence[tf.Operation]) -> set[str]:
        """Return the names of all that a stage writes.

        Raises:
          GraphError: the network writes another variable whenever it is run.
        """
        written = {variable.op.name for variable in trained} | self.updates.written(trained, updates)
        fetches = [tensor.op for tensor in self.built.metrics.values()]
        always = update_ops.check_network(fetches, self.examples, written)
        if always and trained[-1] is self.last:
            log.warning(
                "%s: written whenever the network is run, in evaluation too; build what writes them outside of "
                "tf.control_dependencies, and put it into tf.GraphKeys.UPDATE_OPS",
                names.listed(always),
            )
        return written

    def _apply(
        self, gradients: Sequence[Any], trained: Sequence[tf.Variable], updates: Sequence[tf.Operation], name: str
    ) -> tf.Operation:
        reading = [*self.built.metrics.values(), *update_ops.inputs_of(updates)]
        gated = update_ops.gate(_clipped(gradients, self.clip_norm), reading)
        also = update_ops.after(gated, updates)
        alone = functools.partial(update, groups=self.groups, name=name, also=also)
        pairs = list(zip(gated, trained, strict=True))
        if self.replicas is None:
            return alone(pairs, self.steps)
        return self.replicas.apply(alone, pairs, self.steps)

    def _feeds(self, norms: Sequence[BatchNorm]) -> Feeds:
        graph = tf.get_default_graph()
        switches = [*tf.get_collection(DROPOUTS), *(graph.get_tensor_by_name(norm.switch) for norm in norms)]
        return {**{switch: np.asarray(True) for switch in switches}, **self.feeds}


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


def _saver(variables: Sequence[tf.Variable], name: str | None = None) -> tf.train.Saver:
    # What is kept and what is deleted is the run directory's to say: 0 tells the Saver to delete nothing.
    # A Saver beside the first goes into the same scope, so that the graph has one of them at its top.
    return tf.train.Saver(list(variables), max_to_keep=0, save_relative_paths=True, name=name)


def _lasting(unlisted: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Return the global variables, and those that a network reads and no collection lists; local ones are not."""
    local = {variable.op.name for variable in tf.local_variables()}
    return [*tf.global_variables(), *(variable for variable in unlisted if variable.op.name not in local)]


def _saved(
    moving: Sequence[tf.Variable], unlisted: Sequence[tf.Variable], run: Sequence[tf.Operation]
) -> tuple[Saved, Saved]:
    """Tell what a step writes from what stays as it is, so that each can be saved by itself.

    Args:
      moving: what a step writes.
      unlisted: what the network reads and GLOBAL_VARIABLES does not list.
      run: the ops of a step, whose local variables move too.
    """
    names_of_moving = {variable.op.name for variable in moving}
    everything = _lasting(unlisted)
    recorded = {variable.op.name for variable in everything}
    local = [v for v in own_state.variables_of_step(run, tf.local_variables()) if v.op.name not in recorded]
    known = recorded | {variable.op.name for variable in tf.local_variables()}
    apart = [variable for variable in moving if variable.op.name not in known]
    parts = (
        [*(v for v in everything if v.op.name in names_of_moving), *apart, *local],
        [v for v in everything if v.op.name not in names_of_moving],
    )
    first, second = (Saved(tuple(part), _saver(part, "save/part") if part else None) for part in parts)
    return first, second
