"""The part that is trained: fully connected layers on somebody else's features."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.graph import layers
from tfxfer.graph.normalization import join, normalize

__all__ = ["classifier", "join", "normalize"]


def classifier(
    features: tf.Tensor, *, hidden: Sequence[int] = (), classes: int, dropout: float = 0.0, loss: str = "softmax"
) -> tf.Tensor:
    """Put fully connected layers `fc1`, `fc2`, ... (ReLU) and `logits` on features.

    Args:
      features: float32 [n, ...]; what has more than two dimensions is flattened.
      hidden: the units of each hidden layer; none gives a linear classifier.
      classes: how many there are, at least 2.
      dropout: the share of each hidden layer's output that is dropped in training, in [0, 1).
      loss: "softmax", or "sigmoid" for two classes told apart by one logit.

    Returns:
      Logits [n, classes], or [n, 1] under "sigmoid": of class 1.

    Raises:
      GraphError: an unknown loss, fewer than 2 classes, or "sigmoid" with another number of them than 2.
    """
    if loss not in ("softmax", "sigmoid"):
        raise GraphError(f"loss is 'softmax' or 'sigmoid', not {loss!r}")
    if classes < 2:
        raise GraphError(f"`classes={classes}`: there must be 2 or more to tell apart")
    if loss == "sigmoid" and classes != 2:
        raise GraphError(f"`loss='sigmoid'` tells two classes apart, and there are {classes}; use `loss='softmax'`")
    with tf.name_scope("HEAD"):
        x = features if features.shape.rank == 2 else layers.flatten(features)
        for number, units in enumerate(hidden, 1):
            x = layers.dense(x, units, f"fc{number}")
            if dropout:
                x = layers.dropout(x, dropout, f"dropout{number}")
        return layers.dense(x, 1 if loss == "sigmoid" else classes, "logits", activation=None)
