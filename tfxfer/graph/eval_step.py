"""One step of evaluation, built before the session: metrics and probabilities, and nothing that training needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph import feeds, losses, updates
from tfxfer.graph.feeds import Feeds
from tfxfer.graph.layers import DROPOUTS, batch_norms
from tfxfer.graph.stages import StageOps
from tfxfer.graph.variables import check_open


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalStep:
    """Everything that evaluation, prediction and precomputing run.

    Attributes:
      images, labels, outputs: as given to `eval_step`; `labels` may be None.
      probabilities: float32 [batch, classes]; None where the step has no labels and `loss` is a tensor.
      metrics: per example, float32 [batch]: `loss`, and with labels `accuracy` (1 where the prediction is right). They
        are plain: neither L2 nor a class weight is in them, so that runs with others compare. Without labels there is
        a `loss` only where it was given as a tensor.
      eval_feeds: what placeholders are fed in evaluation, in each batch the same.
      activations: endpoints by name, as given.
      stages: what training runs, in order of their epochs, the first from epoch 0. Here there are none: an evaluation
        writes nothing.

    Example:
      >>> images = tf.placeholder(tf.float32, [None, 4])
      >>> logits = tx.models.heads.classifier(images, classes=3)
      >>> step = tx.eval_step(images, None, logits)
      >>> step.probabilities.shape.as_list(), dict(step.metrics)
      ([None, 3], {})
    """

    images: tf.Tensor
    labels: tf.Tensor | None
    outputs: tf.Tensor
    probabilities: tf.Tensor | None
    metrics: Mapping[str, tf.Tensor]
    eval_feeds: Feeds
    activations: Mapping[str, tf.Tensor]
    stages: tuple[StageOps, ...] = ()

    @property
    def last_stage(self) -> StageOps | None:
        """The last stage of training, whose frontier is right for all; an evaluation has none."""
        return self.stages[-1] if self.stages else None

    @property
    def examples(self) -> list[tf.Tensor]:
        """The placeholders that are fed with examples: `images`, and `labels` if there are some."""
        return [tensor for tensor in (self.images, self.labels) if tensor is not None]


def eval_step(
    images: tf.Tensor,
    labels: tf.Tensor | None,
    outputs: tf.Tensor,
    *,
    loss: str | tf.Tensor = "softmax",
    eval_feeds: Mapping[tf.Tensor | str, Any] | None = None,
    activations: Mapping[str, tf.Tensor] | None = None,
) -> EvalStep:
    """Build what evaluates a network or predicts with it: no optimizer, no gradients and no variable are made.

    The metrics are those of `train_step`, which builds on this. `evaluate` and `precompute` take the result as they
    take a `Step`; `fit` needs a `Step`.

    Args:
      images: the placeholder that is fed with a batch of images, or of anything else: vectors, sequences, ids.
      labels: the placeholder of class numbers, integers [batch], or of one-hot rows [batch, classes] of any numeric
        dtype; None to predict alone, or where `loss` needs none.
      outputs: what the model gives: logits [batch, classes] ([batch, 1] under "sigmoid") where `loss` is a name.
      loss: "softmax" or "sigmoid" cross-entropy of `labels` and `outputs`, or a tensor float32 [batch] of losses.
      eval_feeds: what placeholders are fed with each batch, by placeholder or name: `{keep_prob: 1.0, "is_training":
        False}`.
      activations: endpoints by name; each [batch, ...].

    Raises:
      GraphError: an unknown loss, or one that does not go with `outputs` or is not [batch]; labels, feeds or
        `activations` that cannot be used; a placeholder that nobody feeds; or the graph is finalized, since a session
        was opened by `tfxfer.session`.

    Example:
      >>> images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
      >>> step = tx.eval_step(images, labels, tx.models.heads.classifier(images, classes=3))
      >>> with tx.session() as sess:
      ...     result = tx.evaluate(sess, step, (np.zeros([5, 4], np.float32), np.arange(5) % 3))
      >>> result.probabilities.shape
      (5, 3)
    """
    check_graph("eval_step", images, labels, outputs)
    step = build(images, labels, outputs, loss, eval_feeds, activations)
    check_feeds(step)
    fetches = [tensor.op for tensor in (*step.metrics.values(), step.probabilities) if tensor is not None]
    updates.warn_of_writes(updates.written_always(fetches, step.examples))
    return step


def check_graph(caller: str, images: tf.Tensor, labels: tf.Tensor | None, outputs: tf.Tensor) -> None:
    """Refuse what are not tensors of the default graph, and a graph to which nothing can be added.

    Raises:
      GraphError: the message names the function that was called, `caller`.
    """
    graph = tf.get_default_graph()
    arguments = {"images": images, "outputs": outputs} | ({} if labels is None else {"labels": labels})
    wrong = [f"{name} is {value!r}" for name, value in arguments.items() if not isinstance(value, tf.Tensor)]
    if wrong:
        raise GraphError(f"{'; '.join(wrong)}: give tensors, images and labels as tf.placeholder makes them")
    apart = [name for name, value in arguments.items() if value.graph is not graph]
    if apart:
        raise GraphError(
            f"{names.listed(apart)} of another graph than the default one; call {caller} within the "
            "`with graph.as_default():` in which they were made"
        )
    check_open(caller)


def build(
    images: tf.Tensor,
    labels: tf.Tensor | None,
    outputs: tf.Tensor,
    loss: str | tf.Tensor,
    eval_feeds: Mapping[tf.Tensor | str, Any] | None,
    activations: Mapping[str, tf.Tensor] | None,
) -> EvalStep:
    """Return a step of evaluation whose feeds are not checked yet; see `eval_step` for the arguments and errors."""
    endpoints = dict(activations or {})
    _check_activations(endpoints, images)
    feeds_by_placeholder = feeds.resolve(eval_feeds, "eval_feeds", {"images": images, "labels": labels})
    metrics, probabilities = losses.build_metrics(loss, labels, outputs)
    return EvalStep(
        images=images,
        labels=labels,
        outputs=outputs,
        probabilities=probabilities,
        metrics=metrics,
        eval_feeds=feeds_by_placeholder,
        activations=endpoints,
    )


def _check_activations(activations: Mapping[str, tf.Tensor], images: tf.Tensor) -> None:
    for name, tensor in activations.items():
        if not isinstance(tensor, tf.Tensor):
            raise GraphError(f"activations: {name} is {tensor!r}, and must be a tensor")
        if tensor.graph is not images.graph or not tensor.shape.rank or tensor.shape.as_list()[0] is not None:
            raise GraphError(f"activations: {name} {tensor.shape} must be [batch, ...] with a batch of any size")


def check_feeds(step: EvalStep) -> None:
    """Refuse placeholders that nobody feeds, in evaluation and in training; note those left to their defaults.

    Raises:
      GraphError: all such placeholders are named.
    """
    metrics = [tensor.op for tensor in step.metrics.values()]
    shown = [tensor.op for tensor in (step.probabilities, *step.activations.values()) if tensor is not None]
    fetches: dict[str, Sequence[tf.Operation]] = {}
    fed: dict[str, Feeds] = {}
    if step.stages:
        training = [op for stage in step.stages for op in (stage.apply, stage.scalars.op)]
        fetches["train_feeds"], fed["train_feeds"] = [*training, *metrics], step.stages[-1].feeds
    fetches["eval_feeds"], fed["eval_feeds"] = [*metrics, *shown], step.eval_feeds
    norms = [tf.get_default_graph().get_tensor_by_name(norm.switch) for norm in batch_norms()]
    feeds.check(fetches, fed, step.examples, [*norms, *tf.get_collection(DROPOUTS)])
