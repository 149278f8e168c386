"""By how much another precision of the frozen part changes what a model says."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.data.splits import Split
from tfxfer.evaluation.evaluate import Pass
from tfxfer.graph.eval_step import EvalStep

EXAMPLES = 32


def measure_change(sess: tf.Session, step: EvalStep, split: Split) -> dict[str, Any]:
    """Compare what a model says of features as they were computed, and of the images that they were computed from.

    Args:
      sess: a session in which everything is restored; from images, it computes in float32.
      step: what `train_step` or `eval_step` returned.
      split: examples with features, of which some at equal distances are taken.

    Returns:
      `examples`, how many were compared; `probabilities`, the largest difference of one; `first_class`, the share of
      the examples that have another most probable class. Empty for a step without probabilities.
    """
    if step.probabilities is None:
        return {}
    places = np.unique(np.linspace(0, len(split) - 1, EXAMPLES).astype(np.int64))
    labels = None if split.labels is None else split.labels[places]
    columns = {name: column[places] for name, column in (split.features or {}).items()}
    sides = [
        dataclasses.replace(split, images=split.images[places], labels=labels, features=features)
        for features in (columns, None)
    ]
    low, exact = (Pass(sess, step, side, fetches=[step.probabilities]).run()[1][0] for side in sides)
    others = low.argmax(axis=1) != exact.argmax(axis=1)
    return {
        "examples": len(places),
        "probabilities": float(np.abs(low - exact).max()),
        "first_class": float(others.mean()),
    }
