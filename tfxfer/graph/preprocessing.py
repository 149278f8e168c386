"""From pixels to the input of a network, inside the graph, as the input spec of its weights says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.errors import DataError
from tfxfer.graph import records
from tfxfer.graph.variables import check_open
from tfxfer.input_spec import CHANNELS, InputSpec
from tfxfer.weights import Weights

INPUT_SPECS = "tfxfer_input_specs"
# A tuple: TensorFlow writes no collection of such a key into a MetaGraph, and functions could not be written.
CHECKS = ("tfxfer_checks_of_weights",)


def preprocess(images: tf.Tensor, input_spec: InputSpec) -> tf.Tensor:
    """Compute `(pixels - mean) * scale` in the input spec's order of channels, and record the input spec in the graph.

    Args:
      images: uint8 [n, h, w, 3] in the order RGB, whatever the input spec's order; [n, h, w, 1] for a grey input spec.
        Nothing is resized here.
      input_spec: what the weights expect.

    Returns:
      float32 of the same shape, the tensor `PREPROCESS/input`.

    Raises:
      DataError: images are not uint8, or not of the input spec's number of channels.
      GraphError: the graph is finalized.
    """
    _check(images, input_spec)
    check_open("the preparation of pictures")
    record(input_spec)
    with tf.name_scope("PREPROCESS"):
        pixels = tf.reverse(images, [-1]) if input_spec.channels == "BGR" else images
        pixels = _rows(tf.cast(pixels, tf.float32), input_spec)
        if any(input_spec.mean):
            pixels -= _numbers(input_spec.mean, pixels, "mean")
        if set(input_spec.scale) != {1}:
            pixels *= _numbers(input_spec.scale, pixels, "scale")
        if pixels.shape.rank == 3:
            pixels = tf.reshape(pixels, [-1, *images.shape.as_list()[1:]])
        return tf.identity(pixels, "input")


def _rows(pixels: tf.Tensor, input_spec: InputSpec) -> tf.Tensor:
    """Return pixels as [n, h, w * c], where channels have numbers of their own and the size is known.

    TensorFlow takes numbers for the last dimension several times as fast if that is not as small as 3.
    """
    differ = any(len(set(numbers)) > 1 for numbers in (input_spec.mean, input_spec.scale))
    if not differ or not pixels.shape[1:].is_fully_defined():
        return pixels
    height, width, channels = pixels.shape.as_list()[1:]
    return tf.reshape(pixels, [-1, height, width * channels])


def _numbers(by_channel: Sequence[float], pixels: tf.Tensor, name: str) -> tf.Tensor:
    """Return the numbers of the channels for the last dimension of pixels; one alone where all are the same."""
    if len(set(by_channel)) == 1:
        return tf.constant(by_channel[0], tf.float32, name=name)
    width = pixels.shape.as_list()[-1] // len(by_channel)
    return tf.constant(np.tile(by_channel, width), tf.float32, name=name)


def record(input_spec: InputSpec) -> None:
    """Record in the default graph by what input spec its pictures are prepared."""
    records.add(INPUT_SPECS, input_spec.to_json())


def input_specs(graph: tf.Graph | None = None) -> list[InputSpec]:
    """Return the input specs by which the pictures of a graph are prepared, in the order of the `preprocess` calls."""
    graph = graph or tf.get_default_graph()
    return [InputSpec.from_json(values) for _, values in records.read(graph, INPUT_SPECS)]


def check_weights_by(check: Callable[[Weights], str]) -> None:
    """Record a function that says what speaks against weights for the network that is built; "" if nothing does.

    `plan` asks it of the weights that are to be restored.
    """
    tf.get_default_graph().add_to_collection(CHECKS, check)


def objections(graph: tf.Graph, weights: Weights) -> list[str]:
    """Return what the networks of a graph have against weights."""
    return list(filter(None, (check(weights) for check in graph.get_collection(CHECKS))))


def _check(images: tf.Tensor, input_spec: InputSpec) -> None:
    if images.dtype.base_dtype != tf.uint8:
        raise DataError(
            f"images are {images.dtype.base_dtype.name}; pass uint8 in 0..255, as mean and scale are made for"
        )
    count = CHANNELS[input_spec.channels]
    shape = images.shape.as_list() if images.shape.rank is not None else []
    if len(shape) != 4 or shape[-1] != count:
        kind = "grey" if count == 1 else "RGB"
        raise DataError(
            f"images have the shape {images.shape}; the input spec wants {kind} pictures, [n, h, w, {count}]"
        )
