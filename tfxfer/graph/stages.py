"""The stages of training: which variables join from which epoch on, and the ops of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow.compat.v1 as tf

from tfxfer.graph.feeds import Feeds

Selection = str | Sequence[str | tf.Variable]


@dataclasses.dataclass(frozen=True)
class Stage:
    """From an epoch on, further variables are trained.

    Attributes:
      epoch: the first epoch of the stage, counted from 0.
      selection: the variables that join those of earlier stages; or regular expressions, as `select` takes them.
      multiplier: what the learning rate is multiplied by for them.
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
