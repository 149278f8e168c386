"""Who makes the steps of a training: this process alone; a cluster's chief has others (`train.cluster.training`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.data.batches import batches
from tfxfer.graph.train_step import StageOps
from tfxfer.train.options import RunOptions

T = TypeVar("T")


class AbandonedStepError(Exception):
    """A step that waits for other processes is given up, to save and to end.

    Attributes:
      signal: the signal that asks to end, or 0.
      why: what others have done wrong where it is 0; the training's last checkpoint is named behind it.
      can_save: whether there are variables to be saved.
    """

    def __init__(self, *, signal: int = 0, why: str = "", can_save: bool) -> None:
        """Note what to do."""
        super().__init__(why)
        self.signal, self.why, self.can_save = signal, why, can_save


class Steps:
    """The steps of one start, made by this process alone."""

    def __init__(self, sess: tf.Session, options: RunOptions, examples: int, received: Callable[[], int]) -> None:
        """Prepare; nothing is run yet.

        Args:
          sess: the session that is trained in.
          options: of the run.
          examples: how many are trained on.
          received: returns the signal that asks the process to end, or 0.
        """
        self.sess, self.options, self.examples, self.received = sess, options, examples, received

    def begin(self) -> None:
        """Do what comes before the first step of a start."""

    def batches(self, done: int) -> Iterator[np.ndarray]:
        """Yield the examples, int64 [n], of each step of one process after `done` steps."""
        return batches(self.options.seed, self.examples, self.options.batch_size, done)

    def order(self, stage: StageOps, done: int) -> Iterator[np.ndarray]:
        """Begin a stage, or go on in it after `done` steps, and yield the examples of this process's steps."""
        return self.batches(done)

    def run(self, stage: StageOps, call: Callable[[], T]) -> T:
        """Make a step by a call, and return what this returns.

        Raises:
          AbandonedStepError: it waits for others for too long.
        """
        return call()

    def count(self, done: int) -> int:
        """Return how many steps are made, now that one was after `done`."""
        return done + 1
