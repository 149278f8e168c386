"""The stages of training: which variables join from which epoch on, and the ops of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph.feeds import Feeds
from tfxfer.graph.variables import is_variable, select

Selection = str | Sequence[str | tf.Variable]


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


def resolve_stages(train: Selection | None, stages: Sequence[Stage] | None) -> list[Stage]:
    """Return the stages of a step, each with the variables of its selection; see `train_step` for the arguments.

    Raises:
      SelectionError: a stage trains nothing, or the same variable is trained twice.
      GraphError: both or neither of `train` and `stages`, or stages out of order.
    """
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
    items: list[Any] = [selection] if isinstance(selection, str) or is_variable(selection) else list(selection)
    patterns = [item for item in items if isinstance(item, str)]
    variables = [item for item in items if not isinstance(item, str)]
    graph = tf.get_default_graph()
    wrong = [repr(variable) for variable in variables if not is_variable(variable) or variable.graph is not graph]
    if wrong:
        raise SelectionError(f"{names.listed(wrong)}: give variables of this graph, or regular expressions of names")
    return [*variables, *(_matched(patterns) if patterns else ())]


def _matched(patterns: Sequence[str]) -> list[tf.Variable]:
    """Return what regular expressions match; of one that matches trainable variables, these alone.

    So ".*" means what `minimize` trains, and not the moving statistics, which have gradients too where they are used.
    """
    selected = select(*patterns)
    trainable = {variable.op for variable in tf.trainable_variables()}
    trainable |= {variable.op for variable in selected if variable.trainable}
    meant: set[tf.Operation] = set()
    for pattern in patterns:
        matches = {variable.op for variable in select(pattern, among=selected)}
        meant |= matches & trainable or matches
    return [variable for variable in selected if variable.op in meant]
