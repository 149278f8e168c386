"""The flags that say how a network is trained, and what they make of `tfxfer.train_step`, `fit` and `session`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from tfxfer import names
from tfxfer.data.batches import steps_per_epoch
from tfxfer.errors import DataError, RunError
from tfxfer.graph.optimizers import OPTIMIZERS
from tfxfer.models.registry import MODELS
from tfxfer.runs.files import is_run
from tfxfer.runs.settings import RunSettings, read_settings
from tfxfer.tools import _flags
from tfxfer.train.options import MONITORS

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("constant", "cosine", "exponential")
SUMMARY_STEPS = 100


def define(values: flags.FlagValues, *, labels: bool = True) -> None:
    """Define the flags that say how it is trained; without labels, none that is about accuracy."""
    with _flags.group(values, "training"):
        flags.DEFINE_enum(
            "optimizer",
            "adam",
            sorted(OPTIMIZERS),
            "How variables follow gradients (momentum: 0.9).",
            flag_values=values,
        )
        flags.DEFINE_float("learning_rate", 1e-3, "Size of a step.", 0.0, flag_values=values)
        flags.DEFINE_enum(
            "schedule",
            "constant",
            SCHEDULES,
            "How the learning rate falls: not at all; along a cosine to "
            "0 over --decay_steps; by --decay_rate every --decay_steps.",
            flag_values=values,
        )
        flags.DEFINE_integer(
            "decay_steps",
            None,
            "Steps of --schedule (default: of cosine all steps of the run, of exponential an epoch's).",
            1,
            flag_values=values,
        )
        flags.DEFINE_float("decay_rate", 0.9, "Factor of --schedule=exponential.", 0.0, 1.0, flag_values=values)
        flags.DEFINE_float(
            "clip_norm",
            None,
            "Scale gradients down to at most this global norm (default: no limit).",
            0.0,
            flag_values=values,
        )
        flags.DEFINE_float(
            "l2",
            None,
            "Pull the kernels that are trained towards 0: this times half the sum of their squares is added to the "
            "loss that gradients are of (default: 0).",
            0.0,
            flag_values=values,
        )
        flags.DEFINE_enum(
            "train_precision",
            "float32",
            PRECISIONS,
            "Products of trained dense layers in training; variables and all that is evaluated are float32. bfloat16 "
            "needs a processor with units for it.",
            flag_values=values,
        )
        flags.DEFINE_integer(
            "epochs", 20, "Times through the training examples; may grow when a run goes on.", 1, flag_values=values
        )
        flags.DEFINE_integer("batch_size", 32, "Examples a step.", 1, flag_values=values)
        flags.DEFINE_string(
            "logdir", None, "Run directory: checkpoints, log, events for TensorBoard.", flag_values=values
        )
        flags.DEFINE_integer(
            "save_steps", None, "Steps between checkpoints (default: an epoch).", 1, flag_values=values
        )
        flags.DEFINE_integer(
            "validation_steps", None, "Steps between validations (default: an epoch).", 1, flag_values=values
        )
        flags.DEFINE_integer(
            "summary_steps",
            None,
            f"Steps between summaries of a batch (default: {SUMMARY_STEPS}, or an epoch where that is shorter).",
            1,
            flag_values=values,
        )
        flags.DEFINE_integer("keep", 5, "How many of the last checkpoints to keep.", 1, flag_values=values)
        flags.DEFINE_integer("keep_best", 1, "How many of the best checkpoints to keep.", 1, flag_values=values)
        if labels:
            flags.DEFINE_enum(
                "monitor",
                "accuracy",
                MONITORS,
                "By what the best checkpoint is found, on the validation examples: the highest accuracy, or the lowest "
                "loss, which tells more where they are few. Default: accuracy; loss where the features of a new head "
                "are normalised, by --normalize or by default.",
                flag_values=values,
            )
        flags.DEFINE_integer(
            "patience",
            None,
            "Stop after so many validations that were not better than the best (default: never).",
            1,
            flag_values=values,
        )
        flags.DEFINE_bool(
            "overwrite", False, "Move a run that is in --logdir aside and begin anew.", flag_values=values
        )


def fit_to_length(settings: Any, examples: int) -> list[str]:
    """Set --summary_steps where nobody does, and return notes of what does not fit the length of the run.

    Args:
      settings: the flags' values.
      examples: how many are trained on.
    """
    epoch = steps_per_epoch(examples, settings.batch_size)
    if settings.summary_steps is None:
        settings["summary_steps"].value = summary_steps(epoch)
    return [*_misfits(settings, decay_steps(settings, examples), epoch * settings.epochs), *_grown(settings)]


def decay_steps(settings: Any, examples: int) -> int:
    """Return --decay_steps; by default a cosine ends with the run, and an exponential decay falls once an epoch."""
    epoch = steps_per_epoch(examples, settings.batch_size)
    return settings.decay_steps or (epoch if settings.schedule == "exponential" else epoch * settings.epochs)


def summary_steps(epoch: int) -> int:
    """Return the default of --summary_steps, of an epoch of so many steps."""
    return min(SUMMARY_STEPS, epoch)


def _misfits(settings: Any, decay: int, total: int) -> Iterator[str]:
    if settings.schedule == "cosine" and decay < total:
        yield f"--decay_steps={decay}: the learning rate is 0 from step {decay} on, and the run has {total} steps"
    if settings["decay_steps"].present and settings.schedule == "exponential" and decay >= total:
        yield f"--decay_steps={decay}: the learning rate never falls, as the run has {total} steps"
    validations = total // settings.validation_steps if settings.validation_steps else settings.epochs
    if settings.patience is not None and settings.patience >= validations:
        yield f"--patience={settings.patience}: it never stops the run, which has {validations} validations"
    if settings["summary_steps"].present and settings.summary_steps >= total:
        yield f"--summary_steps={settings.summary_steps}: one batch is shown, as the run has {total} steps"
    for epoch, pattern, factor in settings.unfreeze if "unfreeze" in settings else ():
        if epoch >= settings.epochs:
            yield f"--unfreeze={epoch}:{pattern}={factor:g}: it never begins, as the run has {settings.epochs} epochs"


def _grown(settings: Any) -> Iterator[str]:
    """Say that a cosine which ends with the run is another where the run has become longer."""
    if settings.schedule != "cosine" or settings.decay_steps or settings.overwrite or not settings.logdir:
        return
    with contextlib.suppress(RunError):
        epochs = read_settings(Path(settings.logdir)).fit.get("epochs")
        if isinstance(epochs, int) and epochs < settings.epochs:
            yield (
                f"--epochs={settings.epochs}: the cosine ended with epoch {epochs} and now ends with epoch "
                f"{settings.epochs}, so that the learning rate rises again"
            )


def solver(settings: Any, examples: int) -> dict[str, Any]:
    """Return the keyword arguments of `tfxfer.train_step` that the flags set, for so many training examples."""
    import tensorflow.compat.v1 as tf

    rate, decay = settings.learning_rate, decay_steps(settings, examples)
    schedules = {
        "constant": rate,
        "cosine": lambda step: tf.train.cosine_decay(rate, step, decay),
        "exponential": lambda step: tf.train.exponential_decay(rate, step, decay, settings.decay_rate, staircase=True),
    }
    return {
        "optimizer": settings.optimizer,
        "learning_rate": schedules[settings.schedule],
        "clip_norm": settings.clip_norm,
        "l2": settings.l2 or 0.0,
        "train_precision": settings.train_precision,
    }


class _WeightsParser(flags.ArgumentParser):
    """Reads `balanced`, or numbers between commas."""

    def parse(self, argument: Any) -> str | list[float]:
        if argument == "balanced" or not isinstance(argument, str):
            return argument
        try:
            return [float(piece) for piece in argument.split(",")]
        except ValueError:
            raise ValueError("write balanced, or a number for each class, as in 1,2.5,1") from None


def define_class_weights(values: flags.FlagValues) -> None:
    """Define the flag that says how much the examples of each class count."""
    help = (
        "How much an example of each class counts in training: a number a class, in the order of their names; or "
        "balanced, all examples of a class together as much as those of any other (default: all alike)."
    )
    with _flags.group(values, "training"):
        flag = flags.Flag(_WeightsParser(), None, "class_weights", None, help)
        flag.form = "balanced|N,N,..."  # type: ignore[attr-defined]  # what --help shows
        flags.DEFINE_flag(flag, values)


def class_weights(settings: Any, labels: np.ndarray, class_names: Sequence[str]) -> list[float] | None:
    """Return the weight of each class that --class_weights asks for, or None.

    Args:
      settings: the flags' values, as attributes.
      labels: of the training examples.
      class_names: of all classes.

    Raises:
      DataError: a class has no training example, so that the classes cannot be balanced.
    """
    if settings.class_weights != "balanced":
        return settings.class_weights
    from sklearn.utils.class_weight import compute_class_weight

    classes = np.arange(len(class_names))
    absent = [class_names[number] for number in np.setdiff1d(classes, labels)]
    if absent:
        raise DataError(f"--class_weights=balanced: no training example of {names.listed(absent)}; give numbers")
    return compute_class_weight("balanced", classes=classes, y=labels).tolist()


def define_calibrate(values: flags.FlagValues) -> None:
    """Define the flag that says whether the run's probabilities are calibrated."""
    with _flags.group(values, "training"):
        flags.DEFINE_bool(
            "calibrate",
            False,
            "Let `predict` and `export_model` divide the run's logits by the temperature that is fitted on the "
            "validation examples after training; no prediction changes. Default: it is fitted and shown alone.",
            flag_values=values,
        )


FITTED = ("epochs", "batch_size", "seed", "logdir", "validation_steps", "patience", "overwrite")
CHECKPOINTS = ("save_steps", "keep", "keep_best", "monitor")
SUMMARIES = ("summary_steps", "shown")


def fitting(settings: Any, fold: int | None = None) -> dict[str, Any]:
    """Return the keyword arguments of `tfxfer.fit` that the flags set; the other flags are stored as its settings.

    Args:
      settings: the flags' values.
      fold: which of --folds is trained, from 1 on; None without.
    """
    from tfxfer.train.options import CheckpointOptions, SummaryOptions

    taken = {*FITTED, *CHECKPOINTS, *SUMMARIES, *OF_STEP, *IDLE, *SESSION}
    stored = {name: settings[name].value for name in settings if name not in taken}
    if fold:
        stored["fold"] = fold
    if stored.get("normalize") == "none":
        stored["normalize"] = None  # as of runs from before there was a choice
    if stored.get("weights"):
        stored["weights"] = os.path.abspath(stored["weights"])
    paths = {*PATHS}
    if _is_path(stored.get("model", "")):
        stored["model"] = os.path.abspath(stored["model"])
        paths.add("model")  # its graph is compared
    # A flag that does nothing cannot be given again either: older versions stored defaults that were others.
    idle = {row.flag for row in _flags.unused(settings)}
    return {
        **_values(settings, FITTED),
        "checkpoints": CheckpointOptions(**_values(settings, CHECKPOINTS)),
        "summaries": SummaryOptions(**_values(settings, SUMMARIES)),
        "settings": stored,
        "may_change": [name for name in stored if name in paths or name in idle or name == "calibrate"],
    }


def _is_path(model: str) -> bool:
    """Say whether --model is a file, or the prefix of one, and not a name."""
    return model not in MODELS and (os.path.exists(model) or os.path.exists(f"{model}.meta"))


def _values(settings: Any, names_of_flags: Sequence[str]) -> dict[str, Any]:
    return {name: settings[name].value for name in names_of_flags if name in settings}


# What `fit` stores of the step itself: of `balanced` the numbers that it came to, of `auto` what it chose.
OF_STEP = ("l2", "class_weights", "precision", "train_precision")
# What `fit` compares by what lies there: values of weights, contents of pictures.
PATHS = ("weights", "data_dir", "listing", "validation_listing")
# What changes neither bits nor meaning of a run.
IDLE = (
    *("dry_run", "store", "workers", "picture", "top_k", "summaries", "activations", "shown"),
    *("async_training", "cluster_timeout"),
)
SESSION = ("intra_op_threads", "inter_op_threads", "per_process_gpu_memory_fraction", "allow_growth")


def session_options(settings: Any) -> dict[str, Any]:
    """Return the keyword arguments of `tfxfer.session` that the flags set."""
    options = {name: settings[name].value for name in SESSION}
    return {**options, "per_process_gpu_memory_fraction": options["per_process_gpu_memory_fraction"] or None}


def begun(settings: Any) -> RunSettings | None:
    """Return what the run that goes on was begun with; None where none does."""
    if settings.overwrite or not settings.logdir or not is_run(settings.logdir):
        return None
    with contextlib.suppress(RunError):  # It is told when the run is opened.
        return read_settings(Path(settings.logdir))
    return None
