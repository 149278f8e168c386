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
    """Between which numbers all elements of a tensor lie, both of the tensor's dtype."""

    low: Any
    high: Any

    @property
    def single(self) -> bool:
        """Whether all elements are one number."""
        return bool(self.low == self.high)


_PASSING = {"Identity", "StopGradient", "Snapshot", "PreventGradient", "CheckNumerics"}
# Of each dtype whose numbers are computed here, the smallest number that has all its digits; 0 of integers.
_SMALLEST = {
    **{np.dtype(dtype): 0.0 for dtype in (bool, "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")},
    np.dtype(np.float16): 2.0**-14,
    np.dtype(tf.bfloat16.as_numpy_dtype): 2.0**-126,
    np.dtype(np.float32): 2.0**-126,
    np.dtype(np.float64): 2.0**-1022,
}
_WAYS_BACK = {"NextIteration", "RefNextIteration"}
_MASKS = {"Floor", "GreaterEqual", "Less", "LessEqual", "Greater"}
# Ops whose output has the shape of their inputs, but for those that are one number.
_ELEMENTWISE = {
    *_PASSING,
    *("Cast", "Floor", "LogicalNot", "LogicalAnd", "LogicalOr", "Greater", "GreaterEqual", "Less", "LessEqual"),
    *("Add", "AddV2", "Sub", "Mul", "Div", "RealDiv"),
}


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
        self.shapes: dict[str, str] = {}  # by tensor, the earliest of the same shape; "" of a scalar
        self.masks: list[tf.NodeDef] = []  # whose elements are one number
        self.dead: set[str] = set()  # full names of tensors, and names of nodes

    def run(self) -> None:
        taken = {node_of(source) for node in self.nodes.values() for source in data_inputs(node)}
        for node in self.nodes.needed(f"{name}:0" for name in self.nodes if name not in taken).nodes:
            self._look_at(node)
        for node in self.masks:
            self._fold_mask(node)
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
        self.shapes[f"{node.name}:0"] = self._shape(node, sources)
        if node.op in ("Switch", "RefSwitch"):
            self._switch(node, sources)
        elif node.op in ("If", "StatelessIf"):
            self._if(node, sources)
        elif node.op in ("Select", "SelectV2"):
            self._select(node, sources)
        elif (bounds := _bounds(node, [self.bounds.get(source) for source in sources])) is not None:
            self.bounds[f"{node.name}:0"] = bounds
            if node.op in _MASKS and bounds.single:
                self.masks.append(node)

    def _switch(self, node: tf.NodeDef, sources: list[str]) -> None:
        decides = self.bounds.get(sources[1])
        if decides is None or not decides.single:
            return
        live = int(bool(decides.low))
        self.renamed[f"{node.name}:{live}"] = sources[0]
        self.dead.add(f"{node.name}:{1 - live}")
        if sources[0] in self.bounds:
            self.bounds[f"{node.name}:{live}"] = self.bounds[sources[0]]

    def _shape(self, node: tf.NodeDef, sources: list[str]) -> str:
        """Return the earliest tensor that is known to have the shape of the first output of a node."""
        if node.op == "Const" and node.attr["value"].WhichOneof("value") == "tensor":
            return f"{node.name}:0" if node.attr["value"].tensor.tensor_shape.dim else ""
        if node.op == "RandomUniform" and self.nodes[node_of(sources[0])].op == "Shape":
            measured = full_name(self._source(self.nodes[node_of(sources[0])].input[0]))
            return self.shapes.get(measured, measured)
        if node.op in _ELEMENTWISE:
            shapes = {self.shapes.get(source, source) for source in sources} - {""}
            if len(shapes) < 2:
                return min(shapes, default="")
        return f"{node.name}:0"

    def _has_shape(self, source: str, shape: str) -> bool:
        """Say whether a tensor has a shape, and is not itself a mask, which may become one number."""
        return source not in self.bounds and self.shapes.get(source, source) == shape

    def _select(self, node: tf.NodeDef, sources: list[str]) -> None:
        """Take what is always selected, if neither what decides nor the other makes the shape larger."""
        decides = self.bounds.get(sources[0])
        if decides is not None and decides.single:
            chosen, other = sources[1:] if decides.low else sources[:0:-1]
            shape = self.shapes.get(sources[0], sources[0])
            if self._is_number(other) and (not shape or self._has_shape(chosen, shape)):
                self.renamed[f"{node.name}:0"] = chosen

    def _is_number(self, source: str) -> bool:
        return self.shapes.get(source) == "" and source in self.bounds

    def _merge(self, node: tf.NodeDef, sources: list[str]) -> None:
        live = [source for source in sources if source not in self.dead and node_of(source) not in self.dead]
        # A way back, which comes later, is as dead as what enters the loop.
        if all(self.nodes[node_of(source)].op in _WAYS_BACK for source in live):
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

    def _fold_mask(self, node: tf.NodeDef) -> None:
        """Put a constant in the place of a mask, or where its shape is needed, an array that is not drawn."""
        value, shape = self.bounds[f"{node.name}:0"].low, self.shapes[f"{node.name}:0"]
        drawn = self.nodes.get(node_of(shape))
        if not shape or self._only_masks(node, shape):
            _make_constant(node, value)
        elif drawn is not None and drawn.op == "RandomUniform":
            dims = self._source(drawn.input[0])
            constant = self.graph_def.node.add(name=f"{node.name}/value")
            _make_constant(constant, value)
            constant.input.append(f"^{node_of(dims)}")  # so that it is in the branch or loop in which the mask is
            kind = drawn.attr["T"].type
            _make(node, "Fill", T=constant.attr["dtype"].type, index_type=kind)
            node.input.extend([dims, constant.name])

    def _only_masks(self, node: tf.NodeDef, shape: str) -> bool:
        """Say whether a node is taken only where one number does the same as an array of it and of that shape."""
        takers = self.takers.get(node.name, [])
        return bool(takers) and all(self._takes_number(taker, node, shape) for taker in takers)

    def _takes_number(self, taker: tf.NodeDef, node: tf.NodeDef, shape: str) -> bool:
        if taker.op == "Cast":
            return self._only_masks(taker, shape)
        if taker.op == "Mul":
            others = (full_name(self._source(source)) for source in data_inputs(taker))
            return any(self._has_shape(other, shape) for other in others)
        if taker.op in ("Select", "SelectV2"):  # that was taken out, for what it selects
            return self.renamed.get(f"{taker.name}:0", f"{node.name}:0") != f"{node.name}:0"
        return False


def _make_constant(node: tf.NodeDef, value: np.ndarray) -> None:
    _make(node, "Const", dtype=tf.as_dtype(value.dtype).as_datatype_enum)
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _make(node: tf.NodeDef, op: str, **kinds: int) -> None:
    """Make another op of a node, without inputs."""
    node.op = op
    del node.input[:]
    node.attr.clear()
    for attribute, kind in kinds.items():
        node.attr[attribute].type = kind


def _bounds(node: tf.NodeDef, inputs: list[Bounds | None]) -> Bounds | None:
    """Return the bounds of the first output of a node, or None where they are not known."""
    if node.op == "Const":
        return _of_constant(node)
    if node.op == "RandomUniform":
        one = np.ones((), tf.as_dtype(node.attr["dtype"].type).as_numpy_dtype)
        # The largest number below 1 that is drawn: 1 is never reached, but a sum may round to what 1 would give.
        return Bounds(one - one, one - (np.nextafter(one, one + one) - one))
    known = [bounds for bounds in inputs if bounds is not None]
    if not inputs or len(known) < len(inputs):
        return None
    if node.op in _PASSING:
        return known[0]
    if node.op == "Cast":
        return None if node.attr["Truncate"].b else _cast(known[0], tf.as_dtype(node.attr["DstT"].type))
    return _ARITHMETIC[node.op](*known) if node.op in _ARITHMETIC else None


def _of_constant(node: tf.NodeDef) -> Bounds | None:
    if node.attr["value"].WhichOneof("value") != "tensor":  # a weight, whose value was taken out
        return None
    tensor = node.attr["value"].tensor
    count = int(np.prod([dim.size for dim in tensor.tensor_shape.dim], dtype=float))
    if count != 1 or tensor.dtype == tf.string.as_datatype_enum:
        return None
    value = tf.make_ndarray(tensor).reshape(())
    return _sure(value, value)


def _sure(low: np.ndarray, high: np.ndarray) -> Bounds | None:
    """Return bounds, or None where TensorFlow may have other numbers than NumPy.

    These are numbers that are not finite, -0, and those so small that they have fewer digits, which TensorFlow takes
    for 0. Other kinds of numbers, such as complex ones, are not bounded either.
    """
    if low.dtype not in _SMALLEST:
        return None
    if low.dtype.kind not in "biu":
        for value in (float(low), float(high)):
            small = abs(value) <= _SMALLEST[low.dtype] and (value != 0 or np.signbit(value))
            if small or not np.isfinite(value):
                return None
    return Bounds(low, high)


def _cast(a: Bounds, to: tf.DType) -> Bounds | None:
    dtype = np.dtype(to.as_numpy_dtype)
    if dtype not in _SMALLEST:
        return None
    if dtype.kind in "iu":
        return _cast_to_integers(a, dtype)
    if dtype.kind == "b":  # both sides of 0 become True
        return Bounds(a.low.astype(bool), a.high.astype(bool)) if a.single or a.low >= 0 else None
    with np.errstate(over="ignore"):
        ends = [end.astype(dtype) for end in a]
        # TensorFlow casts to 16 bits by way of float32, which rounds twice.
        twice = [end.astype(np.float32).astype(dtype) for end in a]
    return _sure(*ends) if dtype.itemsize > 2 or ends == twice else None


def _cast_to_integers(a: Bounds, dtype: np.dtype) -> Bounds | None:
    """Return bounds rounded towards 0; an integer that the dtype does not have loses its upper bits."""
    if not _fit([int(end) for end in a], dtype) and not (a.single and a.low.dtype.kind in "iu"):
        return None
    return Bounds(*(end.astype(dtype) for end in a))


def _fit(values: list[int], dtype: np.dtype) -> bool:
    return all(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max for value in values)


def _computed(function: Callable[[Any, Any], Any], low: tuple[Any, Any], high: tuple[Any, Any]) -> Bounds | None:
    """Return bounds computed in the dtype of their operands; None where integers overflow."""
    dtype = low[0].dtype
    if dtype.kind in "iu":
        exact = [function(*(int(operand) for operand in operands)) for operands in (low, high)]
        return Bounds(*(np.array(value, dtype) for value in exact)) if _fit(exact, dtype) else None
    with np.errstate(over="ignore", under="ignore"):
        return _sure(*(np.asarray(function(*operands), dtype) for operands in (low, high)))


def _sum(a: Bounds, b: Bounds) -> Bounds | None:
    return _computed(operator.add, (a.low, b.low), (a.high, b.high))


def _difference(a: Bounds, b: Bounds) -> Bounds | None:
    return _computed(operator.sub, (a.low, b.high), (a.high, b.low))


def _product(a: Bounds, b: Bounds) -> Bounds | None:
    if min(a.low, b.low) < 0:
        return None
    return _computed(operator.mul, (a.low, b.low), (a.high, b.high))


def _truth(low: object, high: object) -> Bounds:
    return Bounds(np.array(bool(low)), np.array(bool(high)))


def _floor(a: Bounds) -> Bounds | None:
    return _sure(*(np.asarray(np.floor(end), end.dtype) for end in a))


_ARITHMETIC: Mapping[str, Callable[..., Bounds | None]] = {
    **dict.fromkeys(("Add", "AddV2"), _sum),
    "Sub": _difference,
    "Mul": _product,
    "Floor": _floor,
    "GreaterEqual": lambda a, b: _truth(a.low >= b.high, a.high >= b.low),
    "Greater": lambda a, b: _truth(a.low > b.high, a.high > b.low),
    "LessEqual": lambda a, b: _truth(a.high <= b.low, a.low <= b.high),
    "Less": lambda a, b: _truth(a.high < b.low, a.low < b.high),
    "LogicalNot": lambda a: _truth(not a.high, not a.low),
    "LogicalAnd": lambda a, b: _truth(a.low and b.low, a.high and b.high),
    "LogicalOr": lambda a, b: _truth(a.low or b.low, a.high or b.high),
}
