"""Everything that tfxfer takes of TensorFlow and Keras by a private name, each with the reason; seen in TensorFlow 2.21
and Keras 3.15.

It lies below all packages, since `data` decodes by a session too. TensorFlow is imported by those who call.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

KERAS_OPERATOR = "operator "  # what `keras_own` puts before the names of operators


def op_definition(kind: str) -> Any:
    """Return the OpDef of a type of ops, and None for a function's name: an op knows its own, a NodeDef none."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(kind)


def creation_number(op: Any) -> int:
    """Return a number that grows from op to op of a graph: `get_operations` makes a list of all ops on each call."""
    return op._id


def variable_of(definition: Any) -> Any:
    """Return the variable that a VariableDef describes, as importing a MetaGraph makes it: `from_proto` is of a class,
    and no public function tells which."""
    import tensorflow.compat.v1 as tf
    from tensorflow.python.framework import ops

    return ops.get_from_proto_function(tf.GraphKeys.GLOBAL_VARIABLES)(definition)


def slice_info(variable: Any) -> Any:
    """Return which part of a whole a variable is (`full_name`, `full_shape`, `var_offset`, `var_shape`), or None: a
    partitioned variable knows its parts, a part does not know its whole by any public name."""
    return variable._get_save_slice_info()


def session_config(sess: Any) -> Any:
    """Return the ConfigProto that a session was opened with, an empty one where it has none: it cannot be asked for."""
    import tensorflow.compat.v1 as tf

    return getattr(sess, "_config", None) or tf.ConfigProto()


def function_to_graph_def(function: Any, shapes: Sequence[Any]) -> tuple[Any, dict[str, str]]:
    """Return a FunctionDef as a GraphDef in which shapes are inferred anew, and the names of tensors in it by those in
    the function: only functions that were traced in this process have a public graph."""
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

    return function_def_to_graph_def(function, list(shapes))


def session_callable(sess: Any, options: Any) -> Callable[..., list[np.ndarray]]:
    """Return what runs a CallableOptions: `Session.make_callable` looks its feeds up on each call, for as long as a
    small step takes."""
    return sess._make_callable_from_options(options)


def release(call: Any) -> None:
    """Keep a `session_callable` from being freed by functions of TensorFlow that are gone when the process ends."""
    call._handle = None


def set_slice_info(variable: Any, definition: Any, before: str) -> None:
    """Tell a variable which part of a whole it is, as a SaveSliceInfoDef says; a part's whole has the prefix `before`:
    TensorFlow tells it only where it splits the variable itself."""
    import tensorflow.compat.v1 as tf

    info = tf.Variable.SaveSliceInfo(save_slice_info_def=definition)
    info.full_name = f"{before}{info.full_name}"
    variable._set_save_slice_info(info)


@contextlib.contextmanager
def keras_apart() -> Iterator[None]:
    """Let Keras build models within a graph of TensorFlow 1, without a trace in what Keras keeps for the process.

    Keras needs eager execution, which `tf.init_scope` does not give within `with tf.Graph().as_default()`. The names
    of layers count up in the process, and what is not initialised would be when the user's own code leaves a scope;
    Keras tells of both only to forget everything, the user's models too.
    """
    from keras.src.backend.common import global_state  # type: ignore[import-untyped]
    from tensorflow.python.eager import context

    kept = ("object_name_uids", "uninitialized_variables")
    before = {name: global_state.get_global_attribute(name) for name in kept}
    for name in kept:
        global_state.set_global_attribute(name, None)
    try:
        with context.eager_mode():
            yield
    finally:
        for name, value in before.items():
            global_state.set_global_attribute(name, value)


def keras_unnamed(variables: Sequence[Any]) -> list[Any]:
    """Return the variables that Keras made within `keras_apart` and that are not among those given: a model does not
    list what a layer hides from it."""
    from keras.src.backend.common import global_state

    known = {id(variable) for variable in variables}
    made = global_state.get_global_attribute("uninitialized_variables") or []
    return [variable for variable in made if id(variable) not in known]


def legacy_keras_model(config: Mapping[str, Any]) -> Any:
    """Build the model of a config in HDF5, as `keras.models.load_model` does before it loads the weights: that cannot
    be left out."""
    from keras.src.legacy.saving import (  # type: ignore[import-untyped]
        json_utils,
        saving_options,
        saving_utils,
    )
    from keras.src.saving import serialization_lib  # type: ignore[import-untyped]

    with saving_options.keras_option_scope(use_legacy_config=True), serialization_lib.SafeModeScope(True):
        return saving_utils.model_from_config(json_utils.decode(json.dumps(config)), custom_objects=keras_own())


def keras_own() -> dict[str, Any]:
    """Return classes of Keras's own networks that its reader of HDF5 does not know, by the names that a config has for
    them: layers of `keras.applications`, and operators between tensors, whose names are also those of layers."""
    from keras.src import ops  # type: ignore[import-untyped]
    from keras.src.applications import convnext, inception_resnet_v2  # type: ignore[import-untyped]

    layers = {"LayerScale": convnext.LayerScale, "CustomScaleLayer": inception_resnet_v2.CustomScaleLayer}
    operators = (ops.numpy.Add, ops.numpy.Subtract, ops.numpy.Multiply, ops.numpy.TrueDivide)
    return layers | {f"{KERAS_OPERATOR}{operator.__name__}": operator for operator in operators}


def keras_places(model: Any) -> dict[str, Any]:
    """Return the variables of a model by where Keras 3 saves them, as `layers/conv2d/vars/0`: it tells only while it
    writes a file."""
    from keras.src.saving import saving_lib

    class Store(saving_lib.H5IOStore):  # type: ignore[misc]
        def __init__(self) -> None:
            self.groups: dict[str, dict[str, Any]] = {}

        def __bool__(self) -> bool:
            return True

        def make(self, path: str, metadata: Any = None) -> dict[str, Any]:
            return self.groups.setdefault(path, {})

    store = Store()
    saving_lib._save_state(model, store, None, "", set())
    return {
        f"{group}/vars/{key}".lstrip("/"): variable
        for group, variables in store.groups.items()
        for key, variable in variables.items()
    }
