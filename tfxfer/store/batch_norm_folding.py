"""Batch normalisation in the kernels of the convolutions before it, in a GraphDef that is only run forward.

    convolution(x, kernel) * scale + shift  =  convolution(x, kernel * scale) + shift

A chain is a convolution or a matrix product, and what scales and shifts its channels by numbers that do not depend on
images: FusedBatchNorm with given statistics, or products, quotients, sums and differences, as
`tf.nn.batch_normalization` makes them. It becomes the convolution with another kernel, and a BiasAdd. Nobody else may
take what is between; whatever is not certain stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.graph.traversal import PASSING, PLACEHOLDERS, VARIABLES, may_write
from tfxfer.graph_def.nodes import Nodes, data_inputs, node_of
from tfxfer.tf_private import op_definition

Evaluate = Callable[[Sequence[str]], Sequence[np.ndarray]]

_CONVOLUTIONS = {"Conv2D", "DepthwiseConv2dNative", "MatMul"}
_SCALING = {"Mul", "RealDiv"}
_SHIFTING = {"Add", "AddV2", "BiasAdd", "Sub"}
_ORDERED = {"BiasAdd", "RealDiv", "Sub"}  # The channels come first.
_BATCH_NORMS = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}
_BRANCHES_AND_LOOPS = {"Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"}


class Link(NamedTuple):
    """What scales or shifts the channels.

    Attributes:
      node: it.
      constants: what it takes beside the channels, by name.
    """

    node: tf.NodeDef
    constants: Sequence[str]


class Chain(NamedTuple):
    """A convolution, and what scales and shifts its channels one after the other."""

    convolution: tf.NodeDef
    links: list[Link]

    @property
    def constants(self) -> list[str]:
        """What it takes beside the images."""
        return [data_inputs(self.convolution)[1], *(name for link in self.links for name in link.constants)]


def chains(graph_def: tf.GraphDef, images: str, tensors: Sequence[str]) -> list[Chain]:
    """Return what might be folded: whether it can depends on the shapes of the constants, which `fold` looks at.

    Args:
      graph_def: what computes the tensors, and nothing else.
      images: the full name of the placeholder of the images.
      tensors: what is fetched, by full name.
    """
    search = _Search(graph_def, images, tensors)
    candidates = [Chain(node, list(search.links(node))) for node in graph_def.node if search.is_convolution(node)]
    return [chain for chain in candidates if any(_scales(link.node) for link in chain.links)]


def fold(graph_def: tf.GraphDef, chains: Sequence[Chain], values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fold chains in their GraphDef, which is changed.

    Args:
      graph_def: the graph.
      chains: what `chains` returned for it.
      values: the arrays of all their constants, by name.

    Returns:
      The values of the variables that the graph has in addition: kernels and biases, by name.
    """
    prefix = "folded"
    while any(node.name.startswith(prefix) for node in graph_def.node):
        prefix += "_"
    arrays: dict[str, np.ndarray] = {}
    for number, chain in enumerate(chains):
        with np.errstate(all="ignore"):  # What is not finite is not folded.
            folded = _folded(chain, values)
        if folded is not None:
            links, kernel, bias = folded
            reads = []
            for what, array in (("kernel", kernel), ("bias", bias)):
                name = f"{prefix}/{number}/{what}"
                arrays[name] = array
                reads.append(_add_variable(graph_def, name, array))
            _replace(chain.convolution, links, *reads)
    return arrays


# --- where the chains are ---


class _Search:
    def __init__(self, graph_def: tf.GraphDef, images: str, tensors: Sequence[str]) -> None:
        self.takers: dict[str, list[tf.NodeDef]] = {}
        for node in graph_def.node:
            for source in data_inputs(node):
                self.takers.setdefault(source, []).append(node)
        self.fetched = set(tensors)
        self.waited_for = {s[1:] for node in graph_def.node for s in node.input if s.startswith("^")}
        self.varying = _varying(graph_def, node_of(images), tensors)

    def is_convolution(self, node: tf.NodeDef) -> bool:
        if node.op not in _CONVOLUTIONS or node.attr["T"].type != tf.float32.as_datatype_enum:
            return False
        x, kernel = data_inputs(node)
        return self._varies(x) and not self._varies(kernel)

    def links(self, convolution: tf.NodeDef) -> Iterator[Link]:
        """Yield what follows a convolution, as far as nobody else takes what is between."""
        node = convolution
        while (following := self._only_taker(node)) is not None:
            link = self._link(following, f"{node.name}:0", _channels_first(convolution))
            if link is None:
                return
            yield link
            node = following

    def _varies(self, tensor: str) -> bool:
        return node_of(tensor) in self.varying

    def _only_taker(self, node: tf.NodeDef) -> tf.NodeDef | None:
        tensor = f"{node.name}:0"
        takers = self.takers.get(tensor, [])
        alone = len(takers) == 1 and tensor not in self.fetched and node.name not in self.waited_for
        return takers[0] if alone else None

    def _link(self, node: tf.NodeDef, channels: str, channels_first: bool) -> Link | None:
        inputs = data_inputs(node)
        others = [source for source in inputs if source != channels]
        if any(self._varies(source) for source in others):
            return None
        if node.op in _BATCH_NORMS:
            fits = _has_statistics(node) and not self._takes_statistics(node)
            fits = fits and _channels_first(node) == channels_first and inputs[0] == channels
        elif node.op in _SCALING | _SHIFTING:
            fits = node.op not in _ORDERED or inputs[0] == channels
            fits = fits and (node.op != "BiasAdd" or _channels_first(node) == channels_first)
        else:
            fits = node.op == "Identity"
        return Link(node, others) if fits else None

    def _takes_statistics(self, node: tf.NodeDef) -> bool:
        others = {f"{node.name}:{number}" for number in range(1, 6)}
        return bool(others & (self.fetched | set(self.takers)))


def _channels_first(node: tf.NodeDef) -> bool:
    return "data_format" in node.attr and node.attr["data_format"].s == b"NCHW"


def _has_statistics(node: tf.NodeDef) -> bool:
    """Say whether a batch normalisation takes its statistics as they come; without the attribute it makes them."""
    return "is_training" in node.attr and not node.attr["is_training"].b


def _scales(node: tf.NodeDef) -> bool:
    return node.op in _SCALING | _BATCH_NORMS


def _varying(graph_def: tf.GraphDef, images: str, tensors: Sequence[str]) -> set[str]:
    """Return the nodes whose values are not decided by constants and variables that nothing writes."""
    nodes = Nodes(graph_def)
    written = set(_written(nodes))
    varying: set[str] = set()
    for node in nodes.needed(tensors).nodes:
        before = map(node_of, data_inputs(node))
        if node.name == images or node.name in written or not _is_decided(node.op) or not varying.isdisjoint(before):
            varying.add(node.name)
    return varying


def _is_decided(kind: str) -> bool:
    """Say whether ops of a type give the same for the same inputs, and always something."""
    if kind in VARIABLES:
        return True
    unknown = op_definition(kind) is None or kind in PLACEHOLDERS or kind.removeprefix("Ref") in _BRANCHES_AND_LOOPS
    return not unknown and not may_write(kind)


def _written(nodes: Nodes) -> Iterable[str]:
    """Yield the variables that may be written while the graph runs."""
    stack = [
        source for node in nodes.values() if node.op not in VARIABLES and may_write(node.op) for source in node.input
    ]
    seen: set[str] = set()
    while stack:
        name = node_of(stack.pop())
        if name not in seen:
            seen.add(name)
            if nodes[name].op in VARIABLES:
                yield name
            elif nodes[name].op in PASSING:
                stack += data_inputs(nodes[name])


# --- kernels and biases ---


def _folded(chain: Chain, values: Mapping[str, np.ndarray]) -> tuple[list[Link], np.ndarray, np.ndarray] | None:
    """Return what is folded of a chain, its kernel and its bias; None where nothing can be."""
    kernel = values[chain.constants[0]].astype(np.float64)
    spread = _spread(chain.convolution, kernel)
    count = spread.size
    scale, shift = np.ones(count), np.zeros(count)
    links: list[Link] = []
    for link in chain.links:
        change = _change(chain.convolution, link, [values[name] for name in link.constants], count)
        if change is None:
            break
        scale, shift = scale * change[0], shift * change[0] + change[1]
        links.append(link)
    kernel, bias = (kernel * scale.reshape(spread.shape)).astype(np.float32), shift.astype(np.float32)
    if not any(_scales(link.node) for link in links) or not np.isfinite(kernel).all() or not np.isfinite(bias).all():
        return None
    return links, kernel, bias


def _spread(node: tf.NodeDef, kernel: np.ndarray) -> np.ndarray:
    """Return an array whose elements are the channels, and which is broadcast over the kernel."""
    if node.op == "DepthwiseConv2dNative":
        return np.empty(kernel.shape[2:])
    if node.op == "MatMul" and "transpose_b" in node.attr and node.attr["transpose_b"].b:
        return np.empty((kernel.shape[0], 1))
    return np.empty(kernel.shape[-1:])


def _change(
    convolution: tf.NodeDef, link: Link, constants: Sequence[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return by what a link scales and shifts each channel, or None where it is not the same all over a channel."""
    kind = link.node.op
    one, zero = np.ones(count), np.zeros(count)
    if kind == "Identity":
        return one, zero
    if kind in _BATCH_NORMS or kind == "BiasAdd":
        vectors = [np.asarray(array, np.float64) for array in constants]
        if any(vector.shape != (count,) for vector in vectors):
            return None
        return _of_batch_norm(link.node, *vectors) if kind in _BATCH_NORMS else (one, vectors[0])
    vector = _by_channel(convolution, constants[0], count)
    if vector is None:
        return None
    if kind in _SCALING:
        return (vector if kind == "Mul" else one / vector), zero
    return one, -vector if kind == "Sub" else vector


def _of_batch_norm(
    node: tf.NodeDef, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    epsilon = node.attr["epsilon"].f if "epsilon" in node.attr else 1e-4  # as it is by default
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def _by_channel(convolution: tf.NodeDef, array: np.ndarray, count: int) -> np.ndarray | None:
    """Return the number for each channel, if an array that is broadcast over what a convolution gives has just that."""
    rank = 2 if convolution.op == "MatMul" else 4
    shape = [1] * (rank - array.ndim) + list(array.shape)
    wanted = [1] * rank
    wanted[1 if _channels_first(convolution) else -1] = count
    if shape not in (wanted, [1] * rank):
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), [count])


# --- nodes ---


def _add_variable(graph_def: tf.GraphDef, name: str, array: np.ndarray) -> str:
    """Add a variable and return the name of the tensor that reads it."""
    handle = graph_def.node.add(name=name, op="VarHandleOp")
    handle.attr["dtype"].type = tf.float32.as_datatype_enum
    handle.attr["shape"].shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    handle.attr["shared_name"].s = name.encode()
    read = graph_def.node.add(name=f"{name}/read", op="ReadVariableOp", input=[name])
    read.attr["dtype"].type = tf.float32.as_datatype_enum
    return str(read.name)


def _replace(convolution: tf.NodeDef, links: Sequence[Link], kernel: str, bias: str) -> None:
    """Let a convolution take another kernel, and the last link add a bias; what is between is taken by nobody then."""
    convolution.input[1] = kernel
    waits = dict.fromkeys(source for link in links for source in link.node.input if source.startswith("^"))
    last = links[-1].node
    last.op = "BiasAdd"
    del last.input[:]
    last.input.extend([convolution.name, bias, *waits])
    last.attr.clear()
    last.attr["T"].type = tf.float32.as_datatype_enum
    last.attr["data_format"].s = b"NCHW" if _channels_first(convolution) else b"NHWC"
