"""Everything that tfxfer takes of TensorFlow by a private name, each with the reason; seen in TensorFlow 2.21.

It lies below all packages, since `data` decodes by a session too. TensorFlow is imported by those who call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


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
