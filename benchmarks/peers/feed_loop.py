"""The loop that everybody writes: one `sess.run` a batch with a feed_dict, and the validation split once an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks import work

VALIDATED = 256  # at once


def train(
    sess: tf.Session,
    apply: tf.Operation,
    right: tf.Tensor,
    placeholders: tuple[tf.Tensor, tf.Tensor],
    arrays: Mapping[str, tuple[np.ndarray, np.ndarray]],
    epochs: int,
    batch: int,
) -> None:
    """Train for some epochs, in the order in which tfxfer goes through the examples.

    Args:
      sess: with everything initialised.
      apply: makes a step.
      right: bool [n], which examples are classified rightly.
      placeholders: of the examples and of their labels.
      arrays: examples and labels of `train` and `validation`.
      epochs, batch: as the names say.
    """
    examples, labels = arrays["train"]
    for epoch in range(epochs):
        shuffled = work.order(0, epoch, len(labels))
        for start in range(0, len(labels), batch):
            chosen = shuffled[start : start + batch]
            sess.run(apply, dict(zip(placeholders, (examples[chosen], labels[chosen]), strict=True)))
        accuracy(sess, right, placeholders, arrays["validation"])


def accuracy(
    sess: tf.Session, right: tf.Tensor, placeholders: tuple[tf.Tensor, tf.Tensor], split: tuple[np.ndarray, np.ndarray]
) -> float:
    """Return the share of a split that is classified rightly."""
    parts = (tuple(column[i : i + VALIDATED] for column in split) for i in range(0, len(split[1]), VALIDATED))
    return float(np.concatenate([sess.run(right, dict(zip(placeholders, part, strict=True))) for part in parts]).mean())
