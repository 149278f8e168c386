"""The steps of one start of a run, and what falls due after them: validations, checkpoints, summaries."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names, progress, signals
from tfxfer.callables import Quickest, compiled
from tfxfer.errors import DivergedError, GraphError, RunError
from tfxfer.evaluation import evaluate
from tfxfer.evaluation.feed import Feed
from tfxfer.graph.train_step import StageOps
from tfxfer.store import provenance
from tfxfer.tensorboard import run_writer
from tfxfer.train.background import Background
from tfxfer.train.steps import AbandonedStepError, Steps
from tfxfer.train.training import Training

log = logging.getLogger("tfxfer")

MANY = 500  # steps; with fewer left, a second way to run them takes longer to prepare than it can save


class TrainingLoop:
    """Goes through the steps of a start that has begun, until none is left or a signal asks to end."""

    def __init__(self, training: Training, stack: contextlib.ExitStack, make_steps: Callable[..., Steps]) -> None:
        """Open what is open while it trains: handlers of signals, event files, the line that shows how far it is.

        Args:
          training: the start.
          stack: closes them.
          make_steps: makes what makes the steps, as `Steps` is made.
        """
        self.training, self.options, self.state = training, training.options, training.state
        self.sess, self.step, self.data = training.sess, training.step, training.data
        self.stage = self._current_stage()
        self.validation: evaluate.Pass | None = None  # in this stage, from its first validation on
        self.started, self.examples = time.monotonic(), 0  # of this start
        self.received = stack.enter_context(signals.noted())
        self.steps = make_steps(self.sess, self.options, len(self.data.train), self.received)
        done = self.state.step
        # It ends after all that is written by it is closed, and before signals do again what they did before.
        self.background = stack.enter_context(Background())
        do = self.background.do
        board = run_writer.RunWriter(self.sess, self.step, self.data, training.directory, done, training.shown, do)
        self.board = stack.enter_context(contextlib.closing(board))
        self.bar = stack.enter_context(progress.bar(self.options.total, done, "train", self._progress))

    def run(self) -> None:
        """Make the steps; see `tfxfer.fit` for what can be raised."""
        self.steps.begin()
        self.started = time.monotonic()
        while not self.training.finished:
            self.stage = self._current_stage()
            self._run_stage()
            if not self.training.finished:
                epoch = self.options.epoch(self.state.step) + 1
                self.training.check_frozen(f"by the end of the stage before epoch {epoch}")

    def _current_stage(self) -> StageOps:
        return self.step.stage(self.options.epoch(self.state.step))

    def _run_stage(self) -> None:
        feed = Feed(self.step, self.data.train, self.stage, training=True)
        splits = {"train": self.data.train, "validation": self.data.validation}
        provenance.check(self.sess, self.step, splits, self.stage)
        call = self._compiled(feed)
        self.validation = None
        # In each stage from where it stands: what was decoded ahead for the last one does not count as seen.
        with feed.batches(self.steps.order(self.stage, self.state.step)) as loaded:
            for arrays in loaded:
                self._make_step(call, feed, arrays)
                if self.examples == len(arrays[0]):
                    self.board.pause(self.examples)  # the first step of a start is slow
                    self.training.check_frozen("after the first step of this start")
                self._after_step()
                self._save_if_due(self.received())
                if self.training.finished or self._current_stage() is not self.stage:
                    break

    def _compiled(self, feed: Feed) -> Callable[..., list[np.ndarray]]:
        """Return what makes a step. Where many are left, the session's threads or this one: the quicker of the two."""
        many = self.options.total - self.state.step >= MANY and not self.sess.sess_str
        # Of ops with a state of their own, one may wait for another of the same step, as Unstage does for Stage.
        alone = many and not self.training.directory.settings().training.get("stateful_ops")
        step = (self.sess, list(self.step.train_metrics.values()), feed.tensors, [self.stage.apply])
        return Quickest([compiled(*step, in_caller=in_caller) for in_caller in ((False, True) if alone else (False,))])

    def _make_step(self, call: Callable[..., Any], feed: Feed, batch: list[np.ndarray]) -> None:
        number = self.state.step + 1
        if number % self.options.summary_steps == 0:
            # Before the step, which changes what is shown: fed the same, and so the same numbers.
            self.board.batch(self.stage, feed.fed(batch), number, self.examples)
        traced = self.board.traced(number)
        make = (lambda: self._traced(feed.fed(batch), number)) if traced else (lambda: call(*batch))
        try:
            metrics = self.steps.run(self.stage, make)
        except AbandonedStepError as abandoned:
            self._end_abandoned(abandoned)
        self.state.step = self.steps.count(self.state.step)
        self._add_up(dict(zip(self.step.metrics, metrics, strict=True)), len(batch[0]))

    def _traced(self, feeds: Mapping[tf.Tensor, Any], number: int) -> list[np.ndarray]:
        """Make a step as always, and record what each op takes."""
        options, metadata = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()
        fetches = [list(self.step.train_metrics.values()), self.stage.apply]
        metrics, _ = self.sess.run(fetches, dict(feeds), options=options, run_metadata=metadata)
        self.board.trace(metadata, number)
        return metrics

    def _add_up(self, metrics: Mapping[str, np.ndarray], count: int) -> None:
        sums = self.state.sums
        others = {name: values.size for name, values in metrics.items() if values.size != count}
        if others:
            rows = names.listed(f"{name} has {size:,}" for name, size in others.items())
            raise GraphError(f"a batch of {count:,} examples must have a value of each metric for each, and {rows}")
        for name, values in metrics.items():
            sums[name] += float(values.sum(dtype=np.float64))
        sums["examples"] += count
        self.examples += count
        if not np.isfinite(sums["loss"]):
            epoch = self.options.epoch(self.state.step - 1) + 1
            raise self._diverged(f"the loss is not finite at step {self.state.step} (epoch {epoch})")
        self.bar.advance(loss=sums["loss"] / sums["examples"])

    # --- what falls due ---

    def _after_step(self) -> None:
        if self.state.step % self.options.steps_per_epoch == 0:
            self._end_epoch()
        if self.state.step % self.options.validation_steps == 0:
            self._validate()
        if self.training.finished:
            self.board.finish(self.state.step)

    def _end_epoch(self) -> None:
        sums = self.state.sums
        means = {name: sums[name] / sums["examples"] for name in self.step.metrics}
        self.state.sums = self.training.no_sums()
        learning_rate = float(self.sess.run(self.step.learning_rate, dict(self.stage.feeds)))
        self._note("train", means, learning_rate=learning_rate)
        self.board.epoch(self.stage, means, self.state.step, self.examples)

    def _validate(self) -> None:
        state, options = self.state, self.options
        means, result = self._measure_validation()
        if not np.isfinite(means["loss"]):
            raise self._diverged(f"the validation loss is not finite after step {state.step}")
        self._note("validation", means)
        self.board.validated(means, result, state.step)
        self.bar.show(means)
        ranked = sorted([*state.best, {"step": state.step, **means}], key=options.rank)
        state.best = ranked[: options.keep_best]
        state.waited = 0 if ranked[0]["step"] == state.step else state.waited + 1
        state.stopped = options.patience is not None and state.waited >= options.patience
        if any(row["step"] == state.step for row in state.best):
            self._require_finite()
            self.training.save_best(self.background)
        self.board.pause(self.examples)

    def _measure_validation(self) -> tuple[Mapping[str, float], evaluate.Evaluation | None]:
        """Return the means of a validation and, if it is to be shown, what the model says of each example."""
        split = self.data.validation
        if not self.board.needs_probabilities():
            self.validation = self.validation or evaluate.Pass(self.sess, self.step, split, stage=self.stage)
            return self.validation.run()[0], None
        names = tuple(self.data.class_names)
        names = names if len(names) == self.step.probabilities.shape[1] else ()  # type: ignore[union-attr]  # has labels
        result = evaluate.evaluate(self.sess, self.step, split, class_names=names, stage=self.stage, verified=True)
        return result.metrics, result

    def _save_if_due(self, number: int) -> None:
        """Save where it is time to, or where a signal (its number, or 0) has asked to end; and then end."""
        if number or self.training.finished or self.state.step % self.options.save_steps == 0:
            self._save()
        if number:
            self.background.wait()
            name = signal.Signals(number).name
            step, prefix = self.state.step, self.training.directory.prefix(self.state.step)
            log.warning("%s: saved at step %d as %s; the same command goes on from there", name, step, prefix)
            signals.end_saved(number, step)

    def _end_abandoned(self, abandoned: AbandonedStepError) -> NoReturn:
        if abandoned.signal and abandoned.can_save:
            self._save_if_due(abandoned.signal)
        elif abandoned.signal:
            signals.end_saved(abandoned.signal, self.state.step)
        elif abandoned.can_save:
            self._save()
        self.background.wait()
        last_good = self.training.directory.last_good()
        raise RunError(f"{abandoned.why}; {last_good}, and the same command goes on from there") from None

    def _save(self) -> None:
        self._require_finite()
        self.training.save(self.background)
        self.board.pause(self.examples)

    def _require_finite(self) -> None:
        if not self.sess.run(self.step.finite):
            raise self._diverged(f"a trained variable is not finite after step {self.state.step}")

    def _diverged(self, what: str) -> DivergedError:
        with contextlib.suppress(Exception):  # What could not be written is told when the background ends.
            self.background.wait()
        last_good = self.training.directory.last_good()
        return DivergedError(f"{what}; {last_good}; lower `learning_rate` or set `clip_norm`")

    # --- what is told ---

    def _note(self, split: str, means: Mapping[str, float], **more: float) -> None:
        step = self.state.step
        epoch = -(-step // self.options.steps_per_epoch)
        self.state.history.append({"step": step, "epoch": epoch, "split": split, **means, **more})
        rate = f"  {self._rate():.0f} examples/s" if split == "train" else ""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        log.info("epoch %d/%d  step %d  %-10s  %s%s", epoch, self.options.epochs, step, split, shown, rate)

    def _rate(self) -> float:
        """Return the examples a second since this start began to train."""
        return self.examples / max(time.monotonic() - self.started, 1e-9)

    def _progress(self) -> str:
        """Say how far the training is."""
        step, sums = self.state.step, self.state.sums
        epoch = min(self.options.epoch(step) + 1, self.options.epochs)
        loss = f"  loss {sums['loss'] / sums['examples']:.4f}" if sums["examples"] else ""
        where = f"epoch {epoch}/{self.options.epochs}  step {step} of {self.options.total}"
        return f"{where}{loss}  {self._rate():.0f} examples/s"
