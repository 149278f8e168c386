"""What a step measures, and what its gradients are of: losses, accuracy, class weights, L2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError


def check_labels(loss: str | tf.Tensor, labels: tf.Tensor | None) -> None:
    """Refuse to train without labels by a loss that is computed from them.

    Raises:
      GraphError: `labels` is None and `loss` is a name, or `loss` is not a known name.
    """
    if isinstance(loss, str):
        _check_name(loss)
        if labels is None:
            raise GraphError(f"`loss={loss!r}` needs labels; without them, loss is a tensor [batch]")


def build_metrics(
    loss: str | tf.Tensor, labels: tf.Tensor | None, outputs: tf.Tensor
) -> tuple[dict[str, tf.Tensor], tf.Tensor | None]:
    """Build what a step measures, and the probabilities that it predicts; see `eval_step` for the arguments.

    Returns:
      Metrics per example, float32 [batch]: `loss`, and with labels `accuracy`; and probabilities, float32
      [batch, classes]. Without labels there are probabilities or a loss: the former where `loss` is a name.

    Raises:
      GraphError: an unknown loss, one that does not go with `outputs` or is not [batch], or labels that are neither
        class numbers nor one-hot.
    """
    with tf.name_scope("LOSS/"):
        numbers = _class_numbers(labels, outputs)
        if isinstance(loss, str):
            _check_outputs(loss, outputs)
        if labels is None:
            return ({}, class_probabilities(outputs)) if isinstance(loss, str) else ({"loss": _own_loss(loss)}, None)
        losses = _cross_entropy(loss, labels, numbers, outputs) if isinstance(loss, str) else _own_loss(loss)
        probabilities = class_probabilities(outputs)
        right = tf.equal(tf.argmax(probabilities, axis=1), numbers)
        # Of what is not a number none is the largest, whatever argmax says.
        right &= tf.reduce_all(tf.equal(probabilities, probabilities), axis=1)
        return {"loss": losses, "accuracy": tf.cast(right, tf.float32, name="accuracy")}, probabilities


def build_objective(
    losses: tf.Tensor,
    labels: tf.Tensor | None,
    probabilities: tf.Tensor | None,
    class_weights: Sequence[float] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Build the mean of the losses [batch], and what gradients are of: that, or the mean of the weighted losses.

    Raises:
      GraphError: class weights that do not go with the classes.
    """
    with tf.name_scope("LOSS/"):
        mean = tf.reduce_mean(losses, name="mean_loss")
        if class_weights is None:
            return mean, mean
        if probabilities is None:
            raise GraphError("`class_weights` need labels; without them, put weights into the loss, a tensor [batch]")
        _check_weights(class_weights, probabilities.shape.as_list()[-1])
        weights = tf.constant(class_weights, tf.float32, name="class_weights")
        # Divided by the number of examples, as Keras does, and not by the sum of their weights.
        weighted = losses * tf.gather(weights, _class_numbers(labels, probabilities))
        return mean, tf.reduce_mean(weighted, name="weighted_loss")


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


def _check_name(loss: str) -> None:
    if loss not in ("softmax", "sigmoid"):
        raise GraphError(f"loss is 'softmax', 'sigmoid' or a tensor [batch], not {loss!r}")


def _check_outputs(loss: str, outputs: tf.Tensor) -> None:
    _check_name(loss)
    if outputs.shape.rank != 2 or (outputs.shape[1] == 1) != (loss == "sigmoid"):
        shape = "[batch, classes], of two classes or more" if loss == "softmax" else "[batch, 1]"
        raise GraphError(f"`loss={loss!r}` takes outputs {shape}, not {outputs.shape}")


def _cross_entropy(loss: str, labels: tf.Tensor, numbers: tf.Tensor | None, outputs: tf.Tensor) -> tf.Tensor:
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


def class_probabilities(logits: tf.Tensor, temperature: float = 1.0) -> tf.Tensor:
    """Turn logits into probabilities, float32 [batch, classes].

    Args:
      logits: [batch, classes], or [batch, 1] of the second of two classes.
      temperature: by what they are divided first; at 1, no op is added.
    """
    if temperature != 1:
        logits = tf.divide(logits, tf.constant(temperature, logits.dtype), name="calibrated")
    if logits.shape[-1] == 1:
        second = tf.sigmoid(logits)
        return tf.concat([1 - second, second], axis=1, name="probabilities")
    return tf.nn.softmax(logits, name="probabilities")


def _check_weights(weights: Sequence[float], classes: int) -> None:
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
