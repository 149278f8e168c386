"""Training in a cluster: the chief's loop, which writes the run directory, and a worker's, which writes nothing."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

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
from tfxfer.train import signals
from tfxfer.train.cluster import session
from tfxfer.train.cluster.session import Desk, EndedError, StartedAgainError, patiently
from tfxfer.train.cluster.tasks import Task, Watch, wait_for
from tfxfer.train.training_loop import Training

log = logging.getLogger("tfxfer")

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


class ChiefTraining(Training):
    """The loop of the chief: as in one process, but that others make each step with it, or their own beside it."""

    def __init__(
        self, *args: Any, task: Task, desk: Desk, replicas: Replicas | None, terms: Mapping[str, Any], seconds: float
    ) -> None:
        """Prepare a start.

        Args:
          *args: as `Training` takes them.
          task: this process.
          desk: through which workers are told to begin.
          replicas: what holds the steps together; None where each process makes its own.
          terms: what all processes must agree on.
          seconds: for how long another process may be silent.
        """
        super().__init__(*args)
        self.task, self.desk, self.replicas, self.terms, self.seconds = task, desk, replicas, terms, seconds
        self._longest = 0.0

    def _loop(self, received: Callable[[], int]) -> None:
        self._received, self._leaving = received, False
        if self.replicas is not None:
            _clear(self.sess, self.replicas)
        self.desk.say_terms(self.sess, self.terms)
        super()._loop(received)

    def _order(self) -> Iterator[np.ndarray]:
        if self.replicas is None:
            return _every(self.asked["seed"], len(self.data.train), self.asked["batch_size"], self.done, self.task)
        self.sess.run(self.replicas.start_ops[self.stage.apply])
        order = batches(self.asked["seed"], len(self.data.train), self.asked["batch_size"], self.done)
        return (own_part(batch, self.task.place, self.replicas.number) for batch in order)

    def _one(self, call: Callable[..., Any], feed: Feed, batch: list[np.ndarray]) -> None:
        was = self.done
        if self.replicas is not None:
            # What lets the chief begin may be left from a step before, when a process was killed; gradients that are
            # dated by it are not counted, and all would wait for them.
            self.sess.run(self.replicas.local_step_ops[self.stage.apply])
        super()._one(lambda *arrays: self._patiently(lambda: call(*arrays)), feed, batch)
        if self.replicas is None:
            # Others have made steps too. What falls due at some step is never leapt over, but done a little later.
            made = int(self.sess.run(self.step.global_step))
            self.state["step"] = max(was + 1, min(made, self._next_due(was)))

    def _traced(self, feeds: Mapping[tf.Tensor, Any], number: int) -> Any:
        traced = super()._traced
        return self._patiently(lambda: traced(feeds, number))

    def _next_due(self, done: int) -> int:
        """The first step after some at which an epoch ends or anything is saved, validated or shown."""
        dues = (self.every, *(self.asked[f"{name}_steps"] for name in ("save", "validation")))
        shown = self.asked["summary_steps"]  # of the step that follows
        return min(done + shown - (done + 1) % shown, *(done + due - done % due for due in dues))

    def _patiently(self, call: Callable[[], Any]) -> Any:
        watch = Watch(self.task.addresses("ps", "worker"), self.seconds)
        self._since, self._disturbed = time.monotonic(), False
        found = patiently(call, lambda: self._look(watch))
        if not self._disturbed:
            self._longest = max(self._longest, time.monotonic() - self._since)
        return found

    def _look(self, watch: Watch) -> None:
        """While a step waits for other processes: heed signals, and give up where they stay silent."""
        if self._leaving:
            return
        silent = watch.silent()
        held = not any(name.startswith("ps ") for name in silent)  # the variables, and so something to save
        if silent and (number := self._received()):
            self._leaving = True
            if held:
                self._save_if_due(number)
            signals.end(number, self.done)
        if late := watch.late():
            self._leaving = True
            if held:
                self._save()
            raise RunError(f"{late}; {self.directory.last_good()}, and the same command goes on from there")
        if held and (refusal := self.desk.refusal(self.sess)):
            raise RunError(f"{refusal}\ngive all the same flags and files")
        if silent:
            self._since, self._disturbed = time.monotonic(), True
        else:
            self._free()

    def _free(self) -> None:
        """Let a step begin once more that has been waited for too long although all answer.

        What lets a process begin its next step may have gone to one that was killed, and then all wait for each other.
        Where nobody was stuck, somebody's part counts twice in the mean of that step.
        """
        patience = max(STUCK_SECONDS, STUCK_TIMES * self._longest) if self._longest else FIRST_STEP
        if self.replicas is not None and time.monotonic() - self._since > patience:
            self._since, self._disturbed = time.monotonic(), True
            log.info("step %d has taken more than %.0f s: all begin it once more", self.done + 1, patience)
            self.sess.run(self.replicas.extra_tokens)


def _clear(sess: tf.Session, replicas: Replicas) -> None:
    """Take out what a start that was killed has left on the servers, and begin from global_step."""
    for count, taken in replicas.leftovers:
        if sess.run(count):
            sess.run(taken)
    sess.run(list(replicas.start_ops.values()))


def _every(seed: int, examples: int, batch_size: int, done: int, task: Task) -> Iterator[np.ndarray]:
    """Yield the batches of one of several processes that each make steps of their own: every so-manieth of an epoch."""
    number = len(task.trainers)
    return itertools.islice(batches(seed, examples, batch_size, done - done % number + task.place), 0, None, number)


# --- a worker ---


class Worker:
    """A process that trains and keeps nothing: killed and started again, it goes on where the others stand."""

    def __init__(
        self,
        task: Task,
        step: Step,
        data: Data,
        desk: Desk,
        replicas: Replicas | None,
        terms: Mapping[str, Any],
        *,
        seconds: float,
        config: tf.ConfigProto | None = None,
    ) -> None:
        """Prepare; nothing is run yet.

        Args:
          task, desk, replicas, terms, seconds: as `ChiefTraining` takes them.
          step, data: as `tfxfer.fit` takes them.
          config: what TensorFlow is told.
        """
        self.task, self.step, self.data, self.desk, self.replicas = task, step, data, desk, replicas
        self.own, self.seconds, self.config = dict(terms), seconds, config
        self.made = 0
        self._looked = 0.0

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
        with patiently(
            lambda: tf.Session(self.server.target, self.step.images.graph, filtered), self.watch.look
        ) as sess:
            self.agreed = self._wait_for_terms(sess)
            if other := _differences(self.agreed, self.own):
                self.desk.say_refusal(sess, f"worker {self.task.index} was started otherwise than the chief:\n{other}")
                raise RunError(
                    f"this worker was started otherwise than the chief:\n{other}\ngive all the same flags and files"
                )
        with session.monitored(self.task, self.server, self.scaffold, self.seconds, self.config) as sess:
            self.sess = sess
            self._train()

    def _wait_for_terms(self, sess: tf.Session) -> dict[str, Any]:
        while True:
            self.desk.look(sess)
            if terms := self.desk.terms(sess):
                return terms
            self.watch.look()
            time.sleep(session.LOOK)

    def _train(self) -> None:
        size, total = self.agreed["batch_size"], self.agreed["steps"]
        every = steps_per_epoch(len(self.data.train), size)
        for stage in self.step.stages:
            provenance.check(self.sess, self.step, {"train": self.data.train}, stage)
        while True:
            done = self._steps()
            if done >= total:  # The chief may yet die before the last checkpoint is saved.
                self._look()
                time.sleep(session.LOOK)
                continue
            self._stage(self.step.stage(done // every), done, every, total)

    def _stage(self, stage: StageOps, done: int, every: int, total: int) -> None:
        """Make steps for as long as they follow each other in one stage."""
        if self.replicas is not None:
            self.sess.run(self.replicas.start_ops[stage.apply])
        feed = Feed(self.step, self.data.train, stage, training=True)
        call = compiled(self.sess, [], feed.tensors, [stage.apply])
        with feed.batches(self._order(done)) as loaded:
            for arrays in loaded:
                patiently(lambda arrays=arrays: call(*arrays), self._look)  # type: ignore[misc]
                self.made += 1
                self._look_if_due()
                was, done = done, self._steps()
                follows = self.replicas is None or done == was + 1
                if done >= total or not follows or self.step.stage(done // every) is not stage:
                    return

    def _order(self, done: int) -> Iterator[np.ndarray]:
        seed, size, examples = self.agreed["seed"], self.agreed["batch_size"], len(self.data.train)
        if self.replicas is None:
            return _every(seed, examples, size, done, self.task)
        order = batches(seed, examples, size, done)
        return (own_part(batch, self.task.place, self.replicas.number) for batch in order)

    def _steps(self) -> int:
        return int(self.sess.run(self.step.global_step))

    def _look_if_due(self) -> None:
        if time.monotonic() - self._looked > session.LOOK:
            self._look()
            self.watch = Watch(self.task.addresses("chief", "ps"), self.seconds)

    def _look(self) -> None:
        self._looked = time.monotonic()
        self.watch.look()
        if any(name.startswith("ps ") for name in self.watch.silent()):
            return  # Nothing can be heard.
        self.desk.look(self.sess)
        if self.desk.terms(self.sess).get("start") != self.agreed["start"]:
            raise StartedAgainError("the chief has begun again")


def _differences(chiefs: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Return a line for each thing in which a worker's terms are not the chief's."""
    other = [name for name in sorted({*chiefs, *own} - {"start"}) if chiefs.get(name) != own.get(name)]
    return "\n".join(f"  {name}: the chief has {chiefs.get(name)}, this worker {own.get(name)}" for name in other)
