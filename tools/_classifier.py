"""What train and evaluate share: the flags that say which examples and which model, and the graph built from them."""

from __future__ import annotations

import functools
from typing import Any

from absl import flags

from tfxfer import data
from tfxfer.errors import DataError
from tfxfer.tools import _flags

MODELS = ("autoencoder",)
DATASETS = ("digits", "mnist")
OPTIMIZERS = ("adam", "momentum", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine", "exponential")


def define_data(values: flags.FlagValues) -> None:
    """Define the flags that say which examples there are."""
    with _flags.group(values, "examples"):
        flags.DEFINE_enum(
            "dataset",
            "digits",
            DATASETS,
            "digits: 1,797 handwritten digits that come with scikit-learn; mnist: the four idx files in --data_dir.",
            flag_values=values,
        )
        flags.DEFINE_string("data_dir", None, "Directory of the data set's files.", flag_values=values)
        flags.DEFINE_integer(
            "train_examples",
            None,
            "Train on so many examples, each class at its share; all unless told.",
            1,
            flag_values=values,
        )
        flags.DEFINE_integer(
            "seed",
            0,
            "Seed of splits, initial values, dropout and the order of examples.",
            0,
            2**32 - 1,
            flag_values=values,
        )


def load(settings: Any) -> data.Data:
    """Return the examples that the flags, or a run's stored settings, name.

    Raises:
      DataError: there are none there, or they cannot be used.
    """
    if settings.dataset == "mnist":
        if not settings.data_dir:
            raise DataError("--dataset=mnist needs --data_dir, the directory of its four idx files")
        examples = data.mnist(settings.data_dir, seed=settings.seed)
    else:
        examples = data.digits(seed=settings.seed)
    return examples.few(settings.train_examples, settings.seed) if settings.train_examples else examples


def define_model(values: flags.FlagValues) -> None:
    """Define the flags that say what the network is."""
    with _flags.group(values, "model"):
        flags.DEFINE_enum("model", "autoencoder", MODELS, "Whose convolutions the head is put on.", flag_values=values)
        _flags.DEFINE_ints("hidden", [200], "Units of each hidden layer of the head, fc1, fc2, ...", values)
        flags.DEFINE_float(
            "dropout",
            0.0,
            "Share of each hidden layer's output dropped in training, from 0 to below 1.",
            0.0,
            0.999,
            flag_values=values,
        )
        flags.DEFINE_enum(
            "loss",
            "softmax",
            ("softmax", "sigmoid"),
            "Cross-entropy over all classes, or of one logit for two.",
            flag_values=values,
        )


def define_solver(values: flags.FlagValues) -> None:
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
    stored = {name: settings[name].value for name in settings if name not in (*FITTED, "dry_run", *SESSION)}
    return {**{name: settings[name].value for name in FITTED}, "settings": stored}


SESSION = ("intra_op_threads", "inter_op_threads", "per_process_gpu_memory_fraction", "allow_growth")


def session_options(settings: Any) -> dict[str, Any]:
    """Return the keyword arguments of `tfxfer.session` that the flags set."""
    options = {name: settings[name].value for name in SESSION}
    return {**options, "per_process_gpu_memory_fraction": options["per_process_gpu_memory_fraction"] or None}


def classifier(settings: Any, examples: data.Data) -> tuple[Any, Any, Any]:
    """Build the network in the default graph.

    Returns:
      The placeholders of images and labels, and the logits.
    """
    import tensorflow.compat.v1 as tf

    from tfxfer.models import autoencoder, heads

    tf.set_random_seed(settings.seed)
    images = tf.placeholder(tf.uint8, [None, *examples.train.images.shape[1:]], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    features = autoencoder.encoder(images)["flatten"]
    logits = heads.classifier(
        features,
        hidden=settings.hidden,
        classes=len(examples.class_names),
        dropout=settings.dropout,
        loss=settings.loss,
    )
    return images, labels, logits
