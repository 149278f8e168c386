"""MetaGraphs brought into a graph, each copy with a memory of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tfxfer.errors import GraphError, WeightsError
from tfxfer.formats import reading
from tfxfer.graph.traversal import PLACEHOLDERS, VARIABLES
from tfxfer.graph.variables import NEW_GRAPH, check_open

# A tuple: TensorFlow writes no collection of such a key into a MetaGraph. It holds names of ops.
IMPORTED = ("tfxfer_imported",)


def import_meta_graph(
    path: str | os.PathLike[str],
    scope: str,
    *,
    input_map: Mapping[str, tf.Tensor] | None = None,
    clear_devices: bool = False,
) -> tf.train.Saver | None:
    """Import a MetaGraph into a scope of the default graph, apart from every other copy of it.

    `tf.train.import_meta_graph` keeps what the file says of shared memory, so that of a MetaGraph that is imported
    twice, as teacher and student, both copies have the same variables. Here the scope goes into the shared names.

        for scope in ("teacher", "student"):
            tx.import_meta_graph("model.ckpt.meta", scope, input_map={"x:0": images})
        plans = [tx.plan(f"{scope}/.*", tx.open_weights("model.ckpt", rename=[("^", f"{scope}/")])) for scope in ...]

    Args:
      path: the file, `model.ckpt.meta`, or its prefix, `model.ckpt`.
      scope: of names, in which nothing is yet.
      input_map: tensors to take in the place of the file's, by their names there, as `tf.train.import_meta_graph` has
        it.
      clear_devices: whether ops forget the devices that they lay on, which may not be here.

    Returns:
      What `tf.train.import_meta_graph` returns: a Saver, if the file describes one.

    Raises:
      WeightsError: the file is missing, or is not a MetaGraph.
      GraphError: the scope is empty, or something is in it already, or the graph is finalized.

    Example:
      >>> with tf.Graph().as_default():
      ...     x = tf.placeholder(tf.float32, [None, 4], "x")
      ...     logits = tx.graph.layers.dense(x, 2, "fc")
      ...     meta_graph = tf.train.Saver().export_meta_graph("model.ckpt.meta")
      >>> images = tf.placeholder(tf.float32, [None, 4])
      >>> for scope in ("teacher", "student"):
      ...     saver = tx.import_meta_graph("model.ckpt.meta", scope, input_map={"x:0": images})
      >>> [variable.op.name for variable in tx.select(".*/kernel")]
      ['teacher/fc/kernel', 'student/fc/kernel']
    """
    scope = scope.strip("/")
    graph = tf.get_default_graph()
    if not scope:
        raise GraphError("import_meta_graph wants a scope, which tells one copy from another")
    check_open("import_meta_graph")
    if any(op.name.startswith(f"{scope}/") for op in graph.get_operations()):
        raise GraphError(
            f"the scope {scope} is in the graph already; import into another. For a graph of its own, {NEW_GRAPH}"
        )
    meta = read_meta_graph(path)
    library = [node for function in meta.graph_def.library.function for node in function.node_def]
    for node in (*meta.graph_def.node, *library):
        shared = node.attr["shared_name"].s.decode() if "shared_name" in node.attr else ""
        if shared or node.op in VARIABLES:
            node.attr["shared_name"].s = f"{scope}/{shared or node.name}".encode()
    inputs = dict(input_map) if input_map else None
    return tf.train.import_meta_graph(meta, clear_devices=clear_devices, import_scope=scope, input_map=inputs)


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    """Record what is added to the default graph within as imported, so that TensorBoard tells it apart."""
    graph = tf.get_default_graph()
    before = len(graph.get_operations())
    yield
    graph.get_collection_ref(IMPORTED).extend(op.name for op in graph.get_operations()[before:])


def read_placeholder(path: str | os.PathLike[str], name: str) -> tf.TensorSpec:
    """Return dtype and shape of a placeholder of a MetaGraph, without importing it.

    Args:
      path: as `import_meta_graph` takes it.
      name: of the placeholder or of its tensor.

    Raises:
      WeightsError: the file is missing, or is not a MetaGraph.
      GraphError: it holds no placeholder of this name.
    """
    wanted = name.removesuffix(":0")
    for node in read_meta_graph(path).graph_def.node:
        if node.name == wanted and node.op in PLACEHOLDERS:
            return tf.TensorSpec(tf.TensorShape(node.attr["shape"].shape), node.attr["dtype"].type)
    raise GraphError(f"{os.fspath(path)}.meta holds no placeholder {name}")


def read_meta_graph(path: str | os.PathLike[str]) -> tf.MetaGraphDef:
    """Read a MetaGraph.

    Raises:
      WeightsError: the file is missing, is not a MetaGraph, or has more than 2 GB.
    """
    name = os.fspath(path)
    file = Path(name if name.endswith(".meta") else f"{name}.meta")
    try:
        return tf.MetaGraphDef.FromString(reading.message(file))
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from None
    except DecodeError:
        raise WeightsError(f"{file} is not a MetaGraph, as tf.train.Saver writes it beside a checkpoint") from None
