"""Exported models: loading them, and running them on pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.protobuf import saved_model_pb2

from tfxfer.callables import message
from tfxfer.errors import WeightsError

ENDPOINTS = "tfxfer_endpoints"  # the collection that has the names of their tensors
GRAPH = "saved_model.pb"
IMAGES, IMAGE_BYTES = "images", "image_bytes"
OUTPUTS = ("probabilities", "class_names", "top_k_probabilities", "top_k_indices", "top_k_names")


@dataclasses.dataclass(frozen=True)
class Served:
    """The tensors by which a model is asked.

    Attributes:
      images: uint8 [n, height, width, channels]; fed, or else what `image_bytes` is decoded to.
      image_bytes: string [n], whole files of pictures; None where the model takes none.
      outputs: by their names in the signatures; as `export_model` writes them, `probabilities` float32 [n, classes],
        `class_names` string [n, classes], and of the most probable classes, in their order, `top_k_probabilities`,
        `top_k_indices` and `top_k_names`, each [n, k].
      endpoints: those of the model, by its own names, in its order; empty where nobody noted them.
    """

    images: tf.Tensor
    image_bytes: tf.Tensor | None
    outputs: Mapping[str, tf.Tensor]
    endpoints: Mapping[str, tf.Tensor]


@contextlib.contextmanager
def loaded(path: str | os.PathLike[str], **threads: int) -> Iterator[tuple[tf.Session, Served]]:
    """Load a SavedModel, or the frozen graph that was written with one, into a graph and a session of its own.

    Its graph is run. Like any program, it must come from somebody who is trusted.

    Args:
      path: its directory, or the file of a frozen graph.
      **threads: `intra_op_threads` and `inter_op_threads`. Default: TensorFlow chooses.

    Raises:
      WeightsError: it cannot be loaded, or takes no images.
    """
    config = tf.ConfigProto(**{name.replace("threads", "parallelism_threads"): n for name, n in threads.items()})
    # Where variables are constants, rewriting the graph copies them all, again and again: for VGG16 100 s, and not 19.
    config.graph_options.rewrite_options.disable_meta_optimizer = not os.path.isdir(path)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph, config=config) as sess:
        try:
            served = _of_saved_model(sess, path) if os.path.isdir(path) else _of_frozen(graph, Path(path))
        except (OSError, RuntimeError, ValueError, KeyError, DecodeError, tf.errors.OpError) as error:
            raise WeightsError(f"{path} cannot be loaded: {message(error)}") from None
        graph.finalize()
        yield sess, served


def takes_images(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is a SavedModel that can be asked about images, and is not of weights alone."""
    graph = Path(path, GRAPH)
    if not graph.is_file():
        return False
    try:
        model = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    except DecodeError:
        return False
    return any(_image_of(meta) for meta in model.meta_graphs)


def is_export(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is a SavedModel or a frozen graph, and not a run directory."""
    return Path(path, GRAPH).is_file() or (os.path.isfile(path) and os.fspath(path).endswith(".pb"))


def _image_of(meta: Any) -> str:
    """Return the name of the tensor that takes images, or the empty string."""
    for signature in meta.signature_def.values():
        for info in signature.inputs.values():
            if info.dtype == tf.uint8.as_datatype_enum and len(info.tensor_shape.dim) == 4:
                return info.name
    return ""


def _of_saved_model(sess: tf.Session, path: str | os.PathLike[str]) -> Served:
    meta = tf.saved_model.loader.load(sess, [tf.saved_model.SERVING], os.fspath(path))
    images = _image_of(meta)
    if not images:
        raise WeightsError(f"{path} has no signature that takes images, uint8 [n, height, width, channels]")
    signatures = [signature for signature in meta.signature_def.values() if signature.outputs]
    named = {name: info.name for signature in signatures for name, info in signature.outputs.items()}
    encoded = [info.name for signature in signatures for name, info in signature.inputs.items() if name == IMAGE_BYTES]
    noted = sess.graph.get_collection(ENDPOINTS)
    tensor = sess.graph.get_tensor_by_name
    return Served(
        tensor(images),
        tensor(encoded[0]) if encoded else None,
        {name: tensor(where) for name, where in named.items()},
        {name: tensor(where) for name, where in (json.loads(noted[0]) if noted else {}).items()},
    )


def _of_frozen(graph: tf.Graph, path: Path) -> Served:
    definition = tf.GraphDef.FromString(path.read_bytes())
    tf.import_graph_def(definition, name="")
    images, image_bytes, *outputs = (graph.get_tensor_by_name(f"{name}:0") for name in (IMAGES, IMAGE_BYTES, *OUTPUTS))
    return Served(images, image_bytes, dict(zip(OUTPUTS, outputs, strict=True)), {})


def ask(sess: tf.Session, served: Served, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Return the outputs for some pictures: pixels uint8 [n, height, width, channels], or the bytes of files [n]."""
    tensor = served.images if pictures.dtype == np.uint8 else served.image_bytes
    return sess.run(dict(served.outputs), {tensor: pictures})
