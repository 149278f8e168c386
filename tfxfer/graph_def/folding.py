"""What follows from values that placeholders are bound to, in a GraphDef: branches that are never taken, dropout that
drops nothing.

`is_training` bound to False leaves a graph in which a branch for training is never taken, and `keep_prob` bound to 1
one that still draws random numbers, to no effect. Both are taken out, so that nothing of them is mistaken for a part of
the network: a statistic of the batch, or a random op. No value changes by it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.graph_def.nodes import Nodes, data_inputs, full_name, node_of


class Bounds(NamedTuple):
    """Between which numbers all elements of a tensor lie; `open` where the upper one is not reached."""

    low: Any
    high: Any
    open: bool = False

    @property
    def single(self) -> bool:
        """Whether all elements are one number."""
        return bool(self.low == self.high) and not self.open


_PASSING = {"Identity", "StopGradient", "Snapshot", "PreventGradient", "CheckNumerics"}
_LOGIC: Mapping[str, Callable[..., Any]] = {
    "LogicalNot": operator.not_,
    "LogicalAnd": lambda a, b: a and b,
    "LogicalOr": lambda a, b: a or b,
}
_MASKS = {"Floor", "GreaterEqual", "Less", "LessEqual", "Greater"}
_TAKING_MASKS = {"Mul", "Cast", "Select", "SelectV2"}


def fold(graph_def: tf.GraphDef, values: Mapping[str, np.ndarray]) -> tf.GraphDef:
    """Bind tensors to values and take out what they decide.

    Args:
      graph_def: the graph; it is not changed.
      values: arrays by the full names of tensors.

    Returns:
      A graph in which each bound tensor is a constant; the names of all other nodes stay. Nodes that nothing needs any
      more are still in it.
    """
    folded = tf.GraphDef()
    folded.CopyFrom(graph_def)
    _Folding(folded, values).run()
    return folded


class _Folding:
    def __init__(self, graph_def: tf.GraphDef, values: Mapping[str, np.ndarray]) -> None:
        self.graph_def = graph_def
        self.renamed: dict[str, str] = {}  # full names of tensors that are taken from elsewhere now
        for name, value in values.items():
            self._bind(name, value)
        self.nodes = Nodes(graph_def)
        self.takers: dict[str, list[tf.NodeDef]] = {}
        for node in graph_def.node:
            for source in data_inputs(node):
                self.takers.setdefault(node_of(source), []).append(node)
        self.bounds: dict[str, Bounds] = {}
        self.dead: set[str] = set()  # full names of tensors, and names of nodes

    def run(self) -> None:
        taken = {node_of(source) for node in self.nodes.values() for source in data_inputs(node)}
        for node in self.nodes.needed(f"{name}:0" for name in self.nodes if name not in taken).nodes:
            self._look_at(node)
        for node in self.graph_def.node:
            sources = [self._source(source) for source in node.input]
            del node.input[:]
            node.input.extend(sources)

    def _bind(self, name: str, value: np.ndarray) -> None:
        node_name, _, output = name.partition(":")
        node = next(node for node in self.graph_def.node if node.name == node_name)
        if output != "0" or "Dequeue" in node.op or "Iterator" in node.op:
            constant = self.graph_def.node.add(name=f"{node_name}/fed_{output}")
            self.renamed[name] = f"{constant.name}:0"
        else:
            constant = node
        _make_constant(constant, value)

    def _source(self, source: str) -> str:
        if source.startswith("^"):
            return source
        name = full_name(source)
        seen = {name}
        while name in self.renamed and self.renamed[name] not in seen:
            name = self.renamed[name]
            seen.add(name)
        return name.removesuffix(":0")

    def _look_at(self, node: tf.NodeDef) -> None:
        sources = [full_name(self._source(source)) for source in data_inputs(node)]
        controls = [source[1:] for source in node.input if source.startswith("^")]
        if node.op in ("Merge", "RefMerge"):
            self._merge(node, sources)
            return
        if any(source in self.dead or node_of(source) in self.dead for source in sources) or self.dead & set(controls):
            self.dead.add(node.name)
            return
        if node.op in ("Switch", "RefSwitch"):
            self._switch(node, sources)
        elif node.op in ("If", "StatelessIf"):
            self._if(node, sources)
        elif node.op in ("Select", "SelectV2"):
            self._select(node, sources)
        elif (bounds := _bounds(node, [self.bounds.get(source) for source in sources])) is not None:
            self.bounds[f"{node.name}:0"] = bounds
            if node.op in _MASKS and bounds.single and self._only_masks(node):
                _make_constant(node, np.array(bounds.low, _mask_dtype(node)))

    def _switch(self, node: tf.NodeDef, sources: list[str]) -> None:
        decides = self.bounds.get(sources[1])
        if decides is None or not decides.single:
            return
        live = int(bool(decides.low))
        self.renamed[f"{node.name}:{live}"] = sources[0]
        self.dead.add(f"{node.name}:{1 - live}")
        if sources[0] in self.bounds:
            self.bounds[f"{node.name}:{live}"] = self.bounds[sources[0]]

    def _select(self, node: tf.NodeDef, sources: list[str]) -> None:
        """Take what is always selected, if the other is one number, so that it does not make the shape larger."""
        decides = self.bounds.get(sources[0])
        if decides is not None and decides.single:
            chosen, other = sources[1:] if decides.low else sources[:0:-1]
            if self._is_number(other):
                self.renamed[f"{node.name}:0"] = chosen

    def _is_number(self, source: str) -> bool:
        node = self.nodes[node_of(source)]
        return node.op == "Const" and not node.attr["value"].tensor.tensor_shape.dim and source in self.bounds

    def _merge(self, node: tf.NodeDef, sources: list[str]) -> None:
        live = [source for source in sources if source not in self.dead and node_of(source) not in self.dead]
        if not live:
            self.dead.add(node.name)
        elif len(live) == 1 and len(sources) > 1:
            self.renamed[f"{node.name}:0"] = live[0]
            if live[0] in self.bounds:
                self.bounds[f"{node.name}:0"] = self.bounds[live[0]]

    def _if(self, node: tf.NodeDef, sources: list[str]) -> None:
        decides = self.bounds.get(sources[0])
        if decides is None or not decides.single:
            return
        branch = node.attr["then_branch" if decides.low else "else_branch"].func
        node.op = "StatefulPartitionedCall" if node.op == "If" else "PartitionedCall"
        node.attr["f"].func.CopyFrom(branch)
        for attribute in ("then_branch", "else_branch", "Tcond", "output_shapes"):
            node.attr.pop(attribute, None)
        del node.input[0]

    def _only_masks(self, node: tf.NodeDef) -> bool:
        """Say whether a node is taken only where one number does the same as an array of it."""
        takers = self.takers.get(node.name, [])
        return bool(takers) and all(
            taker.op in _TAKING_MASKS and (taker.op != "Cast" or self._only_masks(taker)) for taker in takers
        )


def _make_constant(node: tf.NodeDef, value: np.ndarray) -> None:
    node.op = "Const"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _mask_dtype(node: tf.NodeDef) -> np.dtype:
    return np.dtype(tf.as_dtype(node.attr["T"].type).as_numpy_dtype) if node.op == "Floor" else np.dtype(bool)


def _bounds(node: tf.NodeDef, inputs: list[Bounds | None]) -> Bounds | None:
    """Return the bounds of the first output of a node, or None where they are not known."""
    if node.op == "Const":
        return _of_constant(node)
    if node.op == "RandomUniform":
        return Bounds(0.0, 1.0, True)
    known = [bounds for bounds in inputs if bounds is not None]
    if not inputs or len(known) < len(inputs):
        return None
    if node.op in _PASSING:
        return known[0]
    if node.op == "Cast":
        return Bounds(float(known[0].low), float(known[0].high), known[0].open)
    if node.op in _LOGIC and all(bounds.single for bounds in known):
        value = _LOGIC[node.op](*(bounds.low for bounds in known))
        return Bounds(value, value)
    return _ARITHMETIC[node.op](*known) if node.op in _ARITHMETIC else None


def _of_constant(node: tf.NodeDef) -> Bounds | None:
    if node.attr["value"].WhichOneof("value") != "tensor":  # a weight, whose value was taken out
        return None
    tensor = node.attr["value"].tensor
    count = int(np.prod([dim.size for dim in tensor.tensor_shape.dim], dtype=float))
    if count != 1 or tensor.dtype == tf.string.as_datatype_enum:
        return None
    value = tf.make_ndarray(tensor).item()
    return Bounds(value, value)


def _product(a: Bounds, b: Bounds) -> Bounds | None:
    if min(a.low, b.low) < 0:
        return None
    return Bounds(a.low * b.low, a.high * b.high, a.open or b.open)


def _compared(greater: bool, equal: bool) -> Callable[[Bounds, Bounds], Bounds | None]:
    def compare(a: Bounds, b: Bounds) -> Bounds | None:
        if not greater:
            a, b = b, a
        # a >= b, or a > b
        if a.low > b.high or (a.low == b.high and (equal or b.open)):
            return Bounds(True, True)
        if a.high < b.low or (a.high == b.low and (a.open or not equal)):
            return Bounds(False, False)
        return None

    return compare


def _floor(a: Bounds) -> Bounds | None:
    low, high = np.floor(a.low), np.floor(a.high)
    if a.open and high == a.high:
        high -= 1
    return Bounds(float(low), float(high))


_ARITHMETIC: Mapping[str, Callable[..., Bounds | None]] = {
    **dict.fromkeys(("Add", "AddV2"), lambda a, b: Bounds(a.low + b.low, a.high + b.high, a.open or b.open)),
    "Sub": lambda a, b: Bounds(a.low - b.high, a.high - b.low, a.open) if b.single else None,
    "Mul": _product,
    "Floor": _floor,
    "GreaterEqual": _compared(True, True),
    "Greater": _compared(True, False),
    "LessEqual": _compared(False, True),
    "Less": _compared(False, False),
}
