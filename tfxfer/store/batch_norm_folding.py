"""Batch normalisation in the kernels of the convolutions before it, in a GraphDef that is only run forward.

    convolution(x, kernel) * scale + shift  =  convolution(x, kernel * scale) + shift

A chain is a convolution or a matrix product, and what scales and shifts its channels by numbers that do not depend on
images: FusedBatchNorm with given statistics, or products, quotients, sums and differences, as
`tf.nn.batch_normalization` makes them. It becomes a convolution with another kernel, and a BiasAdd. Nobody else may
take what is between; whatever is not certain stays as it is.

Each tensor that is fetched is folded as if it were fetched alone, so that its bits do not depend on the others: the
convolution that was there stays for whoever else takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.graph.traversal import PASSING, PLACEHOLDERS, VARIABLES, may_write, memory_of_node
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


def chains(graph_def: tf.GraphDef, images: str, tensors: Sequence[str]) -> dict[str, list[Chain]]:
    """Return what might be folded for each tensor that is fetched, as if it were fetched alone.

    Whether it can be depends on the shapes of the constants, which `fold` looks at.

    Args:
      graph_def: what computes the tensors, and nothing else.
      images: the full name of the placeholder of the images.
      tensors: what is fetched, by full name.
    """
    nodes = Nodes(graph_def)
    varying, looping = _varying(nodes, node_of(images), tensors)
    found: dict[str, list[Chain]] = {}
    for tensor in tensors:
        search = _Search([nodes[name] for name in _run_for(nodes, [tensor])], tensor, varying, looping)
        candidates = [Chain(node, list(search.links(node))) for node in search.nodes if search.is_convolution(node)]
        found[tensor] = [chain for chain in candidates if any(_scales(link.node) for link in chain.links)]
    return found


def fold(
    graph_def: tf.GraphDef, chains: Mapping[str, Sequence[Chain]], values: Mapping[str, np.ndarray]
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Fold chains in their GraphDef, which is changed.

    Args:
      graph_def: the graph.
      chains: what `chains` returned for it.
      values: the arrays of all their constants, by name.

    Returns:
      The names under which the tensors are now, by those that they had; and the values of the variables that the graph
      has in addition, kernels and biases, by name.
    """
    prefix = _free_prefix(graph_def)
    arrays: dict[str, np.ndarray] = {}
    biases: dict[str, tf.NodeDef] = {}  # by the name of the link in whose place it is
    ends: dict[str, set[str]] = {tensor: set() for tensor in chains}
    for tensor, chain in ((tensor, chain) for tensor, several in chains.items() for chain in several):
        with np.errstate(all="ignore"):  # What is not finite is not folded.
            folded = _folded(chain, values)
        if folded is None:
            continue
        links, kernel, bias = folded
        end = links[-1].node.name
        ends[tensor].add(end)
        if end not in biases:
            name = f"{prefix}/{len(biases)}"
            added = {f"{name}/kernel": kernel, f"{name}/bias": bias}
            arrays |= added
            reads = [_add_variable(graph_def, *item) for item in added.items()]
            biases[end] = _add_convolution(graph_def, f"{name}/convolution", chain.convolution, links, *reads)
    return _put(graph_def, biases, ends, prefix), arrays


def _free_prefix(graph_def: tf.GraphDef) -> str:
    """Return what no node's name and no variable's memory begins with."""
    taken = {node.name for node in graph_def.node}
    taken |= {shared_name for node in graph_def.node if node.op in VARIABLES for shared_name in memory_of_node(node)}
    prefix = "folded"
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    return prefix


# --- where the chains are ---


def _run_for(nodes: Mapping[str, tf.NodeDef], tensors: Iterable[str]) -> dict[str, None]:
    """Return the names of the nodes that are run for some tensors."""
    run: dict[str, None] = {}
    stack = list(tensors)
    while stack:
        name = node_of(stack.pop())
        if name not in run:
            run[name] = None
            stack += nodes[name].input
    return run


class _Search:
    """Looks for the chains among the nodes that are run for a tensor."""

    def __init__(self, nodes: Sequence[tf.NodeDef], tensor: str, varying: set[str], looping: set[str]) -> None:
        self.nodes = nodes
        self.takers: dict[str, list[tf.NodeDef]] = {}
        for node in nodes:
            for source in data_inputs(node):
                self.takers.setdefault(source, []).append(node)
        self.fetched = tensor
        self.waited_for = {s[1:] for node in nodes for s in node.input if s.startswith("^")}
        self.varying, self.looping = varying, looping

    def is_convolution(self, node: tf.NodeDef) -> bool:
        if node.op not in _CONVOLUTIONS or node.attr["T"].type != tf.float32.as_datatype_enum:
            return False
        if node.name in self.looping:  # Within a loop, no variable can be read that lies outside.
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
        alone = len(takers) == 1 and tensor != self.fetched and node.name not in self.waited_for
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
        return bool(others & ({self.fetched} | set(self.takers)))


def _channels_first(node: tf.NodeDef) -> bool:
    return "data_format" in node.attr and node.attr["data_format"].s == b"NCHW"


def _has_statistics(node: tf.NodeDef) -> bool:
    """Say whether a batch normalisation takes its statistics as they come; without the attribute it makes them."""
    return "is_training" in node.attr and not node.attr["is_training"].b


def _scales(node: tf.NodeDef) -> bool:
    return node.op in _SCALING | _BATCH_NORMS


def _varying(nodes: Nodes, images: str, tensors: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the nodes whose values are not decided by constants and variables that nothing writes, and those in loops.

    Of a loop, those are left out that take nothing of what goes round in it.
    """
    written = set(_written(nodes))
    varying: set[str] = set()
    depths: dict[str, int] = {}
    for node in nodes.needed(tensors).nodes:
        before = list(map(node_of, data_inputs(node)))
        if node.name == images or node.name in written or not _is_decided(node.op) or not varying.isdisjoint(before):
            varying.add(node.name)
        kind = node.op.removeprefix("Ref")
        depths[node.name] = max((depths.get(name, 0) for name in before), default=0) + (kind == "Enter")
        depths[node.name] -= kind == "Exit"
    return varying, {name for name, depth in depths.items() if depth > 0}


def _is_decided(kind: str) -> bool:
    """Say whether ops of a type give the same for the same inputs, and always something."""
    if kind in VARIABLES:
        return True
    unknown = op_definition(kind) is None or kind in PLACEHOLDERS or kind.removeprefix("Ref") in _BRANCHES_AND_LOOPS
    return not unknown and not may_write(kind)


def _written(nodes: Nodes) -> Iterable[str]:
    """Return the variables whose memory may be written while the graph runs."""
    stack = [
        source for node in nodes.values() if node.op not in VARIABLES and may_write(node.op) for source in node.input
    ]
    seen: set[str] = set()
    while stack:
        name = node_of(stack.pop())
        if name not in seen:
            seen.add(name)
            if nodes[name].op in PASSING:
                stack += data_inputs(nodes[name])
    variables = {name: memory_of_node(node) for name, node in nodes.items() if node.op in VARIABLES}
    memories = {memory for name, memory in variables.items() if name in seen}
    return [name for name, memory in variables.items() if memory in memories]


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


def _add_convolution(
    graph_def: tf.GraphDef, name: str, convolution: tf.NodeDef, links: Sequence[Link], kernel: str, bias: str
) -> tf.NodeDef:
    """Add a convolution with another kernel, and return what adds a bias to it in the place of the last link."""
    added = graph_def.node.add()
    added.CopyFrom(convolution)
    added.name, added.input[1] = name, kernel
    waits = dict.fromkeys(source for link in links for source in link.node.input if source.startswith("^"))
    node = tf.NodeDef(name=links[-1].node.name, op="BiasAdd", input=[name, bias, *waits], device=links[-1].node.device)
    node.attr["T"].type = tf.float32.as_datatype_enum
    node.attr["data_format"].s = b"NCHW" if _channels_first(convolution) else b"NHWC"
    return node


def _put(
    graph_def: tf.GraphDef, biases: Mapping[str, tf.NodeDef], ends: Mapping[str, set[str]], prefix: str
) -> dict[str, str]:
    """Put what adds a bias in the place of the end of each chain; return the names of the tensors.

    Where one tensor takes such an end folded, and another takes it as it was, each has nodes of its own from there on.
    """
    nodes = {node.name: node for node in graph_def.node}
    as_it_was = {tensor: _run_for({**nodes, **{end: biases[end] for end in ends[tensor]}}, [tensor]) for tensor in ends}
    torn = {end for end in biases if any(end in as_it_was[tensor] and end not in ends[tensor] for tensor in ends)}
    for end in biases.keys() - torn:
        nodes[end].CopyFrom(biases[end])
    after = _after(graph_def, torn)
    names: dict[str, str] = {}
    copies: dict[frozenset[str], str] = {frozenset(): ""}
    for tensor in ends:
        here = frozenset(ends[tensor] & torn)
        if here not in copies:
            copies[here] = f"{prefix}/{len(copies)}_of_several/"
            graph_def.node.extend(
                _renamed(biases[name] if name in here else nodes[name], after, copies[here]) for name in after
            )
        names[tensor] = copies[here] + tensor if node_of(tensor) in after else tensor
    return names


def _after(graph_def: tf.GraphDef, names: Iterable[str]) -> set[str]:
    """Return some nodes and all that take or wait for what they give."""
    takers: dict[str, list[str]] = {}
    for node in graph_def.node:
        for source in node.input:
            takers.setdefault(node_of(source), []).append(node.name)
    reached: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in reached:
            reached.add(name)
            stack += takers.get(name, [])
    return reached


def _renamed(node: tf.NodeDef, names: Collection[str], prefix: str) -> tf.NodeDef:
    """Return a copy of a node among others that have a prefix now, with its loop."""
    copy = tf.NodeDef()
    copy.CopyFrom(node)
    copy.name = prefix + node.name
    for number, source in enumerate(node.input):
        if node_of(source) in names:
            copy.input[number] = "^" * source.startswith("^") + prefix + source.removeprefix("^")
    if "frame_name" in copy.attr:
        copy.attr["frame_name"].s = prefix.encode() + copy.attr["frame_name"].s
    return copy
