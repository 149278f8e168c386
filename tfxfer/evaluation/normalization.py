"""The statistics of features, computed once from the training examples."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.callables import compiled
from tfxfer.data.batches import chunks
from tfxfer.data.finite import not_finite, refuse_not_finite
from tfxfer.data.normalization import FeatureStatistics
from tfxfer.data.pictures import example_name
from tfxfer.data.splits import Data, Split, as_split
from tfxfer.errors import RunError
from tfxfer.evaluation.feed import Feed
from tfxfer.graph.eval_step import EvalStep
from tfxfer.graph.normalization import Normalization, normalizations, statistics_of

log = logging.getLogger("tfxfer")

BATCH_SIZE = 256


def fit_normalization(sess: tf.Session, step: EvalStep, examples: Data | Split | tuple[Any, Any]) -> list[str]:
    """Compute the statistics of `heads.normalize` layers that are not set yet, from the features of examples.

    `tfxfer.fit` does this where a run begins. The features come from rows that are stored of the examples, or from the
    network, a batch at a time; nothing is added to the graph.

    Args:
      sess: a session in which all that the features depend on is restored.
      step: what `train_step` or `eval_step` returned.
      examples: the training examples; of a whole data set, `data.train`.

    Returns:
      The names of the variables that were set; empty where all were.

    Raises:
      DataError: a feature of some examples is not a finite number; the first ones are named.

    Example:
      >>> features, labels = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.int64, [None])
      >>> logits = tx.models.heads.classifier(tx.models.heads.normalize(features), classes=2)
      >>> step = tx.eval_step(features, labels, logits)
      >>> with tx.session() as sess:
      ...     tx.fit_normalization(sess, step, (np.float32([[0, 1], [2, 9]]), np.array([0, 1])))
      ['normalize/mean', 'normalize/scale']
    """
    split = examples.train if isinstance(examples, Data) else as_split(examples, "examples")
    variables, done = statistics_of(step.images.graph), list[str]()
    for layer in normalizations(step.images.graph):
        if layer.mean not in unset(sess):
            continue
        values = _statistics(sess, step, split, layer).mean_and_scale()
        for name, value in zip((layer.mean, layer.scale), values, strict=True):
            initializer = variables[name].initializer
            sess.run(initializer, {initializer.inputs[1]: value})
            done.append(name)
    if done:
        log.info("computed from the features of %s examples: %s", f"{len(split):,}", names.listed(done))
    return done


def unset(sess: tf.Session) -> list[str]:
    """Return the names of the statistics that nobody has computed or restored."""
    variables = statistics_of(sess.graph)
    values = sess.run(variables) if variables else {}
    return [name for name, value in values.items() if np.isnan(value).any()]


def check_set(sess: tf.Session) -> None:
    """Refuse to run a network whose statistics are not set.

    Raises:
      RunError: all of them are named.
    """
    missing = unset(sess)
    if missing:
        raise RunError(
            f"{names.listed(missing)}: not set, so that all outputs would be NaN; restore them with the head, or call "
            "tfxfer.fit_normalization(sess, step, data) first, as tfxfer.fit does"
        )


def _statistics(sess: tf.Session, step: EvalStep, split: Split, layer: Normalization) -> FeatureStatistics:
    feed, statistics = Feed(step, split), FeatureStatistics()
    call = compiled(sess, [step.images.graph.get_tensor_by_name(layer.features)], feed.tensors)
    batches, wrong = list(chunks(len(split), BATCH_SIZE)), list[int]()
    with feed.batches(batches) as loaded:
        for indices, arrays in zip(batches, loaded, strict=True):
            [features] = call(*arrays)
            wrong += indices[not_finite(features)].tolist()
            if not wrong:
                statistics.add(features)
    refuse_not_finite(wrong, len(split), lambda place: example_name(split.images, place))
    return statistics
