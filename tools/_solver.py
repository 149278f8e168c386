"""The flags that say how a network is trained, and what they make of `tfxfer.train_step`, `fit` and `session`."""

from __future__ import annotations

import functools
from typing import Any

from absl import flags

from tfxfer.tools import _flags

OPTIMIZERS = ("adam", "momentum", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "exponential")


def define(values: flags.FlagValues) -> None:
    """Define the flags that say how it is trained."""
    with _flags.group(values, "training"):
        flags.DEFINE_enum(
            "optimizer", "adam", OPTIMIZERS, "How variables follow gradients (momentum: 0.9).", flag_values=values
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
        flags.DEFINE_integer("decay_steps", 1000, "Steps of --schedule.", 1, flag_values=values)
        flags.DEFINE_float("decay_rate", 0.9, "Factor of --schedule=exponential.", 0.0, 1.0, flag_values=values)
        flags.DEFINE_float(
            "clip_norm",
            None,
            "Scale gradients down to at most this global norm; not unless told.",
            0.0,
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
            "save_steps", None, "Steps between checkpoints; one epoch unless told.", 1, flag_values=values
        )
        flags.DEFINE_integer(
            "validation_steps", None, "Steps between validations; one epoch unless told.", 1, flag_values=values
        )
        flags.DEFINE_integer("summary_steps", 100, "Steps between summaries of a batch.", 1, flag_values=values)
        flags.DEFINE_integer("keep", 5, "How many of the last checkpoints to keep.", 1, flag_values=values)
        flags.DEFINE_integer("keep_best", 1, "How many of the best checkpoints to keep.", 1, flag_values=values)
        flags.DEFINE_integer(
            "patience",
            None,
            "Stop after so many validations that were not better than the best; never unless told.",
            1,
            flag_values=values,
        )
        flags.DEFINE_bool(
            "overwrite", False, "Move a run that is in --logdir aside and begin anew.", flag_values=values
        )


def solver(settings: Any) -> dict[str, Any]:
    """Return the keyword arguments of `tfxfer.train_step` that the flags set."""
    import tensorflow.compat.v1 as tf

    optimizers = {
        "adam": tf.train.AdamOptimizer,
        "momentum": functools.partial(tf.train.MomentumOptimizer, momentum=0.9),
        "rmsprop": tf.train.RMSPropOptimizer,
        "sgd": tf.train.GradientDescentOptimizer,
    }
    rate = settings.learning_rate
    schedules = {
        "constant": rate,
        "cosine": lambda step: tf.train.cosine_decay(rate, step, settings.decay_steps),
        "exponential": lambda step: tf.train.exponential_decay(
            rate, step, settings.decay_steps, settings.decay_rate, staircase=True
        ),
    }
    return {
        "optimizer": optimizers[settings.optimizer],
        "learning_rate": schedules[settings.schedule],
        "clip_norm": settings.clip_norm,
    }


FITTED = (
    "epochs",
    "batch_size",
    "seed",
    "logdir",
    "save_steps",
    "validation_steps",
    "summary_steps",
    "keep",
    "keep_best",
    "patience",
    "overwrite",
)


def fitting(settings: Any) -> dict[str, Any]:
    """Return the keyword arguments of `tfxfer.fit` that the flags set; the other flags are stored as its settings."""
    stored = {name: settings[name].value for name in settings if name not in (*FITTED, *IDLE, *SESSION)}
    return {**{name: settings[name].value for name in FITTED}, "settings": stored}


# What changes neither bits nor meaning of a run.
IDLE = ("dry_run", "store")
SESSION = ("intra_op_threads", "inter_op_threads", "per_process_gpu_memory_fraction", "allow_growth")


def session_options(settings: Any) -> dict[str, Any]:
    """Return the keyword arguments of `tfxfer.session` that the flags set."""
    options = {name: settings[name].value for name in SESSION}
    return {**options, "per_process_gpu_memory_fraction": options["per_process_gpu_memory_fraction"] or None}
