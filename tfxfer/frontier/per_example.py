"""Which tensors belong to single examples: a proof, op by op, that row k depends on example k alone.

What is not in the tables below, or is there with arguments that are not known before the graph runs, is not proved.
Functions, conditionals and loops of both kinds are looked into; a loop is gone through until nothing changes. A
predicate that is a constant, or a placeholder that keeps its default or is always fed the same, decides which branch
counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.frontier import batch_rules
from tfxfer.frontier.batch_axis import FIXED, Layout, Mixed, Rows, is_fixed, joined
from tfxfer.frontier.batch_rules import Arguments, NotProvedError
from tfxfer.graph.traversal import VARIABLES, called_in, needed
from tfxfer.tf_private import function_to_graph_def

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_CONDS = {"If", "StatelessIf", "Case", "StatelessCase"}
_LOOPS = {"While", "StatelessWhile"}
_PASSES = 40  # through a loop; a chain of so many variables that wait for each other is given up

Layouts = dict[Any, Layout]  # by tensor.ref(); a tensor that is not in it was not reached


def layouts(
    ops: Sequence[tf.Operation],
    images: tf.Tensor,
    changing: Iterable[tf.Operation],
    constant: Mapping[tf.Operation, np.ndarray],
) -> Callable[[tf.Tensor], Layout | None]:
    """Say of each tensor how it belongs to examples.

    Args:
      ops: what depends on the images, each after what it waits for; what else they take is the same in each step.
      images: the placeholder that is fed with a batch.
      changing: placeholders that are fed with one thing and another, so that those with a default do not keep it.
      constant: placeholders that are always fed the same, with what they are fed.

    Returns:
      A function that gives None for a tensor that is never computed, as one of a branch that is never taken.
    """
    known = _Analysis(images.graph, set(changing), constant).run(ops, {images.ref(): Rows()})
    return lambda tensor: known.get(tensor.ref())


class _Analysis:
    """Goes through the ops of a graph or of a function."""

    def __init__(
        self, graph: tf.Graph, changing: set[tf.Operation], constant: Mapping[tf.Operation, np.ndarray]
    ) -> None:
        self._graph, self._changing, self._values = graph, changing, constant
        self._library: Any = None
        self._bodies: dict[Any, tuple[list[tf.Operation], list[tf.Tensor], list[tf.Tensor]]] = {}

    def run(self, ops: Sequence[tf.Operation], known: Layouts) -> Layouts:
        """Add what the ops give to what is known."""
        within = set(ops)
        fed = set(known)
        for _ in range(_PASSES):
            changed = False
            for op in ops:
                for tensor, layout in zip(op.outputs, self._outputs(op, within, known), strict=False):
                    ref = tensor.ref()
                    if layout is None or ref in fed or known.get(ref) == layout:
                        continue
                    if ref in known:  # Nothing becomes more definite, so that this ends.
                        layout = joined(known[ref], layout, op.name)
                    changed |= known.get(ref) != layout
                    known[ref] = layout
            if not changed:
                return known
        given_up = [(op, tensor) for op in ops for tensor in op.outputs]
        return {tensor.ref(): Mixed(op.name, "is in a loop that is too entangled") for op, tensor in given_up}

    def _outputs(self, op: tf.Operation, within: set[tf.Operation], known: Layouts) -> Sequence[Layout | None]:
        taken: Sequence[Layout | None]
        taken = [known.get(t.ref()) if t.op in within or t.ref() in known else FIXED for t in op.inputs]
        kind = op.type.removeprefix("Ref") if op.type.startswith("Ref") else op.type
        if kind == "Merge":
            reached = [layout for layout in taken if layout is not None]
            return [_all_joined(reached, op.name), FIXED] if reached else []
        if kind in ("Select", "SelectV2"):
            taken = self._selected(op, taken)
        if any(layout is None for layout in taken):
            return []
        mixed = next((layout for layout in taken if isinstance(layout, Mixed)), None)
        if mixed is not None:
            return [mixed] * len(op.outputs)
        try:
            return self._proved(op, kind, taken)  # type: ignore[arg-type]
        except NotProvedError as error:
            return [Mixed(op.name, f"({op.type}) {error}")] * len(op.outputs)

    def _proved(self, op: tf.Operation, kind: str, taken: Sequence[Layout]) -> Sequence[Layout | None]:
        if kind == "Switch":
            return self._switched(op, taken)
        if all(layout is FIXED for layout in taken):
            return [FIXED] * len(op.outputs)
        if kind in _CALLS:
            return self._called(op.get_attr("f").name, op.inputs, taken)
        if kind in _CONDS:
            return self._branches(op, taken)
        if kind in _LOOPS:
            return self._loop(op, taken)
        if kind in self._functions():
            return self._called(kind, op.inputs, taken)
        if all(map(is_fixed, taken)) and kind not in batch_rules.OF_SIZES:
            return [FIXED] * len(op.outputs)
        return batch_rules.outputs(Arguments(op, taken), kind)

    # --- branches and loops ---

    def _switched(self, op: tf.Operation, taken: Sequence[Layout]) -> Sequence[Layout | None]:
        data, predicate = taken
        if not is_fixed(predicate):
            raise NotProvedError("is decided by the examples")
        value = self._constant(op.inputs[1])
        if value is None:
            return [data, data]
        return [None, data] if bool(value) else [data, None]

    def _selected(self, op: tf.Operation, taken: Sequence[Layout | None]) -> Sequence[Layout | None]:
        """Leave out what is not selected, where a constant decides: moments where moving ones are used."""
        value = self._constant(op.inputs[0])
        if value is None or np.ndim(value) or op.outputs[0].shape.rank is None:
            return taken
        number = 1 if value else 2
        shape = op.inputs[number].shape
        if shape.rank is None or shape.as_list() != op.outputs[0].shape.as_list():
            return taken
        if taken[number] is FIXED and not shape.is_fully_defined():  # It may be repeated for each example.
            return taken
        # Twice the same: the rule for all elements then gives its layout.
        return [FIXED, taken[number], taken[number]]

    def _constant(self, tensor: tf.Tensor) -> Any:
        """Return the value of a predicate that is the same in each step, or None."""
        fed = self._changing | self._values.keys()
        while tensor.op.type in ("Identity", "PlaceholderWithDefault") and tensor.op not in fed:
            tensor = tensor.op.inputs[0]
        if tensor.op in fed:
            return self._values.get(tensor.op)
        return tf.get_static_value(tensor)  # None where it is not known

    def _branches(self, op: tf.Operation, taken: Sequence[Layout]) -> Sequence[Layout | None]:
        if not is_fixed(taken[0]):
            raise NotProvedError("is decided by the examples")
        value = self._constant(op.inputs[0])
        if op.type in ("Case", "StatelessCase"):
            names = [function.name for function in op.get_attr("branches")]
            chosen = names if value is None else [names[int(value) if 0 <= int(value) < len(names) else -1]]
        else:
            names = [op.get_attr("then_branch").name, op.get_attr("else_branch").name]
            chosen = names if value is None else [names[0 if value else 1]]
        columns = zip(*(self._called(name, op.inputs[1:], taken[1:]) for name in chosen), strict=True)
        return [_all_joined(list(column), op.name) for column in columns]

    def _loop(self, op: tf.Operation, taken: Sequence[Layout]) -> Sequence[Layout]:
        carried, shapes = list(taken), [tensor.shape for tensor in op.inputs]
        for _ in range(_PASSES):
            (goes_on,) = self._called(op.get_attr("cond").name, op.inputs, carried, shapes)
            if not is_fixed(goes_on):
                raise NotProvedError("goes on as long as the examples, or their number, decide")
            after = self._called(op.get_attr("body").name, op.inputs, carried, shapes)
            returned = self._body(op.get_attr("body").name, op.inputs, shapes)[2]
            # What a loop carries may grow: its shape is what all passes have in common.
            general = [old.most_specific_compatible_shape(new.shape) for old, new in zip(shapes, returned, strict=True)]
            both = [joined(old, new, op.name) for old, new in zip(carried, after, strict=True)]
            if both == carried and list(map(str, general)) == list(map(str, shapes)):
                return carried
            carried, shapes = both, general
        raise NotProvedError("is a loop that is too entangled")

    # --- functions ---

    def _functions(self) -> Mapping[str, Any]:
        if self._library is None:
            self._library = self._graph.as_graph_def().library
            self._by_name = {function.signature.name: function for function in self._library.function}
        return self._by_name

    def _called(
        self,
        name: str,
        inputs: Sequence[tf.Tensor],
        taken: Sequence[Layout],
        shapes: Sequence[tf.TensorShape] | None = None,
    ) -> list[Layout]:
        ops, arguments, returned = self._body(name, inputs, shapes or [tensor.shape for tensor in inputs])
        known = self.run(ops, {argument.ref(): layout for argument, layout in zip(arguments, taken, strict=True)})
        missing = Mixed(name, "returns what is never computed")
        return [known.get(tensor.ref(), missing) for tensor in returned]

    def _body(
        self, name: str, inputs: Sequence[tf.Tensor], shapes: Sequence[tf.TensorShape]
    ) -> tuple[list[tf.Operation], list[tf.Tensor], list[tf.Tensor]]:
        if name not in self._functions():
            raise NotProvedError(f"calls {name}, which the graph does not hold")
        handles = [_handle(tensor) for tensor in inputs]
        key = (name, *map(str, shapes), *(handle and str(handle.attr["shape"]) for handle in handles))
        if key not in self._bodies:
            function = self._functions()[name]
            with self._graph.as_default():  # where the functions that it calls are looked up
                graph_def, flat = function_to_graph_def(function, [shape.as_proto() for shape in shapes])
            graph_def.library.CopyFrom(self._library_of(graph_def.node))
            arguments = [arg.name for arg in function.signature.input_arg]
            _with_arguments(graph_def, dict(zip(arguments, zip(shapes, handles, strict=True), strict=True)))
            returned = [flat[function.ret[arg.name]] for arg in function.signature.output_arg]
            with tf.Graph().as_default() as body:
                tf.import_graph_def(graph_def, name="")
            tensors = [body.get_tensor_by_name(tensor) for tensor in returned]
            ops = needed(tensor.op for tensor in tensors)
            placed = [body.get_tensor_by_name(f"{argument}:0") for argument in arguments]
            self._bodies[key] = ops, placed, tensors
        return self._bodies[key]

    def _library_of(self, nodes: Iterable[Any]) -> Any:
        """Return the functions that nodes call, and those that these call: to import all for each body takes long."""
        library, functions, waiting = type(self._library)(), dict(self._functions()), list(nodes)
        while waiting:
            node = waiting.pop()
            for name in called_in(node):
                if function := functions.pop(name, None):
                    library.function.append(function)
                    waiting += function.node_def
        library.gradient.extend(each for each in self._library.gradient if each.function_name not in functions)
        return library


def _all_joined(reached: Sequence[Layout], op: str) -> Layout:
    result = reached[0]
    for layout in reached[1:]:
        result = joined(result, layout, op)
    return result


def _handle(tensor: tf.Tensor) -> Any:
    """Return the NodeDef of the variable that a tensor is the handle of, or None."""
    while tensor.dtype == tf.resource and tensor.op.type not in VARIABLES and tensor.op.inputs:
        tensor = tensor.op.inputs[0]
    return tensor.op.node_def if tensor.dtype == tf.resource and tensor.op.type in VARIABLES else None


def _with_arguments(graph_def: Any, arguments: Mapping[str, tuple[tf.TensorShape, Any]]) -> None:
    """Give the arguments of a function the shapes that they have in this call; a variable takes its handle's place."""
    for node in graph_def.node:
        node.attr.pop("_class", None)  # Beside which op it is to lie, which need not be there.
        if node.name not in arguments:
            continue
        shape, handle = arguments[node.name]
        node.attr["shape"].shape.CopyFrom(shape.as_proto())
        if handle is not None:  # What is read of it then has a shape.
            node.op = "VarHandleOp"
            node.attr.clear()
            for attribute in ("dtype", "shape"):
                node.attr[attribute].CopyFrom(handle.attr[attribute])
