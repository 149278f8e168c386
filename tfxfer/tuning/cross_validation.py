"""Heads trained and measured on the folds of stored features."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.callables import compiled
from tfxfer.data.batches import batches, chunks, steps_per_epoch
from tfxfer.data.normalization import normalized
from tfxfer.data.splits import Fold, Images
from tfxfer.errors import DataError
from tfxfer.graph.variables import global_step
from tfxfer.tuning import rows, side_by_side
from tfxfer.tuning.trials import Trial

SCHEDULES = ("constant", "cosine")
MEMORY = 1 << 30  # bytes of the variables of the heads that are trained at once
STATES = 4  # of each variable: itself, its gradient, and what Adam keeps
MEASURED = 256  # examples at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadTraining:
    """How each head is trained, as `train_step` and `fit` take it.

    Attributes:
      epochs: times through the examples of a fold.
      batch_size: examples a step.
      seed: of initial values, dropout, the order of examples, and the folds.
      optimizer: the name of one out of `tfxfer.graph.optimizers.OPTIMIZERS`, but for Ftrl.
      schedule: "constant", or "cosine": the learning rate falls to 0 along a cosine, by the end of the training.
      loss: "softmax", or "sigmoid" of one logit for two classes.
      class_weights: a number a class; see `tfxfer.train_step`.

    Example:
      >>> tx.HeadTraining(epochs=10, schedule="constant").batch_size
      32
    """

    epochs: int = 40
    batch_size: int = 32
    seed: int = 0
    optimizer: str = "adam"
    schedule: str = "cosine"
    loss: str = "softmax"
    class_weights: tuple[float, ...] | None = None

    def check(self, classes: int) -> None:
        """Refuse what cannot be trained.

        Raises:
          DataError: an unknown schedule or loss, Ftrl, numbers below 1, or a loss that does not go with the classes.
        """
        problems = [
            *(f"`{name}={getattr(self, name)}`: give 1 or more" for name in _COUNTS if getattr(self, name) < 1),
            *_unknown("schedule", self.schedule, SCHEDULES),
            *_unknown("loss", self.loss, ("softmax", "sigmoid")),
        ]
        if self.optimizer == "ftrl":
            problems.append("`optimizer=ftrl`: its steps do not grow with its learning rate, so that heads of several "
                            "rates cannot share it; take another, as adam")  # fmt: skip
        if self.loss == "sigmoid" and classes != 2:
            problems.append(f"`loss=sigmoid` tells two classes apart, and there are {classes}; take softmax")
        if problems:
            raise DataError("; ".join(problems))


_COUNTS = ("epochs", "batch_size")


def _unknown(name: str, value: str, known: Sequence[str]) -> list[str]:
    return [] if value in known else [f"`{name}={value}`: there are {names.listed(known)}"]


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """How heads did on the held-out examples of a fold: means over them, float64 [heads]."""

    loss: np.ndarray
    accuracy: np.ndarray


class CrossValidation:
    """A graph and a session with some heads, which are trained and measured on one fold after another."""

    def __init__(
        self,
        trials: Sequence[Trial],
        features: Mapping[str, Images],
        labels: np.ndarray,
        *,
        classes: int,
        training: HeadTraining,
        steps: int,
    ) -> None:
        """Build the graph.

        Args:
          trials: the heads.
          features: by endpoint, float [n, ...]; what lies on disk is read a batch at a time.
          labels: int64 [n].
          classes: how many there are.
          training: how the heads are trained.
          steps: the length of a training, for the schedule.
        """
        self.trials, self._features, self._labels, self._training = trials, features, labels, training
        with tf.Graph().as_default() as graph:
            tf.set_random_seed(training.seed)
            global_step()
            self._heads = heads = side_by_side.build(
                trials,
                {name: rows.width(features[name]) for name in dict.fromkeys(t.endpoint for t in trials)},
                classes=classes,
                loss=training.loss,
                optimizer=training.optimizer,
                schedule=_schedule(training.schedule, steps),
                class_weights=training.class_weights,
            )
            self._initialize = tf.global_variables_initializer()
        graph.finalize()
        self.session = tf.Session(graph=graph)
        feeds = [*heads.inputs.values(), heads.labels]
        self._step = compiled(self.session, [], feeds, [heads.apply])
        self._measure = compiled(self.session, [heads.metrics["loss"], heads.metrics["accuracy"]], feeds)

    def run(self, fold: Fold, advance: Callable[[], None] = lambda: None) -> Scores:
        """Train all heads on a fold from their initial values, and measure them on what it holds out.

        Args:
          fold: the examples to train on and those held out.
          advance: called after each step.
        """
        train, held = fold
        by = self._statistics(train)
        self.session.run(self._initialize)
        training = self._training
        total = training.epochs * steps_per_epoch(len(train), training.batch_size)
        for places in itertools.islice(batches(training.seed, len(train), training.batch_size), total):
            self._step(*self._fed(train[places], by))
            advance()
        sums = np.zeros([2, len(self.trials)])
        for places in chunks(len(held), MEASURED):
            metrics = self._measure(*self._fed(held[places], by))
            sums += np.stack(metrics).sum(axis=2, dtype=np.float64)
        return Scores(*(sums / len(held)))

    def _statistics(self, train: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        kinds = self._heads.kinds.items()
        return {name: rows.statistics(self._features[name], train) for name, k in kinds if "standard" in k}

    def _fed(self, indices: np.ndarray, by: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        for name, kinds in self._heads.kinds.items():
            features = np.asarray(self._features[name][indices], np.float32)
            yield np.stack([rows.flat(normalized(features, kind, *by.get(name, ()))) for kind in kinds])
        yield self._labels[indices]


def _schedule(name: str, steps: int) -> Any:
    return (lambda step: tf.train.cosine_decay(1.0, step, steps)) if name == "cosine" else None


def portions(trials: Sequence[Trial], widths: Mapping[str, int]) -> Iterator[slice]:
    """Yield which trials, in their order, are trained at once: as many as take up to 1 GiB, and one at least."""
    start, taken = 0, 0
    for place, trial in enumerate(trials):
        needed = 4 * STATES * widths[trial.endpoint] * max(trial.hidden, 16)
        if place > start and taken + needed > MEMORY:
            yield slice(start, place)
            start, taken = place, 0
        taken += needed
    yield slice(start, len(trials))
