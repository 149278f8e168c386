"""Networks out of frozen graphs, thawed: constants that are weights become variables of the same names."""

from __future__ import annotations

import os
import re

import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.networks.graph_file import FileVariable, GraphFile
from tfxfer.weights import Weights, open_weights
from tfxfer.weights.roles import STATISTIC, role

_TEXT = re.compile(rb"\s*(?:#[^\n]*\n\s*)*(?:node|versions|library)\s*:?\s*\{")  # how a GraphDef begins as text
# The inputs of these ops that are statistics of batch normalisation: mean and variance.
_STATISTICS = {
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), (3, 4)),
    "BatchNormWithGlobalNormalization": (1, 2),
}


def read(path: str | os.PathLike[str], *, weights: Weights | None = None) -> GraphFile:
    """Read a network from a GraphDef (`.pb`), and take its weights for variables.

    Args:
      path: the file.
      weights: other values for its weights, under their names. Default: its own.

    Raises:
      WeightsError: the file is missing, is not a GraphDef, or has more than 2 GB.
    """
    name = os.fspath(path)
    graph_def = read_graph_def(name)
    own = open_weights(name)
    return GraphFile(
        path=name,
        kind="frozen graph",
        graph_def=graph_def,
        variables=thawed(graph_def, own),
        weights=own if weights is None else weights,
    )


def read_graph_def(path: str) -> tf.GraphDef:
    """Read a GraphDef.

    Raises:
      WeightsError: the file is missing, is not a GraphDef, or has more than 2 GB.
    """
    try:
        content = reading.message(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    if _TEXT.match(content):
        raise WeightsError(
            f"{path} is a graph as text; write it in binary: tf.io.write_graph(graph, '.', 'frozen.pb', as_text=False)"
        )
    try:
        return tf.GraphDef.FromString(content)
    except DecodeError:
        raise WeightsError(f"{path} is not a GraphDef") from None


def thawed(graph_def: tf.GraphDef, weights: Weights) -> dict[str, FileVariable]:
    """Describe the constants that are weights as variables, by their names.

    Statistics of batch normalisation are not trainable; all others are. The values are taken out of the graph.

    Args:
      graph_def: the graph.
      weights: what `open_weights` finds in it; what has no floating dtype stays a constant.
    """
    floating = {
        name for name in weights if np.issubdtype(weights.dtype(name), np.floating) or _is_bfloat16(weights, name)
    }
    statistics = _statistics(graph_def)
    described = {}
    for node in graph_def.node:
        if node.op == "Const" and node.name in floating:
            shape = weights.shape(node.name)
            node.attr["value"].Clear()  # the values are in `weights`; a graph is copied several times
            statistic = node.name in statistics or role(node.name, shape, floating) == STATISTIC
            described[node.name] = FileVariable(
                name=node.name,
                tensors={f"{node.name}:0": False},
                shape=shape,
                dtype=tf.as_dtype(node.attr["dtype"].type),
                trainable=not statistic,
            )
    return described


def _is_bfloat16(weights: Weights, name: str) -> bool:
    return weights.dtype(name).name == "bfloat16"


def _statistics(graph_def: tf.GraphDef) -> set[str]:
    """Return the constants that ops of batch normalisation take as mean and variance, also through `Identity`."""
    nodes = {node.name: node for node in graph_def.node}
    found = set()
    for node in graph_def.node:
        for place in _STATISTICS.get(node.op, ()):
            source = nodes.get(node.input[place].partition(":")[0]) if place < len(node.input) else None
            while source is not None and source.op == "Identity":
                source = nodes.get(source.input[0].partition(":")[0])
            if source is not None:
                found.add(source.name)
    return found
