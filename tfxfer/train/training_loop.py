"""The loop of a training: one start of a run, and the state that its checkpoints carry."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names, progress
from tfxfer.callables import compiled
from tfxfer.data.batches import batches, steps_per_epoch
from tfxfer.data.splits import Data
from tfxfer.errors import DivergedError, RunError
from tfxfer.evaluation import evaluate
from tfxfer.evaluation.feed import Feed
from tfxfer.graph.partitioned import wholes
from tfxfer.graph.preprocessing import input_specs
from tfxfer.graph.train_step import Step
from tfxfer.restore.session import message
from tfxfer.store import provenance
from tfxfer.tensorboard import run_writer
from tfxfer.train import frozen_check as frozen
from tfxfer.train import resume, signals
from tfxfer.train.checkpoints import Checkpoints
from tfxfer.train.run_directory import RunDirectory

log = logging.getLogger("tfxfer")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """How a training ended.

    Attributes:
      steps, epochs: how many were made in all, those of earlier starts included.
      last: the prefix of the last checkpoint.
      best: the prefix of the best checkpoint by validation: the highest accuracy, among equals the lowest loss; without
        labels the lowest loss.
      history: a dict an epoch and one a validation, in order: `step`, `epoch` (from 1), `split` (`train`,
        `validation`), and the means of the step's metrics over all examples of it; of an epoch also `learning_rate`,
        the rate at its end.
      stopped_early: whether validation had stopped getting better.
      frozen: how many variables no stage trained, and are proved to be bit-identical to the start.
      exact_resume: whether a run that was stopped and goes on ends with these bits: no op of a step keeps a state that
        no checkpoint holds, as `tf.nn.dropout` does.

    Example:
      >>> data = tx.data.digits()
      >>> images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(tf.cast(images, tf.float32) / 255, classes=10)
      >>> step = tx.train_step(images, labels, logits, train=["logits/.*"])
      >>> with tx.session() as sess:
      ...     fitted = tx.fit(sess, step, data, epochs=1, logdir="runs/digits")
      >>> [(row["epoch"], row["split"]) for row in fitted.history]
      [(1, 'train'), (1, 'validation')]
    """

    steps: int
    epochs: int
    last: str
    best: str
    history: tuple[Mapping[str, Any], ...]
    stopped_early: bool
    frozen: int
    exact_resume: bool = True


class Training:
    """One start of a run, from what the run directory holds to the last step or a signal.

    `state` is what a checkpoint carries beside the variables: `step`, the number of steps made; `sums` of the epoch so
    far; the `history`, the `best` validations and how many have `waited` since; whether it was `stopped` early; the
    steps whose checkpoints are `saved`. All that follows is a function of it, the variables, the seed and the data.
    """

    def __init__(
        self,
        sess: tf.Session,
        step: Step,
        data: Data,
        directory: RunDirectory,
        asked: Mapping[str, Any],
        shown: Sequence[int],
    ) -> None:
        """Prepare a start; nothing is run yet.

        Args:
          sess, step, data: as `tfxfer.fit` takes them.
          directory: the run directory, held by this process.
          asked: the numbers that `tfxfer.fit` takes, by name, none of the steps left None.
          shown: as `tfxfer.fit` takes it.
        """
        self.sess, self.step, self.data, self.directory, self.asked = sess, step, data, directory, asked
        self.shown, self.checkpoints = shown, Checkpoints(sess, step)
        self.every = steps_per_epoch(len(data.train), asked["batch_size"])
        self.total = self.every * asked["epochs"]
        self.state: dict[str, Any] = {"step": 0, "history": [], "best": [], "waited": 0, "stopped": False, "saved": []}
        self.state["sums"] = self._no_sums()
        self.started, self.examples = time.monotonic(), 0

    def run(self) -> Fitted:
        """Train to the end; see `tfxfer.fit` for what can be raised."""
        latest = self.directory.latest()
        if latest is None:
            self._begin()
        else:
            self._go_on(*latest)
        if not self.finished:
            with (
                signals.noted() as received,
                contextlib.closing(self._board()) as self.board,
                progress.bar(self.total, self.done, "train", self._told) as self.bar,
            ):
                self._loop(received)
            self._check_frozen("by the end of the run")
        run_writer.conclude(self.sess, self.step, self.data, self.directory, self.state)
        best = self.state["best"][0]["step"]
        return Fitted(
            self.done,
            self.done // self.every,
            self.directory.prefix(self.done),
            self.directory.prefix(best, best=True),
            tuple(self.state["history"]),
            self.state["stopped"],
            len(wholes(self._frozen())),
            not self.directory.settings().get("stateful_ops"),
        )

    @property
    def done(self) -> int:
        """The number of steps made."""
        return self.state["step"]

    @property
    def finished(self) -> bool:
        """Whether no step is left to be made."""
        return self.done >= self.total or self.state["stopped"]

    # --- how a start begins ---

    def _begin(self) -> None:
        self.before = frozen.digests(self.sess, frozen.frozen_variables(self.step, epoch=0))
        # The run is looked at from other directories, too.
        files = [os.path.abspath(plan.weights.path) for plan in self._plans()]
        rows = [{**plan.to_json(), "weights": file} for plan, file in zip(self._plans(), files, strict=True)]
        self.directory.write("plan.json", rows)
        self.directory.write("frozen.json", {"method": frozen.METHOD, "variables": self.before, "checks": []})
        size = f"{self.total} steps of {self.asked['batch_size']} examples, {self.every} an epoch"
        log.info("begin in %s: %s; %s", self.directory.path, size, self.directory.room)

    def _go_on(self, prefix: str, state: dict[str, Any]) -> None:
        before = self.directory.frozen()
        self._require_sums(prefix, state)
        local = resume.compare(prefix, self.step, self.directory.path).local
        if self.data.train.features is not None:
            # Features were computed from what the session held so far; the checkpoint's frozen variables must be those.
            start = frozen.frozen_variables(self.step, epoch=0)
            frozen.check(self.sess, start, before, "since the run began, before features were computed")
        try:
            resume.restore(self.sess, self.step, prefix, local=local)
        except (tf.errors.OpError, ValueError) as error:
            raise resume.cannot_go_on(prefix, self.directory.path, message(error)) from None
        self.state, self.before = state, before
        patience = self.asked["patience"]  # which may be another now
        self.state["stopped"] = patience is not None and self.state["waited"] >= patience
        where = "finished" if self.finished else f"go on from step {self.done} of {self.total}"
        log.warning("%s: restored %s, which goes before any other weights; %s", self.directory.path, prefix, where)
        log.info("%s: %s", self.directory.path, self.directory.room)
        self._check_frozen("where the run goes on")
        self.checkpoints.go_on_from(prefix)
        self._require_best()

    def _require_sums(self, prefix: str, state: Mapping[str, Any]) -> None:
        if set(state["sums"]) != set(self._no_sums()):
            what = f"its state has sums of {names.listed(state['sums'])}, not of {names.listed(self._no_sums())}"
            raise resume.cannot_go_on(prefix, self.directory.path, what)

    def _require_best(self) -> None:
        """Find the best checkpoints again that the state names; those that are lost count no more."""
        lost = [row["step"] for row in self.state["best"] if not self.directory.recover_best(row["step"])]
        if not lost:
            return
        self.state["best"] = [row for row in self.state["best"] if row["step"] not in lost]
        which = names.listed(f"best/model.ckpt-{step}" for step in lost)
        if self.finished and not self.state["best"]:
            raise RunError(
                f"{self.directory.path} has lost {which}, and the run has ended, so that there is no best checkpoint; "
                "put it back, raise `epochs`, or begin anew by `overwrite=True`"
            )
        log.warning("%s is lost; the best checkpoint is that of the other validations", which)

    def _plans(self) -> tuple[Any, ...]:
        """The plans of the session, if it was made by `tfxfer.session`."""
        return getattr(self.sess, "plans", ())

    def _board(self) -> run_writer.Board:
        return run_writer.Board(self.sess, self.step, self.data, self.directory, self.done, self.shown)

    # --- the loop ---

    def _loop(self, received: Callable[[], int]) -> None:
        self.started, self.examples = time.monotonic(), 0
        while not self.finished:
            self.stage = self.step.stage(self.done // self.every)
            feed = Feed(self.step, self.data.train, self.stage, training=True)
            fed = {"train": self.data.train, "validation": self.data.validation}
            provenance.check(self.sess, self.step, fed, self.stage)
            call = compiled(self.sess, list(self.step.metrics.values()), feed.tensors, [self.stage.apply])
            # In each stage from where it stands: what was decoded ahead for the last one does not count as seen.
            with feed.batches(self._order()) as loaded:
                for arrays in loaded:
                    self._one(call, feed, arrays)
                    if self.examples == len(arrays[0]):
                        self._check_frozen("after the first step of this start")
                    self._after_step()
                    self._save_if_due(received())
                    if self.finished or self.step.stage(self.done // self.every) is not self.stage:
                        break
            if not self.finished:
                self._check_frozen(f"by the end of the stage before epoch {self.done // self.every + 1}")

    def _order(self) -> Iterator[np.ndarray]:
        return batches(self.asked["seed"], len(self.data.train), self.asked["batch_size"], self.done)

    def _save_if_due(self, number: int) -> None:
        """Save where it is time to, or where a signal (its number, or 0) has asked to stop; and then stop."""
        if number or self.finished or self.done % self.asked["save_steps"] == 0:
            self._save()
        if number:
            name = signal.Signals(number).name
            prefix = self.directory.prefix(self.done)
            log.warning("%s: saved at step %d as %s; the same command goes on from there", name, self.done, prefix)
            signals.end(number, self.done)

    def _one(self, call: Callable[..., Any], feed: Feed, batch: list[np.ndarray]) -> None:
        number = self.done + 1
        feeds = dict(zip(feed.tensors, batch, strict=True))
        if number % self.asked["summary_steps"] == 0:
            # Before the step, which changes what is shown: fed the same, and so the same numbers.
            self.board.batch(self.stage, feeds, number, self.examples)
        metrics = self._traced(feeds, number) if self.board.traced(number) else call(*batch)
        self.state["step"] = number
        self._add_up(dict(zip(self.step.metrics, metrics, strict=True)), len(batch[0]))
        if self.examples == len(batch[0]):
            self.board.pause(self.examples)  # the first step of a start is slow

    def _traced(self, feeds: Mapping[tf.Tensor, Any], number: int) -> list[np.ndarray]:
        """Make a step as ever, and record what each op takes."""
        options, metadata = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()
        fetches = [list(self.step.metrics.values()), self.stage.apply]
        found, _ = self.sess.run(fetches, dict(feeds), options=options, run_metadata=metadata)
        self.board.trace(metadata, number)
        return found

    def _add_up(self, metrics: Mapping[str, np.ndarray], count: int) -> None:
        sums = self.state["sums"]
        for name, values in metrics.items():
            sums[name] += float(values.sum(dtype=np.float64))
        sums["examples"] += count
        self.examples += count
        if not np.isfinite(sums["loss"]):
            raise self._diverged(
                f"the loss is not finite at step {self.done} (epoch {(self.done - 1) // self.every + 1})"
            )
        self.bar.advance(loss=sums["loss"] / sums["examples"])

    def _after_step(self) -> None:
        if self.done % self.every == 0:
            sums = self.state["sums"]
            means = {name: sums[name] / sums["examples"] for name in self.step.metrics}
            self.state["sums"] = self._no_sums()
            self._note(
                "train", means, learning_rate=float(self.sess.run(self.step.learning_rate, dict(self.stage.feeds)))
            )
            self.board.epoch(self.stage, means, self.done, self.examples)
        if self.done % self.asked["validation_steps"] == 0:
            self._validate()
        if self.finished:
            self.board.finish(self.done)

    def _validate(self) -> None:
        means, result = self._measured()
        if not np.isfinite(means["loss"]):
            raise self._diverged(f"the validation loss is not finite after step {self.done}")
        self._note("validation", means)
        self.board.validated(means, result, self.done)
        self.bar.show(means)
        ranked = sorted([*self.state["best"], {"step": self.done, **means}], key=_rank)
        self.state["best"] = ranked[: self.asked["keep_best"]]
        self.state["waited"] = 0 if ranked[0]["step"] == self.done else self.state["waited"] + 1
        self.state["stopped"] = self.asked["patience"] is not None and self.state["waited"] >= self.asked["patience"]
        if any(one["step"] == self.done for one in self.state["best"]):
            self._require_finite()
            self.directory.save(self.checkpoints, self.done, best=True, sidecars=self._input_spec())
        self.board.pause(self.examples)

    def _measured(self) -> tuple[Mapping[str, float], evaluate.Evaluation | None]:
        """Return the means of a validation and, if it is to be shown, what the model says of each example."""
        split = self.data.validation
        if not self.board.needs_probabilities():
            return evaluate.measure(self.sess, self.step, split, stage=self.stage, verified=True), None
        named = tuple(self.data.class_names)
        named = named if len(named) == self.step.probabilities.shape[1] else ()  # type: ignore[union-attr]  # has labels
        result = evaluate.evaluate(self.sess, self.step, split, class_names=named, stage=self.stage, verified=True)
        return result.metrics, result

    def _no_sums(self) -> dict[str, float]:
        return {**dict.fromkeys(self.step.metrics, 0.0), "examples": 0}

    # --- what a start leaves ---

    def _save(self) -> None:
        """Save a checkpoint from which the run can go on, then let go of those that are no longer wanted."""
        self._require_finite()
        others = [number for number in self.state["saved"] if number != self.done]
        self.state["saved"] = [*others, self.done][-self.asked["keep"] :]
        try:
            self.board.flush()
        except (OSError, tf.errors.OpError) as error:
            raise RunError(
                f"cannot write events in {self.directory.path}: {message(error)}; {self.directory.last_good()}"
            ) from None
        self.directory.save(self.checkpoints, self.done, sidecars={"state": self.state, **self._input_spec()})
        self.directory.keep(self.state["saved"], [one["step"] for one in self.state["best"]])
        self.board.pause(self.examples)

    def _input_spec(self) -> dict[str, Any]:
        """What the model expects of its input, where the graph says so, and what its classes are called."""
        known = input_specs(self.sess.graph)
        if not known:
            return {}
        named = dataclasses.replace(
            known[0], class_names=tuple(self.data.class_names) if self.step.labels is not None else ()
        )
        return {"input_spec": named.to_json()}

    def _require_finite(self) -> None:
        if not self.sess.run(self.step.finite):
            raise self._diverged(f"a trained variable is not finite after step {self.done}")

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(f"{what}; {self.directory.last_good()}; lower `learning_rate` or set `clip_norm`")

    def _check_frozen(self, when: str) -> None:
        unchanged = frozen.check(self.sess, self._frozen(), self.before, when)
        record = self.directory.read("frozen.json")
        record["checks"].append({"step": self.done, "when": when, "unchanged": unchanged})
        self.directory.write("frozen.json", record)
        log.info("%d frozen variables are bit-identical to the start, %s", unchanged, when)

    def _frozen(self) -> list[tf.Variable]:
        """The variables that no stage so far has written."""
        return frozen.frozen_variables(self.step, max(self.done - 1, 0) // self.every)

    def _note(self, split: str, means: Mapping[str, float], **more: float) -> None:
        epoch = -(-self.done // self.every)
        self.state["history"].append({"step": self.done, "epoch": epoch, "split": split, **means, **more})
        rate = f"  {self._rate():.0f} examples/s" if split == "train" else ""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        log.info("epoch %d/%d  step %d  %-10s  %s%s", epoch, self.asked["epochs"], self.done, split, shown, rate)

    def _rate(self) -> float:
        """Examples a second since this start began to train."""
        return self.examples / max(time.monotonic() - self.started, 1e-9)

    def _told(self) -> str:
        """Say how far the training is."""
        epoch = min(self.done // self.every + 1, self.asked["epochs"])
        seen = self.state["sums"]["examples"]
        loss = f"  loss {self.state['sums']['loss'] / seen:.4f}" if seen else ""
        done = f"epoch {epoch}/{self.asked['epochs']}  step {self.done} of {self.total}"
        return f"{done}{loss}  {self._rate():.0f} examples/s"


def _rank(validation: Mapping[str, float]) -> tuple[float, float, int]:
    """Order validations from best to worst; of equals the earlier is the better."""
    return (-validation.get("accuracy", 0.0), validation["loss"], int(validation["step"]))
