"""Zero padding in the convolution that follows it, in a GraphDef that is only run forward.

    convolution(pad(x), padding="VALID")  =  convolution(x, padding="SAME")

if SAME pads just as much on each side, which the size of x decides: Keras pads so before each stride of a MobileNet.
The numbers that are added up are the same, and no padded copy of x is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.graph_def.nodes import data_inputs, node_of

_CONVOLUTIONS = {"Conv2D", "DepthwiseConv2dNative"}


class _Side(NamedTuple):
    """One of the two sides of a picture: its size, how much is padded, and how a convolution goes over it."""

    size: int | None
    before: int
    after: int
    kernel: int | None
    stride: int
    dilation: int

    def is_same(self) -> bool:
        """Say whether SAME pads as much."""
        if self.size is None or self.kernel is None:
            return False
        reach = (self.kernel - 1) * self.dilation + 1
        total = max((-(-self.size // self.stride) - 1) * self.stride + reach - self.size, 0)
        return (self.before, self.after) == (total // 2, total - total // 2)


def fold(graph_def: tf.GraphDef, graph: tf.Graph) -> None:
    """Let convolutions pad by themselves what is padded before them; paddings that nobody takes then are left there.

    Args:
      graph_def: what is changed.
      graph: the graph that it is a part of, which knows shapes; nodes that are not in it stay as they are.
    """
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        if node.op not in _CONVOLUTIONS or node.attr["padding"].s != b"VALID" or _format(node) != b"NHWC":
            continue
        x, kernel = data_inputs(node)
        pad = nodes[node_of(x)]
        if pad.op != "Pad" or any(source.startswith("^") for source in pad.input):
            continue
        padded, amounts = data_inputs(pad)
        sides = _sides(node, _shape(graph, padded), _shape(graph, kernel), _constant(nodes[node_of(amounts)]))
        if sides and all(side.is_same() for side in sides):
            node.input[0] = pad.input[0]
            node.attr["padding"].s = b"SAME"


def _format(node: tf.NodeDef) -> bytes:
    return node.attr["data_format"].s if "data_format" in node.attr else b"NHWC"


def _sides(
    node: tf.NodeDef, sizes: Sequence[int | None], kernel: Sequence[int | None], amounts: np.ndarray
) -> list[_Side]:
    """Return height and width; empty where something else is padded."""
    if amounts.shape != (4, 2) or amounts[[0, 3]].any():
        return []
    strides = node.attr["strides"].list.i
    dilations = node.attr["dilations"].list.i if "dilations" in node.attr else [1, 1, 1, 1]
    return [
        _Side(sizes[axis], int(before), int(after), kernel[axis - 1], strides[axis], dilations[axis])
        for axis, (before, after) in ((1, amounts[1]), (2, amounts[2]))
    ]


def _shape(graph: tf.Graph, name: str) -> Sequence[int | None]:
    """Return the shape of what has four dimensions, None for each that is not known."""
    try:
        shape = graph.get_tensor_by_name(name).shape
    except (KeyError, ValueError):  # out of a function that was inlined
        shape = tf.TensorShape(None)
    return shape.as_list() if shape.rank == 4 else [None] * 4


def _constant(node: tf.NodeDef) -> np.ndarray:
    """Return the value of a constant; of another node, none."""
    return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else np.empty(0, np.int32)
