"""A frozen graph as a checkpoint and a MetaGraph: what it was before it was frozen, as far as that can be told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer.errors import WeightsError
from tfxfer.networks import importing
from tfxfer.networks.files import open_graph
from tfxfer.weights import writers


class Thawed(NamedTuple):
    """What `thaw` wrote.

    Attributes:
      prefix: of the checkpoint; the MetaGraph is `PREFIX.meta`.
      variables: the shape of each variable, by name.
      ops: how many ops the MetaGraph has.
      moved: what was moved aside: the old path of each file, and the new one.
    """

    prefix: str
    variables: dict[str, tuple[int, ...]]
    ops: int
    moved: dict[Path, Path]


def thaw(path: str | os.PathLike[str], out: str | os.PathLike[str], *, overwrite: bool = False) -> Thawed:
    """Write a frozen graph as a checkpoint and a MetaGraph, in which its weights are variables of the same names.

    `tf.train.import_meta_graph` and `tx.network` take them; the ops keep their names, and the placeholders are as they
    were. An input spec beside the file goes along. Statistics of batch normalisation are not trainable, all other
    variables are. No more than one array is in memory at a time.

    Args:
      path: a GraphDef (`.pb`), or any other file of a network that has weights.
      out: the prefix of the checkpoint, as `thawed/model.ckpt`.
      overwrite: move what is there aside, to `<out>.old-N`, instead of refusing.

    Raises:
      WeightsError: the file cannot be read, or has no weights; or `out` is there already, or cannot be written.
      GraphError: TensorFlow refuses the graph.

    Example:
      >>> with tf.Graph().as_default() as graph:
      ...     x = tf.placeholder(tf.float32, [None, 2], "x")
      ...     y = tf.matmul(x, tf.constant([[1.0], [2.0]], name="fc/weights"), name="y")
      ...     written = tf.io.write_graph(graph, ".", "frozen.pb", as_text=False)
      >>> tx.networks.thaw.thaw("frozen.pb", "thawed.ckpt").variables
      {'fc/weights': (2, 1)}
    """
    prefix = os.fspath(out)
    if writers.kind_of(Path(prefix)) is not writers.CHECKPOINT:
        raise WeightsError(
            f"{prefix}: a thawed graph is a checkpoint and its graph; take a name that ends in .ckpt or has no suffix"
        )
    file = open_graph(os.fspath(path))
    if file.weights is None or not file.variables:
        raise WeightsError(f"{file.path} has no weights that could become variables")
    kept = file.weights.only(name for name in file.weights if name in {each.name for each in file.variables.values()})
    tensors, input_spec = {name: kept.tensor(name) for name in kept}, file.weights.input_spec()
    writers.check(prefix, tensors, sources=[kept], overwrite=overwrite)
    with tf.Graph().as_default() as graph:
        saver = tf.train.Saver(importing.import_whole(file))
        meta_graph = tf.train.export_meta_graph(saver_def=saver.as_saver_def())
        ops = len(graph.get_operations())
    moved = writers.write(
        prefix,
        tensors,
        sources=[kept],
        input_spec=input_spec,
        overwrite=overwrite,
        meta_graph=meta_graph.SerializeToString(),
    )
    return Thawed(prefix, {name: kept.shape(name) for name in kept}, ops, moved)
