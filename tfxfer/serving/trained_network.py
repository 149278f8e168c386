"""A network with the weights that are restored into it: of a run, or of a file of weights."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.errors import DataError, GraphError, WeightsError
from tfxfer.graph.variables import inference, select
from tfxfer.input_spec import CHANNELS, InputSpec, with_size
from tfxfer.models.imagenet import usual_class_names
from tfxfer.models.network import build_classifier, build_endpoints, count_classes
from tfxfer.models.recognition import Rename, recognise
from tfxfer.models.registry import find_model
from tfxfer.networks.file_model import FileModel, check_probabilities
from tfxfer.restore.plan import plan
from tfxfer.restore.session import session
from tfxfer.serving.computed_once import ComputedOnce, repeated
from tfxfer.serving.export import Exported, export_model
from tfxfer.serving.predict import BATCH_SIZE, Examples, Predictions, predict
from tfxfer.weights import Weights, open_weights


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """How a network is built, the weights that are restored into it, what they expect and what they mean.

    Attributes:
      build: called as `build(images, input_spec=...)`; returns the endpoints by name, in order. The last one of a
        classifier is its probabilities, float32 [n, classes].
      weights: every variable that the endpoints read.
      input_spec: what the weights expect of images; None where nobody says.
      class_names: one for each class; empty where nobody says.
      images: dtype and shape [n, ...] of the placeholder of the images. Default: uint8 as the input spec says.
      computed_once: what `predict` computes in another precision, as training did; None for nothing.
    """

    build: Callable[..., Mapping[str, tf.Tensor]]
    weights: Weights
    input_spec: InputSpec | None
    class_names: tuple[str, ...] = ()
    images: tf.TensorSpec | None = None
    computed_once: ComputedOnce | None = None

    @property
    def name(self) -> str:
        """The name of the model, as its input spec has it; empty where there is none."""
        return self.input_spec.model if self.input_spec else ""

    @contextlib.contextmanager
    def session(
        self, like: np.ndarray | None = None, **options: Any
    ) -> Iterator[tuple[tf.Session, tf.Tensor, Mapping[str, tf.Tensor]]]:
        """Build the network in a graph of its own, restore it, and yield session, images placeholder and endpoints.

        Args:
          like: examples [n, ...] whose dtype and shape the placeholder has where the network has no input spec.
          **options: as `tfxfer.session` takes them.

        Raises:
          DataError: nothing says of what shape images are.
          RestoreError: the weights do not fit the network.
        """
        with tf.Graph().as_default():
            images = self._placeholder(like)
            with inference():
                endpoints = self.build(images, input_spec=self.input_spec)
            with session(plan(select(".*"), self.weights), **options) as sess:
                yield sess, images, endpoints

    def _placeholder(self, like: np.ndarray | None) -> tf.Tensor:
        if self.images is not None:
            return tf.placeholder(self.images.dtype, self.images.shape, name="images")
        if self.input_spec is not None:
            shape = (*self.input_spec.size, CHANNELS[self.input_spec.channels])
            return tf.placeholder(tf.uint8, [None, *shape], name="images")
        if like is None:
            raise DataError(
                f"no input spec lies beside {self.weights.checkpoint or self.weights.path}, and nothing else says of "
                "what size pictures are; give an array of examples"
            )
        return tf.placeholder(like.dtype, [None, *like.shape[1:]], name="images")

    def predict(
        self,
        examples: Examples,
        *,
        top_k: int = 5,
        batch_size: int = BATCH_SIZE,
        precision: str = "auto",
        **session_options: Any,
    ) -> Predictions:
        """Return the most probable classes of examples.

        Args:
          examples, top_k, batch_size: as `tfxfer.serving.predict.predict` takes them.
          precision: of what training computed once, as `tfxfer.serving.computed_once.repeated` takes it.
          **session_options: as `tfxfer.session` takes them.

        Raises:
          DataError: the examples cannot be used, or the precision cannot be had.
        """
        like = examples if isinstance(examples, np.ndarray) else None
        with (
            self.session(like, **session_options) as (sess, images, endpoints),
            repeated(self.computed_once, sess, images, precision),
        ):
            return predict(
                sess,
                list(endpoints.values())[-1],
                examples,
                images=images,
                top_k=top_k,
                class_names=self.class_names,
                resize=self.input_spec.resize if self.input_spec else "crop",
                decode=self.input_spec.decode if self.input_spec else "exact",
                batch_size=batch_size,
            )

    def export(self, out: str | os.PathLike[str], **options: Any) -> Exported:
        """Write a SavedModel; `out` and the options are as `tfxfer.serving.export.export_model` takes them.

        Raises:
          DataError: the network has no input spec, which says how pictures are prepared, or takes other images.
          GraphError, RestoreError, DataError, OSError: as `export_model` raises them.
        """
        if self.input_spec is None:
            beside = self.weights.checkpoint or self.weights.path
            raise DataError(f"no input spec lies beside {beside}: write one there by tfxfer.input_spec.InputSpec.save")
        self._check_exported(self.input_spec)
        if self.computed_once:
            self.computed_once.say_float32("as everything does in an export")
        return export_model(
            functools.partial(self.build, input_spec=self.input_spec),
            self.weights,
            self.input_spec,
            out,
            **{"class_names": self.class_names, **options},
        )

    def _check_exported(self, input_spec: InputSpec) -> None:
        """Refuse a placeholder that cannot be fed what an export is."""
        shape = (*input_spec.size, CHANNELS[input_spec.channels])
        if self.images is None or self.images.is_compatible_with(tf.TensorSpec([None, *shape], tf.uint8)):
            return
        taken, beside = f"{self.images.dtype.name} {self.images.shape}", self.weights.checkpoint or self.weights.path
        raise DataError(
            f"the network takes images {taken}, and an export takes uint8 {(None, *shape)}, as the input spec beside "
            f"{beside} says; mend the input spec, or train a network that takes these"
        )


def open_classifier(
    model: str,
    weights: str | os.PathLike[str] | Weights,
    *,
    source: str | None = None,
    rename: Rename | None = None,
    image_size: int | None = None,
    class_names: Sequence[str] = (),
) -> TrainedNetwork:
    """Return a model that has a classifier of its own, with the weights of a file.

    Args:
      model: a name in `tfxfer.models.registry.MODELS`.
      weights, source, rename: as `tfxfer.recognise` takes them.
      image_size: side of the square that pictures are brought to, in pixels. Default: what the weights expect.
      class_names: one for each class. Default: those of the input spec; else ImageNet's, if there are 1000; or numbers.

    Raises:
      GraphError: the model has no classifier of its own.
      WeightsError: the file cannot be read, or not be recognised as weights of the model.
    """
    weights = weights if isinstance(weights, Weights) else open_weights(weights)
    if not find_model(model).classifier:
        raise GraphError(f"`model={model}` has no classifier of its own; give a run in which one was trained on it")
    file = recognise(weights, model=model, source=source, rename=rename)
    input_spec = with_size(file.input_spec, image_size)
    classes = count_classes(model, file.weights)
    known = input_spec.class_names if len(input_spec.class_names) == classes else usual_class_names(classes)

    build = functools.partial(build_classifier, model, classes=classes, endpoint="prob")
    return TrainedNetwork(build, file.weights, input_spec, tuple(class_names or known))


def open_file(opened: FileModel, input_spec: InputSpec, *, classifier: bool = True) -> TrainedNetwork:
    """Return a network in a file.

    Args:
      opened: the network, and the way through it.
      input_spec: what it expects of pictures.
      classifier: whether its endpoint is the probabilities of its classes, and alone is wanted; otherwise all
        endpoints up to it are.

    Raises:
      GraphError: the endpoint of a classifier is not a softmax or a sigmoid, float [n, classes].
      WeightsError: nobody has its weights.
    """
    if opened.weights is None:
        path = opened.file.path
        raise WeightsError(f"{path} has no weights in it or beside it; give the file that has them (`weights`)")
    row = opened.model(input_spec)
    if not classifier:
        return TrainedNetwork(functools.partial(build_endpoints, row), opened.weights, input_spec)

    def build(images: tf.Tensor, *, input_spec: InputSpec | None) -> Mapping[str, tf.Tensor]:
        end = build_endpoints(row, images, input_spec=input_spec)[row.bottleneck]
        check_probabilities(end, opened.file.path)
        return {row.bottleneck: end}

    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, *input_spec.size, CHANNELS[input_spec.channels]])
        classes = build(images, input_spec=input_spec)[row.bottleneck].shape.as_list()[1]
    known = input_spec.class_names if len(input_spec.class_names) == classes else map(str, range(classes or 0))
    return TrainedNetwork(build, opened.weights, input_spec, tuple(known))
