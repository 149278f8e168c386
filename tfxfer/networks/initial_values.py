"""What variables of an imported network start from where nobody restores them, by the ops that take them.

They start as those of `graph.layers` do: kernels are drawn, scales and variances are 1, all else is 0. Only a depthwise
kernel is drawn by the one channel that it takes, and not by all: what a random network of many gives would vanish.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import tensorflow.compat.v1 as tf

from tfxfer.graph.variables import is_for_inference, seed_for
from tfxfer.graph_def.nodes import data_inputs
from tfxfer.networks.graph_file import FileVariable

# What hands a value on, or lays it out otherwise.
_SAME_VALUE = {"Cast", "Enter", "ExpandDims", "Identity", "ReadVariableOp", "Reshape", "Squeeze", "Switch"}
_ROOTS = {"Pow", "Rsqrt", "Sqrt"}
_FUSED_NORMS = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}
_SCALE, _VARIANCE = 1, 4  # places of inputs
_Taker = tuple[tf.NodeDef, int]  # a node, and at which place it takes a tensor


class Uses:
    """Who takes what in a graph."""

    def __init__(self, nodes: Iterable[tf.NodeDef]) -> None:
        """Index the nodes of a GraphDef."""
        self._takers: dict[str, list[_Taker]] = {}
        for node in nodes:
            for place, source in enumerate(data_inputs(node)):
                self._takers.setdefault(source, []).append((node, place))

    def is_scale(self, variable: FileVariable) -> bool:
        """Say whether a variable multiplies, or is a variance: at 0, nothing would come through."""
        takers = [taker for tensor in variable.tensors for taker in self._of(tensor)]
        return any(self._scales(node, place) for node, place in takers)

    def is_depthwise(self, variable: FileVariable) -> bool:
        """Say whether a variable is the kernel of a depthwise convolution."""
        return any(node.op == "DepthwiseConv2dNative" for tensor in variable.tensors for node, _ in self._of(tensor))

    def _of(self, tensor: str) -> Iterator[_Taker]:
        """Yield who takes a value, wherever it is handed on to."""
        for node, place in self._takers.get(tensor, []):
            if node.op in _SAME_VALUE:
                yield from (taker for output in (0, 1) for taker in self._of(f"{node.name}:{output}"))
            else:
                yield node, place

    def _scales(self, node: tf.NodeDef, place: int) -> bool:
        if node.op in _FUSED_NORMS:
            return place in (_SCALE, _VARIANCE)
        after = list(self._of(f"{node.name}:0"))
        if node.op in {"Add", "AddV2", "Maximum"}:  # a variance and epsilon
            return any(following.op in _ROOTS for following, _ in after)
        if node.op == "Mul":  # A mean is multiplied too, and then subtracted.
            return not after or any(following.op != "Sub" or at == 0 for following, at in after)
        return node.op in _ROOTS


def initial_value(variable: FileVariable, uses: Uses, name: str) -> tf.Tensor:
    """Add the ops of what a variable starts from to the default graph.

    Args:
      variable: it, as the file describes it.
      uses: who takes what in the file's graph.
      name: of the new variable, by which its value is drawn, as those of layers are.
    """
    shape, dtype = variable.shape, variable.dtype
    if is_for_inference() or not dtype.is_floating:
        return tf.zeros(shape, dtype)
    if uses.is_scale(variable):
        return tf.ones(shape, dtype)
    if sum(side > 1 for side in shape) < 2:  # a bias, a mean
        return tf.zeros(shape, dtype)
    taken = 1 if uses.is_depthwise(variable) else shape[-2]
    limit = math.sqrt(6 / (math.prod(shape[:-2]) * (taken + shape[-1])))  # Glorot and Bengio, 2010
    return tf.cast(tf.random.stateless_uniform(shape, seed_for(name), -limit, limit), dtype)
