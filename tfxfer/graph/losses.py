"""What a step measures, and what its gradients are of: losses, accuracy, class weights, L2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError


class Losses(NamedTuple):
    """What `build` built.

    Attributes:
      metrics: per example, float32 [batch]: `loss`, and with labels `accuracy`; no class weight is in them.
      probabilities: float32 [batch, classes], or None without labels.
      mean: float32 scalar, the mean of `metrics["loss"]`.
      objective: float32 scalar that is to become small: `mean`, or with class weights the mean of the weighted losses.
    """

    metrics: dict[str, tf.Tensor]
    probabilities: tf.Tensor | None
    mean: tf.Tensor
    objective: tf.Tensor


def build(
    loss: str | tf.Tensor, labels: tf.Tensor | None, outputs: tf.Tensor, class_weights: Sequence[float] | None = None
) -> Losses:
    """Build losses, accuracy and probabilities; see `train_step` for the arguments.

    Raises:
      GraphError: an unknown loss, one that does not go with `outputs` or is not [batch], labels that are neither class
        numbers nor one-hot, or class weights that do not go with the classes.
    """
    with tf.name_scope("LOSS/"):
        numbers = _class_numbers(labels, outputs)
        metrics = {"loss": _losses(loss, labels, numbers, outputs)}
        probabilities = None if labels is None else class_probabilities(outputs)
        if labels is not None:
            right = tf.equal(tf.argmax(probabilities, axis=1), numbers)
            # Of what is not a number none is the largest, whatever argmax says.
            right &= tf.reduce_all(tf.equal(probabilities, probabilities), axis=1)
            metrics["accuracy"] = tf.cast(right, tf.float32, name="accuracy")
        mean = objective = tf.reduce_mean(metrics["loss"], name="mean_loss")
        if class_weights is not None:
            _check_weights(class_weights, probabilities)
            weights = tf.constant(class_weights, tf.float32, name="class_weights")
            # Divided by the number of examples, as Keras does, and not by the sum of their weights.
            objective = tf.reduce_mean(metrics["loss"] * tf.gather(weights, numbers), name="weighted_loss")
    return Losses(metrics, probabilities, mean, objective)


def _class_numbers(labels: tf.Tensor | None, outputs: tf.Tensor) -> tf.Tensor | None:
    """Return the number of each example's class, int64 [batch]; None without labels.

    Raises:
      GraphError: labels are neither integers [batch] nor one-hot [batch, classes].
    """
    if labels is None:
        return None
    if labels.dtype.is_integer and labels.shape.rank == 1:
        return tf.cast(labels, tf.int64)
    classes = outputs.shape[-1] if outputs.shape.rank == 2 else None
    if is_one_hot(labels) and classes is not None and classes > 1 and labels.shape[1] == classes:
        return tf.argmax(labels, axis=1)
    raise GraphError(
        f"labels are {labels.dtype.name} {labels.shape}, and outputs {outputs.shape}; labels are a placeholder of "
        "class numbers, tf.placeholder(tf.int64, [None]), or of one-hot rows with a column for each class, "
        "tf.placeholder(tf.float32, [None, classes])"
    )


def is_one_hot(labels: tf.Tensor) -> bool:
    """Say whether labels are one-hot rows [batch, classes], and not class numbers [batch]."""
    return labels.shape.rank == 2 and (labels.dtype.is_floating or labels.dtype.is_integer)


def _losses(
    loss: str | tf.Tensor, labels: tf.Tensor | None, numbers: tf.Tensor | None, outputs: tf.Tensor
) -> tf.Tensor:
    if not isinstance(loss, str):
        return _own_loss(loss)
    if loss not in ("softmax", "sigmoid"):
        raise GraphError(f"loss is 'softmax', 'sigmoid' or a tensor [batch], not {loss!r}")
    if labels is None or numbers is None:
        raise GraphError(f"`loss={loss!r}` needs labels; without them, loss is a tensor [batch]")
    if outputs.shape.rank != 2 or (outputs.shape[1] == 1) != (loss == "sigmoid"):
        shape = "[batch, classes], of two classes or more" if loss == "softmax" else "[batch, 1]"
        raise GraphError(f"`loss={loss!r}` takes outputs {shape}, not {outputs.shape}")
    if loss == "sigmoid":
        wanted = tf.cast(numbers, outputs.dtype)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=outputs[:, 0], name="loss")
    if is_one_hot(labels):
        rows = tf.stop_gradient(tf.cast(labels, outputs.dtype))
        return tf.nn.softmax_cross_entropy_with_logits_v2(labels=rows, logits=outputs, name="loss")
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=numbers, logits=outputs, name="loss")


def _own_loss(loss: Any) -> tf.Tensor:
    if not isinstance(loss, tf.Tensor) or not loss.dtype.is_floating:
        raise GraphError(f"loss is 'softmax', 'sigmoid' or a float32 tensor [batch], not {loss!r}")
    if loss.shape.rank != 1:
        raise GraphError(
            f"loss is a tensor [batch], one number an example, not of shape {loss.shape}; train_step takes the mean "
            "itself: leave tf.reduce_mean out, and give what tf.nn.sparse_softmax_cross_entropy_with_logits gives, say"
        )
    return tf.identity(loss, name="loss")


def class_probabilities(logits: tf.Tensor) -> tf.Tensor:
    """Turn logits [batch, classes], or [batch, 1] of the second of two classes, into float32 [batch, classes]."""
    if logits.shape[-1] == 1:
        second = tf.sigmoid(logits)
        return tf.concat([1 - second, second], axis=1, name="probabilities")
    return tf.nn.softmax(logits, name="probabilities")


def _check_weights(weights: Sequence[float], probabilities: tf.Tensor | None) -> None:
    if probabilities is None:
        raise GraphError("`class_weights` need labels; without them, put weights into the loss, a tensor [batch]")
    classes = probabilities.shape.as_list()[-1]
    if len(weights) != classes:
        raise GraphError(
            f"`class_weights` has {len(weights)} numbers, and there are {classes} classes; give one a class"
        )
    wrong = [f"{weight} of class {number}" for number, weight in enumerate(weights) if not 0 <= weight < math.inf]
    if wrong:
        raise GraphError(f"`class_weights`: {', '.join(wrong)}; give numbers from 0 on")
    if not any(weights):
        raise GraphError("`class_weights` are all 0, so that nothing would be learnt; give numbers above 0")


# --- L2 ---


def check_l2(l2: float, variables: Sequence[tf.Variable]) -> None:
    """Refuse a strength of L2 that makes no sense.

    Args:
      l2: the strength.
      variables: all that any stage trains.

    Raises:
      GraphError: it is negative or not finite, or no variable is a kernel.
    """
    if not 0 <= l2 < math.inf:
        raise GraphError(f"`l2={l2}`: give a number from 0 on, as 1e-4")
    if l2 and not any(map(_is_kernel, variables)):
        raise GraphError(f"`l2={l2}` has nothing to act on: no variable of rank 2 or more is trained")


def with_l2(gradients: Sequence[Any], variables: Sequence[tf.Variable], l2: float) -> list[Any]:
    """Add to each kernel's gradient that of l2 * sum(kernel**2) / 2; other gradients stay as they are."""
    if not l2:
        return list(gradients)
    return [
        tf.convert_to_tensor(gradient) + l2 * variable if _is_kernel(variable) else gradient
        for gradient, variable in zip(gradients, variables, strict=True)
    ]


def _is_kernel(variable: tf.Variable) -> bool:
    return (variable.shape.rank or 0) >= 2
