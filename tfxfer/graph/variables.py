"""The variables of a graph: made, recorded when made, and chosen by name."""

from __future__ import annotations

import contextlib
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import variable_pb2

from tfxfer import names, tf_private
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import traversal
from tfxfer.graph.partitioned import wholes

Initializer = Callable[..., tf.Tensor]

_for_inference = ContextVar("for_inference", default=False)

NEW_GRAPH = "begin the cell, or the function, that builds the network with `with tf.Graph().as_default():`"


@contextlib.contextmanager
def inference() -> Iterator[None]:
    """Build layers within that are restored as a whole and never trained: with fewer ops, and the same outputs.

    Variables are zero until they are restored, and batch normalisations take their moving statistics without a switch.
    """
    token = _for_inference.set(True)
    try:
        yield
    finally:
        _for_inference.reset(token)


def is_for_inference() -> bool:
    """Say whether layers are being built within `inference`."""
    return _for_inference.get()


def model_variables(graph: tf.Graph | None = None, *, outputs: Iterable[tf.Tensor] = ()) -> list[tf.Variable]:
    """Return the variables that belong to a network, in the order in which they were made.

    These are what the network reads, moving statistics among them, whatever made them and whatever collection lists
    them or not; and what is trainable or recorded in `GraphKeys.MODEL_VARIABLES`. Optimizer slots, learning rates,
    metrics, averages that nobody computes with, `global_step` and other counters of steps are not.

    Args:
      graph: default: the default graph.
      outputs: tensors; with them, exactly what their values come from. Default: whatever the graph computes of its
        data or of its trained variables (see `traversal.forward_variables`).

    Raises:
      GraphError: the network reads a variable that is in no collection and has no initializer, so that nothing can be
        restored to it; all such are named.
    """
    graph = graph or tf.get_default_graph()
    known = _recorded(graph)
    # A MetaGraph that was imported into a scope has a global_step there.
    steps = {variable.op for variable in _global_steps(graph)}
    steps |= {variable.op for name, variable in known.items() if name.endswith("/global_step")}
    ops = set(traversal.variables_read(outputs)) if outputs else _belonging(graph)
    belonging = sorted(ops - steps, key=tf_private.creation_number)
    wrapped = {op.name: _wrapped(op) for op in belonging if op.name not in known}
    lost = [name for name, variable in wrapped.items() if variable is None]
    if lost:
        raise GraphError(
            f"the network reads {names.listed(lost)}, which no collection of the graph lists and which cannot be "
            "filled: an op that assigns the initial value or one that reads the variable is missing; import the "
            "MetaGraph (tf.train.import_meta_graph) and not its GraphDef alone"
        )
    variables = {**known, **wrapped}
    return [variables[op.name] for op in belonging]


def unlisted_variables(graph: tf.Graph) -> list[tf.Variable]:
    """Return what a network reads and GLOBAL_VARIABLES does not list: local variables, or those of no collection."""
    listed = {variable.op.name for variable in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}
    return [variable for variable in model_variables(graph) if variable.op.name not in listed]


def every_variable(graph: tf.Graph) -> list[tf.Variable]:
    """Return what must have a value before a graph runs: its global and local variables, and what a network reads."""
    keys = (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.LOCAL_VARIABLES)
    listed = [variable for key in keys for variable in graph.get_collection(key)]
    return list({variable.op.name: variable for variable in [*model_variables(graph), *listed]}.values())


def aliases(variables: Iterable[tf.Operation]) -> dict[str, list[str]]:
    """Return the names of the variable ops that share their memory with others among them, each with the others.

    Two variables are one in a session if they have one `shared_name`, as after importing a MetaGraph twice: whatever
    is written to one is written to the other. `import_meta_graph` keeps them apart.
    """
    members: dict[tuple[str, str], dict[str, None]] = {}
    for variable in variables:
        members.setdefault(traversal.memory_of(variable), {})[variable.name] = None
    return {
        name: [other for other in group if other != name]
        for group in members.values()
        if len(group) > 1
        for name in group
    }


def select(
    *patterns: str,
    exclude: str | Iterable[str] = (),
    among: Sequence[tf.Variable] | None = None,
    outputs: Iterable[tf.Tensor] = (),
) -> list[tf.Variable]:
    """Choose variables of the default graph by name.

    Args:
      *patterns: regular expressions that must match a whole op name: `conv.*`, `.*/kernel`.
      exclude: one or more regular expressions whose matches are left out again.
      among: what there is to choose from; default: `model_variables(outputs=outputs)`, all that belongs to the network.
      outputs: tensors; choose only among the variables that their values come from.

    Returns:
      The variables, in the order in which they were made; of one that is split, every part (see `graph.partitioned`).

    Raises:
      SelectionError: a pattern matches nothing (the nearest names are given) or is not a regular expression.
      GraphError: the network reads a variable that nothing can be restored to; see `model_variables`.

    Example:
      >>> images = tf.placeholder(tf.float32, [None, 8, 8, 3])
      >>> x = tx.graph.layers.conv2d(images, 4, 3, "conv1")
      >>> logits = tx.graph.layers.dense(tx.graph.layers.flatten(x), 10, "logits")
      >>> [variable.op.name for variable in tx.select("conv.*", "logits/bias")]
      ['conv1/kernel', 'conv1/bias', 'logits/bias']
    """
    excluded = [exclude] if isinstance(exclude, str) else list(exclude)
    _check_patterns([*patterns, *excluded])
    variables = model_variables(outputs=outputs) if among is None else among
    if patterns and not variables:
        raise SelectionError(
            f"{names.listed(patterns)} matches nothing: the list of variables to choose from is empty{_why_none()}"
        )
    table = wholes(variables)
    return [variable for name in names.match(patterns, list(table), excluded) for variable in table[name]]


def _check_patterns(patterns: Sequence[object]) -> None:
    wrong = [pattern for pattern in patterns if not isinstance(pattern, str)]
    if wrong:
        kinds = names.listed(dict.fromkeys(type(pattern).__name__ for pattern in wrong))
        raise SelectionError(
            f"select wants regular expressions, as in select('conv.*', 'fc1/kernel'), and got: {kinds}; "
            "a list of them is given as select(*patterns), variables that were chosen already as among=variables"
        )


def _why_none() -> str:
    if tf.executing_eagerly():
        return (
            "; TensorFlow executes eagerly here and builds no graph: build the network, and choose from it, "
            "within `with tf.Graph().as_default():`"
        )
    return "; build the network first, in the graph that is the default one here"


def _recorded(graph: tf.Graph) -> dict[str, tf.Variable]:
    """Return the variables that any collection of a graph lists, by op name."""
    items = (item for key in graph.get_all_collection_keys() for item in graph.get_collection(key))
    return {item.op.name: item for item in items if is_variable(item)}


def is_variable(item: object) -> bool:
    """Say whether something is a variable of a graph, and not an eager one or one that stands for several."""
    # Reference and resource variables have no public class in common.
    op = getattr(item, "op", None)
    return isinstance(op, tf.Operation) and op.type in traversal.VARIABLES and hasattr(item, "initializer")


def _belonging(graph: tf.Graph) -> set[tf.Operation]:
    read = set(traversal.forward_variables(graph))
    keys = (tf.GraphKeys.MODEL_VARIABLES, tf.GraphKeys.TRAINABLE_VARIABLES)
    recorded = {variable.op for key in keys for variable in graph.get_collection(key)}
    model = {variable.op for variable in graph.get_collection(tf.GraphKeys.MODEL_VARIABLES)}
    metrics = {variable.op for variable in graph.get_collection(tf.GraphKeys.METRIC_VARIABLES)}
    # `trainable=True` is the default of TensorFlow, also for counters and learning rates, which nobody trains.
    aside = {op for op in recorded - read - model if _counts(op) or traversal.steers_optimizer(op)}
    return (read - metrics) | (recorded - aside)


def _counts(op: tf.Operation) -> bool:
    dtype = tf.as_dtype(op.get_attr("dtype"))
    return dtype.is_integer and tf.TensorShape(op.get_attr("shape")).rank == 0


def _wrapped(op: tf.Operation) -> tf.Variable | None:
    """Return a variable op that no collection lists as a `tf.Variable`; None where it cannot be filled or read."""
    initializer = traversal.initializer_of(op)
    read = traversal.read_of(op)
    if initializer is None or read is None:
        return None
    definition = variable_pb2.VariableDef(
        variable_name=op.outputs[0].name,
        initializer_name=initializer.name,
        initial_value_name=initializer.inputs[1].name,
        snapshot_name=read.name,
        is_resource=op.type == "VarHandleOp",
    )
    with op.graph.as_default():
        return tf_private.variable_of(definition)


def model_variable(name: str, shape: Sequence[int], initializer: Initializer, *, trainable: bool = True) -> tf.Variable:
    """Make a float32 variable in the current variable scope and record it as part of the model.

    Raises:
      GraphError: the graph is finalized, or holds a variable of this name that is not to be shared.
    """
    whole = "/".join(filter(None, [tf.get_variable_scope().name, name]))
    check_open(whole)
    try:
        variable = tf.get_variable(
            name,
            list(shape),
            tf.float32,
            tf.zeros_initializer() if is_for_inference() else initializer,
            trainable=trainable,
            use_resource=True,
            collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.MODEL_VARIABLES],
        )
    except ValueError as error:
        if "already exists" not in str(error):
            raise
        shared = "; to share its variables, build the second one within `tf.variable_scope('', reuse=True)`"
        raise GraphError(_doubled(whole) + shared) from None
    # What was imported, `get_variable` does not know.
    if re.fullmatch(rf"{re.escape(whole)}_\d+(:0)?", variable.name):
        raise GraphError(_doubled(whole))
    return variable


def _doubled(name: str) -> str:
    return (
        f"{name} is in the graph already: a layer of this name was built or imported here before, as it is where a "
        f"cell of a notebook runs twice. For a graph of its own, {NEW_GRAPH}; or give the layer another "
        "name, as it has within `tf.variable_scope('head')`"
    )


def check_open(wanted: str) -> None:
    """Refuse to add to a default graph to which nothing can be added.

    Args:
      wanted: what wants to add something, for the message.

    Raises:
      GraphError: the graph is finalized.
    """
    if tf.get_default_graph().finalized:
        raise GraphError(
            f"{wanted}: the graph is finalized, as tfxfer.session does when it opens one: nothing can be added. Build "
            f"all of it, summaries too, before the session; to build it once more, {NEW_GRAPH}"
        )


def global_step() -> tf.Variable:
    """Return the variable that counts the steps of training, and make it if there is none.

    As in TensorFlow 1, a variable of that name serves too, of any integer dtype and recorded in no collection.
    """
    counters = _global_steps(tf.get_default_graph())
    return counters[0] if counters else tf.train.create_global_step()


def _global_steps(graph: tf.Graph) -> list[tf.Variable]:
    named = [v for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES) if v.op.name == "global_step"]
    return graph.get_collection(tf.GraphKeys.GLOBAL_STEP) + named


def seed_for(name: str) -> list[int]:
    """Return the two integers that key what is drawn at random for `name`: the graph's seed and the name's CRC-32.

    So what a variable starts from depends on `tf.set_random_seed` (0 if it was not called) and its name alone, and not
    on what else the graph holds.
    """
    return [tf.get_default_graph().seed or 0, zlib.crc32(name.encode())]


def glorot_uniform(shape: Sequence[int], dtype: tf.DType = tf.float32, partition_info: Any = None) -> tf.Tensor:
    """Draw uniformly from +-sqrt(6 / (fan in + fan out)) (Glorot and Bengio, 2010), keyed by name.

    This is the default of `tf.layers`. It serves kernels [in, out] and [height, width, in, out] alike. A part of a
    kernel, which TensorFlow describes by `partition_info`, gets the values that it has in the whole.
    """
    whole = shape if partition_info is None else partition_info.full_shape
    receptive = math.prod(whole[:-2])
    limit = math.sqrt(6 / (receptive * (whole[-2] + whole[-1])))
    name = f"{tf.get_variable_scope().name}/kernel"
    drawn = tf.random.stateless_uniform(whole, seed_for(name), -limit, limit, dtype)
    return drawn if partition_info is None else tf.slice(drawn, partition_info.var_offset, shape)
