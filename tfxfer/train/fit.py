"""Training that can be stopped at any moment and goes on, bit for bit, where it stood."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.data.batches import steps_per_epoch
from tfxfer.data.splits import Data
from tfxfer.errors import DataError, GraphError, RestoreError, RunError
from tfxfer.evaluation import evaluate
from tfxfer.graph.normalization import statistics_of
from tfxfer.graph.partitioned import name_of
from tfxfer.graph.train_step import Step
from tfxfer.graph.traversal import variables_read
from tfxfer.restore.plan import EXCLUDED
from tfxfer.runs.settings import RunSettings
from tfxfer.train import resume
from tfxfer.train.checkpoints import room
from tfxfer.train.options import CheckpointOptions, RunOptions, SummaryOptions
from tfxfer.train.run_directory import opened
from tfxfer.train.settings import of_run
from tfxfer.train.steps import Steps
from tfxfer.train.training import Fitted, Training
from tfxfer.train.training_loop import TrainingLoop

log = logging.getLogger("tfxfer")


def fit(
    sess: tf.Session,
    step: Step,
    data: Data,
    *,
    epochs: int,
    logdir: str | os.PathLike[str],
    batch_size: int = 32,
    seed: int = 0,
    validation_steps: int | None = None,
    patience: int | None = None,
    overwrite: bool = False,
    checkpoints: CheckpointOptions = CheckpointOptions(),
    summaries: SummaryOptions = SummaryOptions(),
    settings: Mapping[str, Any] | None = None,
    may_change: Sequence[str] = (),
) -> Fitted:
    """Train, validate, write summaries and checkpoints; go on where an earlier start of the same call stopped.

    The order of the examples, what dropout drops and every state that matters are functions of the seed and the number
    of steps made, or lie in the checkpoint: a run that was stopped or killed, and started again, ends with the same
    bits as one that was not. Where ops of the step keep a state of their own (`tf.nn.dropout` does), that cannot be:
    they are named at the start, and `Fitted.exact_resume` is False. SIGINT, SIGTERM and SIGHUP (unless it is ignored,
    as under nohup) save first.

    A run goes on only with the same step (graph, optimizer, learning rate, loss, what is trained in which stages), the
    same examples and the same restored weights. The numbers that change no bit of a step may change: `save_steps`,
    `validation_steps`, `summary_steps`, `keep`, `keep_best`, `monitor`, `patience`. The best
    checkpoint of a run that has ended stays the best.

    Args:
      sess: a session on the step's graph; what the run directory holds goes before what it restored.
      step: what `train_step` returned.
      data: trained on `data.train`, validated on `data.validation`; a `tfxfer.data.Data`.
      epochs: how many times to go through the training examples in all; may grow when a run goes on.
      logdir: the run directory; see `tfxfer.runs`.
      batch_size: examples a step; the last batch of an epoch may be short.
      seed: of the order of examples, 0 to 2**32 - 1.
      validation_steps: steps between validations (default: an epoch).
      patience: stop after this many validations in a row that were not better than the best.
      overwrite: move a run that is in `logdir` aside and begin anew; nothing else is moved.
      checkpoints: how often to save, what to keep, and which is the best.
      summaries: how often to show a batch in TensorBoard, and which images.
      settings: what else made this run (flags, say): stored, and compared when it goes on.
      may_change: names among `settings` that are noted where they change, and not refused: paths, say, since what lies
        there is compared.

    Raises:
      RunError: the directory is in use, holds no run but other files, or was made with other settings or another
        graph; a file of the run is damaged; or the disk has no room for its checkpoints. The session is as it was then.
      RestoreError: a variable is neither restored nor trained, though the file that others were restored from holds it.
      DataError: the examples do not fit the model.
      GraphError: the step was made by `eval_step`, or is not a step.
      DivergedError: the loss or a trained variable is no longer finite; the last checkpoint stays.
      FrozenError: a variable that no stage trains has changed.
      KeyboardInterrupt, SystemExit: after the checkpoint was saved, on SIGINT, or on SIGTERM and SIGHUP.

    Example:
      >>> data = tx.data.digits()
      >>> images, labels = tf.placeholder(tf.uint8, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(tf.cast(images, tf.float32) / 255, classes=10)
      >>> step = tx.train_step(images, labels, logits, train=["logits/.*"])
      >>> with tx.session() as sess:
      ...     fitted = tx.fit(sess, step, data, epochs=2, logdir="runs/digits")
      >>> fitted.epochs, fitted.last
      (2, 'runs/digits/model.ckpt-80')
    """
    if not isinstance(step, Step):
        raise GraphError(
            f"fit needs a Step, and got: {type(step).__name__}; "
            "an EvalStep is made by eval_step; build it by train_step"
        )
    if not isinstance(data, Data):
        raise DataError(
            f"data is a {type(data).__name__}; fit needs examples to train on and others to validate on: "
            "tfxfer.data.Data(train=(x, y), validation=(x_val, y_val), test=(x_test, y_test), class_names=(...)), "
            "of arrays that tfxfer.data.splits.stratified(y, (8, 1, 1), seed=0) divides"
        )
    for name in ("train", "validation"):
        evaluate.check_split(step, getattr(data, name), name)
    epoch = steps_per_epoch(len(data.train), batch_size)
    options = RunOptions(
        steps_per_epoch=epoch,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        save_steps=checkpoints.save_steps or epoch,
        validation_steps=validation_steps or epoch,
        summary_steps=summaries.summary_steps,
        keep=checkpoints.keep,
        keep_best=checkpoints.keep_best,
        monitor=checkpoints.monitor,
        patience=patience,
    )
    options.check()
    summaries.check_shown(len(data.validation))
    now = RunSettings(epoch, fit=options.to_json(), training=of_run(sess, step, data), settings=settings or {})
    with opened(logdir, overwrite=overwrite) as directory:
        directory.require_room(room(step, options))
        latest = directory.latest()
        untrained = _untrained(sess, step) if latest is None else []
        network = resume.compare(latest[0], step, directory.path).rows if latest else ()
        notes = directory.settle(now, may_change=may_change, network=network)
        with _logging_to(directory.path / "train.log"):
            if untrained:
                log.warning("neither restored nor trained, so as they were initialised: %s", names.listed(untrained))
            for note in notes:
                log.info("the run goes on with another setting: %s", note)
            _warn_of_state(now.training["stateful_ops"])
            return _train(Training(sess, step, data, directory, options, summaries.shown))


def _train(training: Training) -> Fitted:
    training.start()
    if not training.finished:
        with contextlib.ExitStack() as stack:
            # A cluster's session says who makes the steps with this process.
            TrainingLoop(training, stack, getattr(training.sess, "make_steps", Steps)).run()
        training.check_frozen("by the end of the run")
    return training.conclude()


def _untrained(sess: tf.Session, step: Step) -> list[str]:
    """Return what a step reads and nobody restores or trains, in a session that restores something.

    Raises:
      RestoreError: a file that something was restored from holds some of these under their very names.
    """
    plans = getattr(sess, "plans", ())
    rows = [(plan, pairing) for plan in plans for pairing in plan.pairings]
    decided = {pairing.variable for _, pairing in rows if pairing.status == "restored" or pairing.note == EXCLUDED}
    # Another head of an imported graph is in the plan, and no part of this step.
    read = set(variables_read([step.outputs, *step.metrics.values()]))
    idle = {name_of(variable) for variable in step.frozen.variables if variable.op in read} - decided
    idle -= set(statistics_of(step.images.graph))  # which `fit` computes
    for plan in plans:
        left_out = [
            pairing.variable for pairing in plan.pairings if pairing.variable in idle and plan.could_restore(pairing)
        ]
        if left_out:
            raise RestoreError(
                f"{len(left_out)} variables are neither restored nor trained, and {plan.weights.path} holds them: "
                f"{names.listed(left_out)}; name them in `variables` too, train them (`train`), or leave them out "
                "knowingly, by plan(..., exclude=...)",
                plan,
            )
    return list(dict.fromkeys(pairing.variable for _, pairing in rows if pairing.variable in idle))


def _warn_of_state(stateful_ops: Mapping[str, str]) -> None:
    if stateful_ops:
        listed = names.listed(f"{name} ({kind})" for name, kind in stateful_ops.items())
        log.warning(
            "a step runs ops whose state is in no variable and so in no checkpoint: %s. A run that is stopped and goes "
            "on will not end with the same bits as one that is not; tfxfer.graph.layers.dropout and "
            "tf.random.stateless_* keep no state",
            listed,
        )


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    try:
        handler = _Log(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; make room, and start again") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    level = log.level
    # Where nobody listens, Python shows warnings on standard error; a file that listens is not to end that.
    handlers = [handler] if log.hasHandlers() or logging.lastResort is None else [handler, logging.lastResort]
    for each in handlers:
        log.addHandler(each)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        for each in handlers:
            log.removeHandler(each)
        log.setLevel(level)
        with contextlib.suppress(OSError):
            handler.close()


class _Log(logging.FileHandler):
    """A log that a full disk does not stop, nor fill the terminal with tracebacks: checkpoints say that it is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave out what cannot be written."""
