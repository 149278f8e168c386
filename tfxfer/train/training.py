"""One start of a run: how it begins or goes on, what its checkpoints carry, and what it comes to."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names, notebook
from tfxfer.callables import message
from tfxfer.data.splits import Data
from tfxfer.errors import RunError
from tfxfer.evaluation import stored_rows
from tfxfer.evaluation.normalization import fit_normalization
from tfxfer.evaluation.precision_change import measure_change
from tfxfer.graph.normalization import statistics_of
from tfxfer.graph.partitioned import wholes
from tfxfer.graph.preprocessing import input_specs
from tfxfer.graph.train_step import Step
from tfxfer.markup import Markup
from tfxfer.runs import files
from tfxfer.runs.frozen import FrozenRecord
from tfxfer.runs.state import RunState
from tfxfer.tensorboard import run_writer
from tfxfer.train import frozen_check, resume
from tfxfer.train.background import Background
from tfxfer.train.checkpoints import Checkpoints
from tfxfer.train.options import RunOptions
from tfxfer.train.run_directory import RunDirectory
from tfxfer.train.snapshots import Snapshot

log = logging.getLogger("tfxfer")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """How a training ended.

    Attributes:
      steps, epochs: how many were made in all, those of earlier starts included.
      last: the prefix of the last checkpoint.
      best: the prefix of the best checkpoint by validation; see `CheckpointOptions.monitor`.
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
    exact_resume: bool

    def _repr_html_(self) -> str:
        early = "; stopped early" if self.stopped_early else ""
        title = f"{self.epochs:,} epochs, {self.steps:,} steps{early}; the best by validation is {self.best}"
        proof = [f"{self.frozen:,} frozen variables are bit-identical to the start"] if self.frozen else []
        return notebook.described(title, self._table(), notes=proof)

    def _table(self) -> Markup:
        """Return a table of what was measured, a row for each step at which something was."""
        metrics = [key for key in self.history[-1] if key not in ("step", "epoch", "split", "learning_rate")]
        means = [(split, metric) for split in ("train", "validation") for metric in metrics]
        rows: dict[int, dict[str, Mapping[str, Any]]] = {}
        for row in self.history:
            rows.setdefault(row["step"], {})[row["split"]] = row
        best = int(self.best.rpartition("-")[2])

        def cells(step: int) -> list[str]:
            of_step = rows[step]
            values = [f"{of_step[split][metric]:.4f}" if split in of_step else "" for split, metric in means]
            epoch = max(row["epoch"] for row in of_step.values())
            return [f"{epoch:,}", f"{step:,}", *values, "best" if step == best else ""]

        columns = ("epoch", "step", *map(" ".join, means), "")
        return notebook.table(columns, list(rows), cells, numbers=columns[:-1])


class Training:
    """One start of a run, from what the run directory holds to the last step or a signal.

    Attributes:
      state: what a checkpoint carries beside the variables.
      frozen: the digests of what was frozen at the start of the run, and what was compared.
    """

    def __init__(
        self,
        sess: tf.Session,
        step: Step,
        data: Data,
        directory: RunDirectory,
        options: RunOptions,
        shown: Sequence[int],
    ) -> None:
        """Prepare a start; nothing is run yet.

        Args:
          sess, step, data: as `tfxfer.fit` takes them.
          directory: the run directory, held by this process.
          options: the numbers of the run.
          shown: places in the validation split of the images that are shown.
        """
        self.sess, self.step, self.data, self.directory, self.options = sess, step, data, directory, options
        self.shown, self.checkpoints = shown, Checkpoints(sess, step)
        self.state = RunState(sums=self.no_sums())
        self._snapshot: tuple[int, Snapshot | None] | None = None  # with its step
        self._written: Future[None] | None = None  # when the last checkpoint is
        self.frozen = FrozenRecord(method=frozen_check.METHOD, variables={})

    def start(self) -> None:
        """Begin the run, or restore its last checkpoint and go on."""
        if described := stored_rows.describe(self.step, self.data.test):
            self.directory.write(files.FEATURES, described)
        latest = self.directory.latest()
        if latest is None:
            self._begin()
        else:
            self._go_on(*latest)

    def conclude(self) -> Fitted:
        """Write what is written once a run has ended, and return how it did."""
        if "precision" in self.directory.settings().training:
            self.directory.write(files.PRECISION, measure_change(self.sess, self.step, self.data.validation))
        run_writer.conclude(self.sess, self.step, self.data, self.directory, self.state.to_json())
        step, best = self.state.step, self.state.best[0]["step"]
        return Fitted(
            steps=step,
            epochs=self.options.epoch(step),
            last=self.directory.prefix(step),
            best=self.directory.prefix(best, best=True),
            history=tuple(self.state.history),
            stopped_early=self.state.stopped,
            frozen=len(wholes(self._frozen_variables())),
            exact_resume=not self.directory.settings().training.get("stateful_ops"),
        )

    @property
    def finished(self) -> bool:
        """Whether no step is left to be made."""
        return self.state.step >= self.options.total or self.state.stopped

    def no_sums(self) -> dict[str, float]:
        """Return the sums of an epoch of which no step is made."""
        return {**dict.fromkeys(self.step.metrics, 0.0), "examples": 0}

    # --- how a start begins ---

    def _begin(self) -> None:
        fit_normalization(self.sess, self.step, self.data)
        self.frozen.variables = frozen_check.digests(self.sess, frozen_check.frozen_variables(self.step, epoch=0))
        for stage in self.step.stages[1:]:
            left = set(wholes(frozen_check.frozen_variables(self.step, stage.epoch)))
            self.frozen.stages.append((stage.epoch, [name for name in self.frozen.variables if name not in left]))
        # The run is looked at from other directories, too.
        plans = getattr(self.sess, "plans", ())
        rows = [{**plan.to_json(), "weights": os.path.abspath(plan.weights.path)} for plan in plans]
        self.directory.write(files.PLAN, rows)
        self.directory.write(files.FROZEN, self.frozen.to_json())
        options = self.options
        size = f"{options.total} steps of {options.batch_size} examples, {options.steps_per_epoch} an epoch"
        log.info("begin in %s: %s; %s", self.directory.path, size, self.directory.room)

    def _go_on(self, prefix: str, state: RunState) -> None:
        frozen = self.directory.frozen()
        self._require_sums(prefix, state)
        local = resume.compare(prefix, self.step, self.directory.path).local
        if self.data.train.features is not None:
            # Features were computed from what the session held so far; the checkpoint's frozen variables must be those.
            # Statistics of features are computed from these, and come from the checkpoint.
            computed = statistics_of(self.step.images.graph)
            frozen_now = frozen_check.frozen_variables(self.step, epoch=0)
            start = [variable for variable in frozen_now if variable.op.name not in computed]
            frozen_check.check(self.sess, start, frozen.variables, "since the run began, before features were computed")
        try:
            resume.restore(self.sess, self.step, prefix, local=local)
        except (tf.errors.OpError, ValueError) as error:
            raise resume.cannot_go_on(prefix, self.directory.path, message(error)) from None
        self.state, self.frozen = state, frozen
        patience = self.options.patience  # which may be another now, as the metric by which the best is found
        validations = sorted((row for row in state.history if row["split"] == "validation"), key=self.options.rank)
        state.waited = sum(row["step"] > validations[0]["step"] for row in validations)
        state.stopped = patience is not None and state.waited >= patience
        if not self.finished:  # Of a run that has ended, the best stays what its files say.
            self._rank_best(validations)
        where = "finished" if self.finished else f"go on from step {state.step} of {self.options.total}"
        log.warning("%s: restored %s, which goes before any other weights; %s", self.directory.path, prefix, where)
        log.info("%s: %s", self.directory.path, self.directory.room)
        self.check_frozen("where the run goes on")
        self.checkpoints.go_on_from(prefix)
        self._require_best()

    def _rank_best(self, validations: Sequence[Mapping[str, Any]]) -> None:
        """Order the best checkpoints by the metric of now; where it is another, theirs may not be kept."""
        self.state.best.sort(key=self.options.rank)
        kept = {row["step"] for row in self.state.best}
        if validations and validations[0]["step"] not in kept:
            log.warning(
                "by %s, step %d was the best so far, and its checkpoint is not kept; the best is of those that are",
                self.options.monitor,
                validations[0]["step"],
            )

    def _require_sums(self, prefix: str, state: RunState) -> None:
        if set(state.sums) != set(self.no_sums()):
            why = f"its state has sums of {names.listed(state.sums)}, not of {names.listed(self.no_sums())}"
            raise resume.cannot_go_on(prefix, self.directory.path, why)

    def _require_best(self) -> None:
        """Find the best checkpoints again that the state names; those that are lost count no more."""
        lost = [row["step"] for row in self.state.best if not self.directory.recover_best(row["step"])]
        if not lost:
            return
        self.state.best = [row for row in self.state.best if row["step"] not in lost]
        lost_names = names.listed(f"best/model.ckpt-{step}" for step in lost)
        if self.finished and not self.state.best:
            raise RunError(
                f"{self.directory.path} has lost {lost_names}, and the run has ended, so that it has no best "
                "checkpoint; put it back, raise `epochs`, or begin anew by `overwrite=True`"
            )
        log.warning("%s is lost; the best checkpoint is that of the other validations", lost_names)

    # --- what a start leaves ---

    def save(self, background: Background) -> None:
        """Save a checkpoint from which the run can go on, then let go of those that are no longer wanted."""
        state = self.state
        others = [number for number in state.saved if number != state.step]
        state.saved = [*others, state.step][-self.options.keep :]
        self._write(background, self._save, state.copy())
        self._snapshot = None  # It is free as soon as it is written.

    def _save(self, snapshot: Snapshot | None, state: RunState) -> None:
        self.directory.save(self.checkpoints, state.step, snapshot, state=state, sidecars=self._input_spec)
        self.directory.keep(state.saved, [row["step"] for row in state.best])

    def save_best(self, background: Background) -> None:
        """Save a checkpoint in `best/`."""
        self._write(background, self._save_best, self.state.step)

    def _save_best(self, snapshot: Snapshot | None, step: int) -> None:
        self.directory.save(self.checkpoints, step, snapshot, best=True, sidecars=self._input_spec)

    def _write(self, background: Background, write: Callable[..., None], *args: Any) -> None:
        """Write beside the training from a snapshot; where none can be taken, wait until it is written."""
        if self._snapshot is None or self._snapshot[0] != self.state.step:
            self._snapshot = None
            if self._written is not None:
                self._written.result()  # One snapshot is in memory at a time.
            self._snapshot = self.state.step, self.checkpoints.snapshot()
        snapshot = self._snapshot[1]
        self._written = background.do(write, snapshot, *args)
        if snapshot is None:
            self._written.result()

    @functools.cached_property
    def _input_spec(self) -> dict[str, Any]:
        """What the model expects of its input, where the graph says so, and what its classes are called."""
        known = input_specs(self.sess.graph)
        if not known:
            return {}
        class_names = tuple(self.data.class_names) if self.step.labels is not None else ()
        return {"input_spec": dataclasses.replace(known[0], class_names=class_names).to_json()}

    def check_frozen(self, when: str) -> None:
        """Compare what no stage so far has written with the start of the run, and note that it was done.

        Raises:
          FrozenError: a variable has changed.
        """
        unchanged = frozen_check.check(self.sess, self._frozen_variables(), self.frozen.variables, when)
        self.frozen.checks.append({"step": self.state.step, "when": when, "unchanged": unchanged})
        self.directory.write(files.FROZEN, self.frozen.to_json())
        log.info("%d frozen variables are bit-identical to the start, %s", unchanged, when)

    def _frozen_variables(self) -> list[tf.Variable]:
        """The variables that no stage so far has written."""
        return frozen_check.frozen_variables(self.step, self.options.epoch(max(self.state.step - 1, 0)))
