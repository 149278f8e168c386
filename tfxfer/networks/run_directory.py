"""The network of a run, out of the MetaGraph beside its best checkpoint."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.errors import RunError
from tfxfer.graph.importing import read_meta_graph
from tfxfer.graph_def.folding import fold
from tfxfer.networks.graph_file import GraphFile
from tfxfer.networks.meta_graph import described
from tfxfer.runs.settings import read_settings
from tfxfer.weights import Weights, open_weights


def read(path: str | os.PathLike[str], *, weights: Weights | None = None) -> GraphFile:
    """Read the network that a run trained: from the images that it was fed to its outputs, the logits.

    Args:
      path: the run directory.
      weights: the values of its variables. Default: the best checkpoint, or the last before the first validation.

    Raises:
      RunError: the settings cannot be read, or do not name its tensors.
      WeightsError: the run has no checkpoint yet, or the checkpoint no MetaGraph.
    """
    settings = read_settings(Path(path)).by_name()
    tensors, feeds = settings.get("tensors"), settings.get("eval_feeds") or {}
    if not isinstance(tensors, dict) or not {"images", "outputs"} <= set(tensors) or not isinstance(feeds, dict):
        raise RunError(f"{os.fspath(path)}/settings.json does not name the tensors of the network: images, outputs")
    best = Path(path, "best")
    checkpoint = open_weights(best if any(best.glob("*.index")) else path)
    meta = read_meta_graph(checkpoint.checkpoint or checkpoint.path)
    values = checkpoint if weights is None else weights
    file = described(meta, os.fspath(path), values, "network of a run")
    graph_def = _fed(file.graph_def, feeds) if feeds else file.graph_def
    return dataclasses.replace(file, graph_def=graph_def, inputs=(tensors["images"],), outputs=(tensors["outputs"],))


def _fed(graph_def: tf.GraphDef, feeds: Mapping[str, Any]) -> tf.GraphDef:
    """Bind placeholders to what evaluation fed."""
    dtypes = {node.name: node.attr["dtype"].type for node in graph_def.node if node.name in feeds}
    known = {name: value for name, value in feeds.items() if name in dtypes}
    return fold(
        graph_def,
        {f"{name}:0": np.asarray(value, tf.as_dtype(dtypes[name]).as_numpy_dtype) for name, value in known.items()},
    )
