"""Training that can be stopped at any moment and goes on, bit for bit, where it stood."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.data.batches import batches, steps_per_epoch
from tfxfer.data.splits import Data
from tfxfer.errors import DivergedError, RunError
from tfxfer.graph.train_step import Step
from tfxfer.run import evaluation, frozen, progress
from tfxfer.run.directory import RunDirectory, opened
from tfxfer.run.events import Events
from tfxfer.run.session import message

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
        `validation`), and the means of the step's metrics over all examples of it.
      stopped_early: whether validation had stopped getting better.
    """

    steps: int
    epochs: int
    last: str
    best: str
    history: tuple[Mapping[str, Any], ...]
    stopped_early: bool


def fit(sess: tf.Session, step: Step, data: Data, *, epochs: int, logdir: str | os.PathLike[str], batch_size: int = 32,
        seed: int = 0, save_steps: int | None = None, validation_steps: int | None = None, summary_steps: int = 100,
        keep: int = 5, keep_best: int = 1, patience: int | None = None, settings: Mapping[str, Any] | None = None,
        overwrite: bool = False) -> Fitted:
    """Train, validate, write summaries and checkpoints; go on where an earlier start of the same call stopped.

    The order of the examples, what dropout drops and every state that matters are functions of the seed and the number
    of steps made, or lie in the checkpoint: a run that was stopped or killed, and started again, ends with the same bits
    as one that was not. SIGINT, SIGTERM and SIGHUP (unless it is ignored, as under nohup) save first.

    Args:
      sess: a session on the step's graph; what the run directory holds goes before what it restored.
      step: what `train_step` returned.
      data: trained on `data.train`, validated on `data.validation`.
      epochs: how many times to go through the training examples in all; may grow when a run goes on.
      logdir: the run directory; see `tfxfer.run.directory`.
      batch_size: examples a step; the last batch of an epoch may be short.
      seed: of the order of examples, 0 to 2**32 - 1.
      save_steps: steps between checkpoints; an epoch unless told. A kill loses the steps since the last one.
      validation_steps: steps between validations; an epoch unless told.
      summary_steps: steps between summaries of a batch.
      keep, keep_best: how many of the last and of the best checkpoints to keep.
      patience: stop after this many validations in a row that were not better than the best.
      settings: what else made this run (flags, say): stored, and compared when it goes on.
      overwrite: move what is in `logdir` aside and begin anew.

    Raises:
      RunError: the directory is in use or was made with other settings, or a checkpoint cannot be written.
      DataError: the examples do not fit the model.
      DivergedError: the loss or a trained variable is no longer finite; the last checkpoint stays.
      FrozenError: a variable that no stage trains has changed.
      KeyboardInterrupt, SystemExit: after the checkpoint was saved, on SIGINT, or on SIGTERM and SIGHUP.
    """
    for name in ("train", "validation"):
        evaluation.check_split(step, getattr(data, name), name)
    every = steps_per_epoch(len(data.train), batch_size)
    asked = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "save_steps": save_steps or every,
             "validation_steps": validation_steps or every, "summary_steps": summary_steps, "keep": keep,
             "keep_best": keep_best, "patience": patience}
    _check(asked, every)
    with opened(logdir, overwrite=overwrite) as directory, _logging_to(directory.path / "train.log"):
        directory.settle({**_signature(step, data), **(settings or {}), **asked}, growing=["epochs"])
        return _Training(sess, step, data, directory, asked).run()


def _check(asked: Mapping[str, Any], every: int) -> None:
    low = [f"{name}={value}" for name, value in asked.items() if name != "seed" and value is not None and value < 1]
    if low:
        raise RunError(f"{', '.join(low)}: must be 1 or more")
    if asked["validation_steps"] > every * asked["epochs"]:
        raise RunError(f"validation_steps={asked['validation_steps']} is more than the {every * asked['epochs']} steps "
                       "of the run, so that it would never be validated; lower it")


def _signature(step: Step, data: Data) -> dict[str, Any]:
    """Return what else must be the same for a run to go on: what is trained, in which stages, on how many examples."""
    stages = [{"epoch": stage.epoch, "train": [v.op.name for v in stage.variables]} for stage in step.stages]
    return {"stages": stages, "train_examples": len(data.train), "validation_examples": len(data.validation)}


class _Training:
    """One start of a run: the loop and the state that a checkpoint carries."""

    def __init__(self, sess: tf.Session, step: Step, data: Data, directory: RunDirectory, asked: dict[str, Any]) -> None:
        self.sess, self.step, self.data, self.directory, self.asked = sess, step, data, directory, asked
        self.every = steps_per_epoch(len(data.train), asked["batch_size"])
        self.total = self.every * asked["epochs"]
        self.state: dict[str, Any] = {"step": 0, "sums": self._no_sums(), "history": [], "best": [], "waited": 0,
                                      "stopped": False, "saved": []}

    def run(self) -> Fitted:
        before = self._begin()
        if self.done:
            self._freeze_check(before, "where the run goes on")
        if self.done < self.total and not self.state["stopped"]:
            with _signals() as asked_to_stop, contextlib.closing(self._events()) as self.events, \
                    progress.bar(self.total, self.done) as self.bar:
                self._loop(before, asked_to_stop)
            self._freeze_check(before, "by the end of the run")
        return self._fitted()

    @property
    def done(self) -> int:
        return self.state["step"]

    def _begin(self) -> dict[str, str]:
        """Restore the last checkpoint, or write down how the run begins; return the digests of what must not move."""
        latest, stored = self.directory.latest(), self.directory.read("frozen.json")
        if latest is None:
            before = frozen.digests(self.sess, frozen.frozen_variables(self.step, epoch=0))
            plans = [plan.to_json() for plan in getattr(self.sess, "plans", ())]
            self.directory.write("plan.json", plans)
            self.directory.write("frozen.json", {"method": frozen.METHOD, "variables": before, "checks": []})
            log.info("begin in %s: %d steps of %d examples, %d an epoch", self.directory.path, self.total,
                     self.asked["batch_size"], self.every)
            return before
        prefix, self.state = latest
        if stored is None:
            raise RunError(f"{self.directory.path} has lost its frozen.json, so that nothing proves that frozen variables "
                           "did not move; put it back, or begin anew by --overwrite")
        try:
            self.step.saver.restore(self.sess, prefix)
        except (tf.errors.OpError, ValueError) as error:
            raise RunError(f"cannot go on from {prefix}: {message(error)}; delete its files to go on from the one before, "
                           "or begin anew by --overwrite") from None
        where = "finished" if self.done >= self.total or self.state["stopped"] else f"go on from step {self.done} of {self.total}"
        log.info("%s: restored %s, which goes before any other weights; %s", self.directory.path, prefix, where)
        return stored["variables"]

    def _events(self) -> Events:
        events = Events(self.directory.path, self.sess.graph, self.done)
        if not self.done:
            for plan in getattr(self.sess, "plans", ()):
                events.text("restore", _code(plan.report()))
            events.text("settings", _code(json.dumps(self.directory.read("settings.json"), indent=1)))
        return events

    def _loop(self, before: dict[str, str], asked_to_stop: Callable[[], int]) -> None:
        order = batches(self.asked["seed"], len(self.data.train), self.asked["batch_size"], self.done)
        stage, call = None, None
        self.started, self.examples = time.monotonic(), 0
        while self.done < self.total and not self.state["stopped"]:
            epoch = self.done // self.every
            if stage is not self.step.stage(epoch):
                if stage is not None:
                    self._freeze_check(before, f"by the end of the stage before epoch {epoch + 1}", epoch - 1)
                stage = self.step.stage(epoch)
                call = self.sess.make_callable([list(self.step.metrics.values()), stage.apply],
                                               [*evaluation.feed_tensors(self.step), *stage.switches])
            self._one(call, stage, next(order))
            self._after_step()
            received = asked_to_stop()
            if received or self.done % self.asked["save_steps"] == 0 or self.done >= self.total or self.state["stopped"]:
                self._save()
            if received:
                _stop(received, self.done)

    def _one(self, call: Callable[..., Any], stage: Any, indices: np.ndarray) -> None:
        arrays = evaluation.feed(self.step, self.data.train, indices)
        switches = [True] * len(stage.switches)
        number = self.done + 1
        feeds = dict(zip([*evaluation.feed_tensors(self.step), *stage.switches], [*arrays, *switches], strict=True))
        if number % self.asked["summary_steps"] == 0:
            # Before the step, which changes what the summary shows; the same batch and switches, so the same numbers.
            self.events.add("train", self.sess.run(self.step.summary, feeds), number)
        if self.done % self.every == 0:
            self._show_images(number)
        metrics, _ = call(*arrays, *switches)
        self.state["step"] = number
        sums = self.state["sums"]
        for name, values in zip(self.step.metrics, metrics, strict=True):
            sums[name] += float(values.sum(dtype=np.float64))
        sums["examples"] += len(indices)
        self.examples += len(indices)
        if not np.isfinite(sums["loss"]):
            raise DivergedError(f"the loss is not finite at step {number} (epoch {(number - 1) // self.every + 1}); "
                                f"{self._last_good()}; lower --learning_rate or set --clip_norm")

    def _show_images(self, number: int) -> None:
        fixed = self.data.validation.take(np.arange(min(4, len(self.data.validation))))
        self.events.add("train", self.sess.run(self.step.image_summary, {self.step.images: fixed.images}), number)

    def _after_step(self) -> None:
        sums, done = self.state["sums"], self.done
        self.bar.advance(loss=sums["loss"] / sums["examples"])
        if done % self.every == 0:
            means = {name: sums[name] / sums["examples"] for name in self.step.metrics}
            self._note("train", means)
            self.events.scalars("train", {f"epoch/{name}": value for name, value in means.items()}, done)
            self.state["sums"] = self._no_sums()
        if done % self.asked["validation_steps"] == 0:
            self._validate()

    def _validate(self) -> None:
        means = evaluation.measure(self.sess, self.step, self.data.validation)
        if not np.isfinite(means["loss"]):
            raise DivergedError(f"the validation loss is not finite at step {self.done}; {self._last_good()}; "
                                "lower --learning_rate or set --clip_norm")
        self._note("validation", means)
        self.events.scalars("validation", means | {f"epoch/{name}": value for name, value in means.items()}, self.done)
        self.bar.show(means)
        best = sorted([*self.state["best"], {"step": self.done, **means}], key=_rank)
        better = best[0]["step"] == self.done
        self.state["waited"] = 0 if better else self.state["waited"] + 1
        self.state["stopped"] = self.asked["patience"] is not None and self.state["waited"] >= self.asked["patience"]
        self.state["best"] = best[: self.asked["keep_best"]]
        if any(one["step"] == self.done for one in self.state["best"]):
            self._require_finite()
            self.directory.save(self.sess, self.step.saver, self.done, best=True)

    def _save(self) -> None:
        """Save a checkpoint from which the run can go on, then let go of those that are no longer wanted."""
        self._require_finite()
        self.state["saved"] = [*(n for n in self.state["saved"] if n != self.done), self.done][-self.asked["keep"]:]
        try:
            self.events.flush()
        except (OSError, tf.errors.OpError) as error:
            raise RunError(f"cannot write events in {self.directory.path}: {message(error)}; {self._last_good()}") from None
        self.directory.save(self.sess, self.step.saver, self.done, sidecars={"state": self.state})
        self.directory.keep(self.state["saved"], [one["step"] for one in self.state["best"]])

    def _require_finite(self) -> None:
        if not self.sess.run(self.step.finite):
            raise DivergedError(f"a trained variable is not finite after step {self.done}; {self._last_good()}; "
                                "lower --learning_rate or set --clip_norm")

    def _last_good(self) -> str:
        latest = self.directory.latest()
        return f"the last good checkpoint is {latest[0]}" if latest else "there is no checkpoint yet"

    def _freeze_check(self, before: dict[str, str], when: str, epoch: int | None = None) -> None:
        epoch = max(self.done - 1, 0) // self.every if epoch is None else epoch
        variables = frozen.frozen_variables(self.step, epoch)
        frozen.check(self.sess, variables, before, when)
        record = self.directory.read("frozen.json")
        record["checks"].append({"step": self.done, "when": when, "unchanged": len(variables)})
        self.directory.write("frozen.json", record)
        log.info("%d frozen variables are bit-identical to the start, %s", len(variables), when)

    def _note(self, split: str, means: Mapping[str, float]) -> None:
        epoch = -(-self.done // self.every)
        self.state["history"].append({"step": self.done, "epoch": epoch, "split": split, **means})
        rate = f"  {self.examples / (time.monotonic() - self.started):.0f} examples/s" if split == "train" else ""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        log.info("epoch %d/%d  step %d  %-10s  %s%s", epoch, self.asked["epochs"], self.done, split, shown, rate)

    def _no_sums(self) -> dict[str, float]:
        return {**dict.fromkeys(self.step.metrics, 0.0), "examples": 0}

    def _fitted(self) -> Fitted:
        best = min(self.state["best"], key=_rank)["step"]
        return Fitted(self.done, self.done // self.every, self.directory.prefix(self.done),
                      self.directory.prefix(best, best=True), tuple(self.state["history"]), self.state["stopped"])


def _rank(validation: Mapping[str, float]) -> tuple[float, float, int]:
    """Order validations from best to worst; of equals the earlier is the better."""
    return (-validation.get("accuracy", 0.0), validation["loss"], int(validation["step"]))


def _code(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def _stop(received: int, step: int) -> None:
    name = signal.Signals(received).name
    log.info("%s: saved at step %d; the same command goes on from there", name, step)
    if received == signal.SIGINT:
        raise KeyboardInterrupt(f"saved at step {step}")
    raise SystemExit(128 + received)


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], int]]:
    """Note SIGINT, SIGTERM and SIGHUP instead of dying of them; what is ignored stays ignored."""
    received: list[int] = []
    old = {}
    with contextlib.suppress(ValueError):  # Only the main thread can handle signals.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
