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


def fold(graph_def: tf.GraphDef) -> bool:
    """Let convolutions pad by themselves what is padded before them.

    Args:
      graph_def: what is changed. A padding that nobody takes any more is left there.

    Returns:
      Whether there was any.
    """
    nodes = {node.name: node for node in graph_def.node}
    pairs = [(node, nodes[node_of(data_inputs(node)[0])]) for node in graph_def.node if _is_valid(node)]
    pairs = [(node, pad) for node, pad in pairs if pad.op == "Pad" and len(data_inputs(pad)) == len(pad.input)]
    if not pairs:
        return False
    with tf.Graph().as_default() as graph:  # which infers shapes
        tf.import_graph_def(graph_def, name="")
    changed = False
    for node, pad in pairs:
        x, amounts = data_inputs(pad)
        size, kernel = (_shape(graph.get_tensor_by_name(name)) for name in (x, data_inputs(node)[1]))
        sides = _sides(node, size, kernel, _constant(nodes[node_of(amounts)]))
        if sides and all(side.is_same() for side in sides):
            node.input[0] = pad.input[0]
            node.attr["padding"].s = b"SAME"
            changed = True
    return changed


def _is_valid(node: tf.NodeDef) -> bool:
    """Say whether it is a convolution, channels last, that pads nothing itself."""
    if node.op not in _CONVOLUTIONS or node.attr["padding"].s != b"VALID":
        return False
    return "data_format" not in node.attr or node.attr["data_format"].s == b"NHWC"


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


def _shape(tensor: tf.Tensor) -> Sequence[int | None]:
    """Return the shape of what has four dimensions, None for each that is not known."""
    return tensor.shape.as_list() if tensor.shape.rank == 4 else [None] * 4


def _constant(node: tf.NodeDef) -> np.ndarray:
    """Return the value of a constant; of another node, none."""
    return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else np.empty(0, np.int32)
