"""A model of Keras as a graph: built by Keras's own code and traced in inference mode, its values never made.

The model is built in a scope in which Keras creates no values. When it is traced, a placeholder stands for each
variable, which so is known by the variable itself and not by a name or a number.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import tf_private
from tfxfer.errors import GraphError, MissingPackageError
from tfxfer.graph_def.inlining import CALLS, inline
from tfxfer.networks.graph_file import FileVariable, GraphFile

_CUSTOM_GRADIENT = "_gradient_op_type"


def load_keras() -> Any:
    """Import Keras, which must use TensorFlow.

    Raises:
      GraphError: it uses another backend.
      MissingPackageError: it is not installed.
    """
    try:
        keras = importlib.import_module("keras")
        backend = keras.backend.backend()
    except ImportError as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        if backend == "tensorflow":
            raise MissingPackageError(f"Keras builds this network, and cannot be imported: {error}") from None
    if backend != "tensorflow":
        raise GraphError(
            f"Keras uses {backend}, and a network for a graph of TensorFlow needs its TensorFlow backend; set the "
            "environment variable KERAS_BACKEND=tensorflow before Keras is imported"
        )
    return keras


@contextlib.contextmanager
def building() -> Iterator[Any]:
    """Let Keras build models that have no values, within any graph; the names of layers count from the beginning."""
    keras = load_keras()
    with tf_private.keras_apart(), keras.StatelessScope(initialize_variables=False):
        yield keras


def trace(
    model: Any,
    variables: Mapping[str, Any],
    *,
    path: str,
    kind: str,
    size: Sequence[int] | None = None,
) -> GraphFile:
    """Describe a model as the graph that it computes in inference mode; called within `building`.

    Args:
      model: the model.
      variables: its variables by the names that they get.
      path, kind: as of `GraphFile`.
      size: height and width of its input, where the model leaves them open. Default: as the model says.

    Returns:
      A GraphFile without weights. Its endpoints are the layers, by name, `OUTER/INNER` in a model within the model;
      of a layer that is called several times, further outputs are `NAME/call_1` and so on.

    Raises:
      GraphError: Keras does not tell the input of the model, or the model hides variables or needs tables.
    """
    _check(model, path)
    for layer in _once(_layers(model)).values():
        layer.trainable = True  # what was frozen in Keras may be trained; statistics never are
    tracing = _Tracing(model, list(variables.values()), size)
    function = tf.function(tracing.run, autograph=False).get_concrete_function(*tracing.signature())
    places = [tensor.name.removesuffix(":0") for tensor in function.inputs]
    graph_def = function.graph.as_graph_def()
    _embed(graph_def, dict(zip(places[-len(function.captured_inputs) :], function.captured_inputs, strict=False)), path)
    inputs = dict(zip(places[: tracing.inputs], model.inputs, strict=True))
    new = _new_names(graph_def, inputs, dict(zip(places[tracing.inputs :], variables, strict=False)))
    _thaw(graph_def, places[tracing.inputs :])
    _rename(graph_def, new)
    return GraphFile(
        path=path,
        kind=kind,
        graph_def=inline(graph_def),
        variables={new[place]: _described(name, variables[name], new[place])
                   for place, name in zip(places[tracing.inputs :], variables, strict=False)},
        inputs=tuple(f"{new[place]}:0" for place in inputs),
        outputs=tuple(_renamed(name, new) for name in tracing.outputs),
        endpoints={name: _renamed(tensor, new) for name, tensor in tracing.endpoints.items()},
    )  # fmt: skip


class _Tracing:
    """One call of a model, with tensors in the place of its variables."""

    def __init__(self, model: Any, variables: Sequence[Any], size: Sequence[int] | None) -> None:
        self.keras = load_keras()
        self.model = model
        self.variables = variables
        self.size = size
        self.inputs = len(model.inputs)
        self.outputs: list[str] = []
        self.endpoints: dict[str, str] = {}

    def signature(self) -> list[tf.TensorSpec]:
        """Return the specs of the inputs and then of the variables."""
        shapes = [_shape(tensor.shape, self.size) for tensor in self.model.inputs]
        specs = [tf.TensorSpec(shape, tensor.dtype) for shape, tensor in zip(shapes, self.model.inputs, strict=True)]
        return specs + [tf.TensorSpec(variable.shape, variable.dtype) for variable in self.variables]

    def run(self, *tensors: tf.Tensor) -> None:
        """Call the model, and note the names of what its layers return."""
        values = zip(self.variables, tensors[self.inputs :], strict=True)
        structure = getattr(self.model, "input", self.model.inputs[0])  # a sequential model does not tell it
        inputs = self.keras.tree.pack_sequence_as(structure, list(tensors[: self.inputs]))
        layers = _once(_layers(self.model))
        with self.keras.StatelessScope(values, initialize_variables=False):
            for layer in layers.values():
                if hasattr(layer, "finalize_state"):  # a preprocessing layer computes some values when it is built
                    layer.finalize_state()
            with contextlib.ExitStack() as stack:
                for name, layer in layers.items():
                    stack.enter_context(_watched(layer, functools.partial(self._note, name)))
                outputs = self.model(inputs, training=False)
        self.outputs = [_name(tensor) for tensor in self.keras.tree.flatten(outputs)]

    def _note(self, layer: str, output: Any) -> None:
        if isinstance(output, tf.Tensor):
            calls = sum(name == layer or name.startswith(f"{layer}/call_") for name in self.endpoints)
            self.endpoints[f"{layer}/call_{calls}" if calls else layer] = _name(output)


def _check(model: Any, path: str) -> None:
    if not getattr(model, "inputs", None):
        raise GraphError(
            f"{path}: Keras does not tell the input of {type(model).__name__} {model.name!r}, which is not a "
            "functional or sequential model with an input; export it (model.export) and give the SavedModel"
        )


def _layers(model: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        yield f"{before}{layer.name}", layer
        if hasattr(layer, "layers"):
            yield from _layers(layer, f"{before}{layer.name}/")


def _once(layers: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return layers by name; one that stands in several models has the first name."""
    seen: dict[int, tuple[str, Any]] = {}
    for name, layer in layers:
        seen.setdefault(id(layer), (name, layer))
    return dict(seen.values())


@contextlib.contextmanager
def _watched(layer: Any, note: Callable[[Any], None]) -> Iterator[None]:
    """Tell what a layer returns."""
    call = layer.call

    @functools.wraps(call)
    def watched(*args: Any, **kwargs: Any) -> Any:
        output = call(*args, **kwargs)
        note(output)
        return output

    layer.call = watched
    try:
        yield
    finally:
        del layer.call


def _name(tensor: tf.Tensor) -> str:
    """Return the name of a tensor that keeps it when functions are put in the place of their calls."""
    return tf.identity(tensor).name if tensor.op.type in CALLS else tensor.name


def _shape(shape: Sequence[int | None], size: Sequence[int] | None) -> list[int | None]:
    if size is not None and len(shape) == 4:
        return [None, *size, shape[-1]]
    return list(shape)


def _described(name: str, variable: Any, node: str) -> FileVariable:
    dtype = tf.as_dtype(variable.dtype)
    return FileVariable(
        name=name,
        tensors={f"{node}:0": False},
        shape=tuple(variable.shape),
        dtype=dtype,
        trainable=bool(variable.trainable) and dtype.is_floating,
    )


def _embed(graph_def: tf.GraphDef, captured: Mapping[str, Any], path: str) -> None:
    """Put constants in the place of what the function takes from outside itself, and forget gradients of Keras's own.

    A gradient that is a Python function exists in this process alone; behind it are ops that have gradients.
    """
    for node in graph_def.node:
        node.attr.pop(_CUSTOM_GRADIENT, None)
        if node.name in captured:
            value = captured[node.name]
            if value.dtype in (tf.resource, tf.variant):
                raise GraphError(
                    f"{path}: the model needs a table or another resource ({node.name}), which a graph alone does not "
                    "hold; save the model without its layers for text or categories"
                )
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = value.dtype.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.numpy()))


def _thaw(graph_def: tf.GraphDef, places: Collection[str]) -> None:
    """Make what stands for a variable a constant without its value, as `frozen` does, and not something to be fed."""
    for node in graph_def.node:
        if node.op == "Placeholder" and node.name in places:
            node.op = "Const"
            node.attr.pop("shape", None)


def _new_names(graph_def: tf.GraphDef, inputs: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    """Name placeholders as Keras names the inputs and the variables, where no op has that name."""
    there = {node.name for node in graph_def.node}
    new = {}
    wanted = [(place, tensor.name) for place, tensor in inputs.items()] + list(variables.items())
    for place, name in wanted:
        new[place] = name if name not in there else place
        there.add(new[place])
    return new


def _rename(graph_def: tf.GraphDef, new: Mapping[str, str]) -> None:
    for node in graph_def.node:
        node.name = new.get(node.name, node.name)
        sources = [_renamed(source, new) for source in node.input]
        del node.input[:]
        node.input.extend(sources)


def _renamed(source: str, new: Mapping[str, str]) -> str:
    mark = "^" if source.startswith("^") else ""
    node, colon, output = source.removeprefix("^").partition(":")
    return f"{mark}{new.get(node, node)}{colon}{output}"
