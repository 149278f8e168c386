"""Training in a cluster: the steps of the chief, who writes the run directory, and a worker, who writes nothing."""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.callables import compiled
from tfxfer.data.batches import batches, steps_per_epoch
from tfxfer.data.splits import Data
from tfxfer.errors import RunError
from tfxfer.evaluation.feed import Feed
from tfxfer.graph.sync_replicas import Replicas
from tfxfer.graph.train_step import StageOps, Step
from tfxfer.store import provenance
from tfxfer.train.cluster import session
from tfxfer.train.cluster.session import EndedError, Messages, StartedAgainError, call_watched
from tfxfer.train.cluster.tasks import Task, Watch, wait_for
from tfxfer.train.steps import AbandonedStepError, Steps

log = logging.getLogger("tfxfer")

T = TypeVar("T")

# A step is taken to be stuck after so many times the longest before it, but no sooner than after so many seconds.
STUCK_TIMES, STUCK_SECONDS = 10.0, 10.0
FIRST_STEP = 60.0  # seconds that the first step may take


def own_part(batch: np.ndarray, place: int, number: int) -> np.ndarray:
    """Return the part of a batch that one of several processes takes; none is empty.

    Args:
      batch: int64 [n], n at least 1.
      place: of the process, 0 to number - 1.
      number: how many processes there are.
    """
    part = batch[place::number]
    return part if len(part) else batch


class ChiefSteps(Steps):
    """The steps of the chief: others make each of them with it, or their own beside it."""

    def __init__(
        self,
        *args: Any,
        step: Step,
        task: Task,
        messages: Messages,
        replicas: Replicas | None,
        terms: Mapping[str, Any],
        seconds: float,
    ) -> None:
        """Prepare; nothing is run yet.

        Args:
          *args: as `Steps` takes them.
          step: what `train_step` returned.
          task: this process.
          messages: through which workers are told to begin.
          replicas: what holds the steps together; None where each process makes its own.
          terms: what all processes must agree on.
          seconds: for how long another process may be silent.
        """
        super().__init__(*args)
        self.step, self.task, self.messages, self.replicas = step, task, messages, replicas
        self.terms, self.seconds = terms, seconds
        self._longest, self._since, self._disturbed = 0.0, 0.0, False
        self._watch = Watch({}, seconds)

    def begin(self) -> None:
        """Take out what a start that was killed has left, and let the workers begin."""
        if self.replicas is not None:
            _clear(self.sess, self.replicas)
        self.messages.send_terms(self.sess, self.terms)

    def order(self, stage: StageOps, done: int) -> Iterator[np.ndarray]:
        """Yield the chief's part of each batch, or, where each process makes its own steps, its batches."""
        if self.replicas is not None:
            self.sess.run(self.replicas.start_ops[stage.apply])
        return own_batches(self.batches, done, self.task, self.replicas)

    def run(self, stage: StageOps, call: Callable[[], T]) -> T:
        """Make a step while signals and other processes are watched."""
        if self.replicas is not None:
            # What lets the chief begin may be left from a step before, when a process was killed; gradients that are
            # dated by it are not counted, and all would wait for them.
            self.sess.run(self.replicas.local_step_ops[stage.apply])
        self._watch = Watch(self.task.addresses("ps", "worker"), self.seconds)
        self._since, self._disturbed = time.monotonic(), False
        result = call_watched(call, self._check)
        if not self._disturbed:
            self._longest = max(self._longest, time.monotonic() - self._since)
        return result

    def count(self, done: int) -> int:
        """Return how many steps all have made. What falls due at a step is never skipped, but done a little later."""
        if self.replicas is not None:
            return done + 1
        made = int(self.sess.run(self.step.global_step))
        return max(done + 1, min(made, self.options.next_due(done)))

    def _check(self) -> None:
        """While a step waits for other processes: heed signals, and give up where they stay silent."""
        silent = self._watch.silent()
        # Where a server is silent, its variables cannot be saved.
        can_save = not any(name.startswith("ps ") for name in silent)
        if silent and (number := self.received()):
            raise AbandonedStepError(signal=number, can_save=can_save)
        if late := self._watch.overdue():
            raise AbandonedStepError(why=late, can_save=can_save)
        if can_save and (refusal := self.messages.read_refusal(self.sess)):
            raise RunError(f"{refusal}\ngive all the same flags and files")
        if silent:
            self._since, self._disturbed = time.monotonic(), True
        else:
            self._repeat_stuck()

    def _repeat_stuck(self) -> None:
        """Let a step begin once more that has been waited for too long although all answer.

        What lets a process begin its next step may have gone to one that was killed, and then all wait for each other.
        Where nobody was stuck, somebody's part counts twice in the mean of that step.
        """
        patience = max(STUCK_SECONDS, STUCK_TIMES * self._longest) if self._longest else FIRST_STEP
        if self.replicas is not None and time.monotonic() - self._since > patience:
            self._since, self._disturbed = time.monotonic(), True
            log.info("a step has taken more than %.0f s: all begin it once more", patience)
            self.sess.run(self.replicas.extra_tokens)


def _clear(sess: tf.Session, replicas: Replicas) -> None:
    """Take out what a start that was killed has left on the servers, and begin from global_step."""
    for count, taken in replicas.leftovers:
        if sess.run(count):
            sess.run(taken)
    sess.run(list(replicas.start_ops.values()))


def own_batches(
    batches_after: Callable[[int], Iterator[np.ndarray]], done: int, task: Task, replicas: Replicas | None
) -> Iterator[np.ndarray]:
    """Yield the examples of the steps that one of several processes takes part in.

    Args:
      batches_after: gives the batches of one process after a number of steps.
      done: how many steps were made.
      task: the process.
      replicas: what holds the steps together: of each batch it takes a part. None where each process makes steps of its
        own: of N processes each takes every N-th batch.
    """
    if replicas is not None:
        return (own_part(batch, task.place, replicas.number) for batch in batches_after(done))
    number = len(task.trainers)
    return itertools.islice(batches_after(done - done % number + task.place), 0, None, number)


# --- a worker ---


class Worker:
    """A process that trains and keeps nothing: killed and started again, it goes on where the others stand."""

    def __init__(
        self,
        task: Task,
        step: Step,
        data: Data,
        messages: Messages,
        replicas: Replicas | None,
        terms: Mapping[str, Any],
        *,
        seconds: float,
        config: tf.ConfigProto | None = None,
    ) -> None:
        """Prepare; nothing is run yet.

        Args:
          task, messages, replicas, terms, seconds: as `ChiefSteps` takes them.
          step, data: as `tfxfer.fit` takes them.
          config: what TensorFlow is told.
        """
        self.task, self.step, self.data, self.messages, self.replicas = task, step, data, messages, replicas
        self.terms, self.seconds, self.config = dict(terms), seconds, config
        self.made = 0
        self._checked = 0.0

    def run(self) -> str:
        """Take part until the chief says that it is over, and return what it said.

        Raises:
          RunError: others do not answer, the chief has failed, a server is lost, or the chief has other terms.
        """
        self.server = session.server_of(self.task, self.config)
        self.scaffold = tf.train.Scaffold(saver=self.step.saver)
        with session.lost(self.task):
            while True:
                try:
                    self._start()
                except EndedError as end:
                    return f"{end}; this worker took part in {self.made} steps"
                except StartedAgainError:
                    log.warning("the chief begins again, and this worker with it")

    def _start(self) -> None:
        wait_for(self.task.addresses("ps", "chief"), self.seconds)
        self.watch = Watch(self.task.addresses("chief", "ps"), self.seconds)
        filtered = session.filtered(self.task, self.config)
        with call_watched(
            lambda: tf.Session(self.server.target, self.step.images.graph, filtered), self.watch.check
        ) as sess:
            self.agreed = self._wait_for_terms(sess)
            if rows := _differences(self.agreed, self.terms):
                how = f"was started otherwise than the chief:\n{rows}"
                self.messages.send_refusal(sess, f"worker {self.task.index} {how}")
                raise RunError(f"this worker {how}\ngive all the same flags and files")
        with session.monitored(self.task, self.server, self.scaffold, self.seconds, self.config) as sess:
            self.sess = sess
            self._train()

    def _wait_for_terms(self, sess: tf.Session) -> dict[str, Any]:
        while True:
            self.messages.check_end(sess)
            if terms := self.messages.read_terms(sess):
                return terms
            self.watch.check()
            time.sleep(session.INTERVAL)

    def _train(self) -> None:
        total = self.agreed["steps"]
        epoch = steps_per_epoch(len(self.data.train), self.agreed["batch_size"])
        for stage in self.step.stages:
            provenance.check(self.sess, self.step, {"train": self.data.train}, stage)
        while True:
            done = self._steps()
            if done >= total:  # The chief may yet die before the last checkpoint is saved.
                self._check()
                time.sleep(session.INTERVAL)
                continue
            self._run_stage(self.step.stage(done // epoch), done, epoch, total)

    def _run_stage(self, stage: StageOps, done: int, epoch: int, total: int) -> None:
        """Make steps for as long as they follow each other in one stage, of epochs of `epoch` steps."""
        if self.replicas is not None:
            self.sess.run(self.replicas.start_ops[stage.apply])
        feed = Feed(self.step, self.data.train, stage, training=True)
        call = compiled(self.sess, [], feed.tensors, [stage.apply])
        batches_after = functools.partial(batches, self.agreed["seed"], len(self.data.train), self.agreed["batch_size"])
        with feed.batches(own_batches(batches_after, done, self.task, self.replicas)) as loaded:
            for arrays in loaded:
                call_watched(lambda arrays=arrays: call(*arrays), self._check)  # type: ignore[misc]
                self.made += 1
                self._check_if_due()
                was, done = done, self._steps()
                follows = self.replicas is None or done == was + 1
                if done >= total or not follows or self.step.stage(done // epoch) is not stage:
                    return

    def _steps(self) -> int:
        return int(self.sess.run(self.step.global_step))

    def _check_if_due(self) -> None:
        if time.monotonic() - self._checked > session.INTERVAL:
            self._check()
            self.watch = Watch(self.task.addresses("chief", "ps"), self.seconds)

    def _check(self) -> None:
        self._checked = time.monotonic()
        self.watch.check()
        if any(name.startswith("ps ") for name in self.watch.silent()):
            return  # Nothing can be heard.
        self.messages.check_end(self.sess)
        if self.messages.read_terms(self.sess).get("start") != self.agreed["start"]:
            raise StartedAgainError("the chief has begun again")


def _differences(chiefs: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return a line for each thing in which a worker's terms are not the chief's."""
    differing = [name for name in sorted({*chiefs, *own} - {"start"}) if chiefs.get(name) != own.get(name)]
    return "\n".join(f"  {name}: the chief has {chiefs.get(name)}, this worker {own.get(name)}" for name in differing)
