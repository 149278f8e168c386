"""Bodies of functions put in the place of their calls, so that every op of a network has a name in the graph.

TensorFlow 2 keeps a network in functions that call each other, where nothing can be named, fed or cut. An op `conv1` in
the function that `StatefulPartitionedCall` calls becomes `StatefulPartitionedCall/conv1`.
"""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer import tf_private
from tfxfer.errors import GraphError
from tfxfer.networks.nodes import full_name, node_of

CALLS = {"PartitionedCall", "StatefulPartitionedCall", "RemoteCall"}
MAX_NODES = 1_000_000


def calls(graph_def: tf.GraphDef) -> list[tf.NodeDef]:
    """Return the nodes that call a function of the graph's library."""
    library = {function.signature.name for function in graph_def.library.function}
    return [node for node in graph_def.node if _called(node, library) in library]


def inline(graph_def: tf.GraphDef) -> tf.GraphDef:
    """Return the graph with the bodies of functions in the place of their calls, and of calls within them.

    Branches and loops (`If`, `While`) are not calls, and stay.

    Raises:
      GraphError: functions call themselves, or the graph would have millions of nodes.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    _check_size(graph_def, library)
    with tf.Graph().as_default():
        # A body that calls functions can be taken apart where these are known.
        tf.graph_util.import_graph_def(tf.GraphDef(library=graph_def.library, versions=graph_def.versions), name="")
        while calls(graph_def):
            graph_def = _once(graph_def, library)
    return graph_def


def _check_size(graph_def: tf.GraphDef, library: Mapping[str, tf.FunctionDef]) -> None:
    called = {name: [_called(node, library) for node in function.node_def] for name, function in library.items()}
    sizes: dict[str, int] = {"": 1}
    try:
        for name in graphlib.TopologicalSorter(called).static_order():
            sizes.setdefault(name, sum(sizes.get(other, 1) for other in called.get(name, ())))
    except graphlib.CycleError as error:
        circle = " -> ".join(error.args[1])
        raise GraphError(f"functions of the graph call themselves: {circle}") from None
    if (size := sum(sizes.get(_called(node, library), 1) for node in graph_def.node)) > MAX_NODES:
        raise GraphError(f"the functions of the graph call each other so often that they are {size:,} ops")


def _called(node: tf.NodeDef, library: Mapping[str, object] | set[str]) -> str:
    """Return the name of the function that a node calls; an old one's name is the node's op."""
    if node.op in CALLS:
        return node.attr["f"].func.name
    return node.op if node.op in library else ""


def _once(graph_def: tf.GraphDef, library: Mapping[str, tf.FunctionDef]) -> tf.GraphDef:
    inlined = tf.GraphDef(versions=graph_def.versions, library=graph_def.library)
    changes = _Changes({node.name for node in graph_def.node}, {}, {})
    for node in graph_def.node:
        function = library.get(_called(node, library))
        if function is None:
            inlined.node.add().CopyFrom(node)
        else:
            inlined.node.extend(_body(node, function, changes))
    for node in inlined.node:
        sources = [changed for source in node.input for changed in _sources(source, changes)]
        if sources != list(node.input):
            del node.input[:]
            node.input.extend(sources)
    return inlined


class _Changes(NamedTuple):
    """What changes in a graph when bodies take the place of calls.

    Attributes:
      names: all names of nodes.
      tensors: what stands for an output of a call, by full name.
      waits: what stands for waiting for a call, by its name.
    """

    names: set[str]
    tensors: dict[str, str]
    waits: dict[str, list[str]]

    def name(self, wanted: str) -> str:
        """Return a name that no node has, and take it."""
        numbered = (f"{wanted}_{number}" for number in itertools.count(1))
        chosen = next(name for name in itertools.chain([wanted], numbered) if name not in self.names)
        self.names.add(chosen)
        return chosen


def _body(call: tf.NodeDef, function: tf.FunctionDef, changes: _Changes) -> Iterator[tf.NodeDef]:
    """Yield the nodes of a body under the name of its call; note what stands for the outputs of the call."""
    arguments = [argument.name for argument in function.signature.input_arg]
    body, flat = tf_private.function_to_graph_def(function, [None] * len(arguments))
    given = dict(zip(arguments, (source for source in call.input if not source.startswith("^")), strict=True))
    controls = [source for source in call.input if source.startswith("^")]
    own = {node.name: changes.name(f"{call.name}/{node.name}") for node in body.node if node.name not in given}

    def outside(source: str) -> str:
        waited, (name, _, output) = source.startswith("^"), source.removeprefix("^").partition(":")
        if name in given:
            return f"^{node_of(given[name])}" if waited else given[name]
        return f"{'^' if waited else ''}{own[name]}{f':{output}' if output else ''}"

    for place, output in enumerate(function.signature.output_arg):
        source = function.ret[output.name]
        changes.tensors[f"{call.name}:{place}"] = full_name(outside(flat.get(source, source)))
    changes.waits[call.name] = [f"^{own[name]}" for name in function.control_ret.values()]
    for node in body.node:
        if node.name in own:
            copy = tf.NodeDef()
            copy.CopyFrom(node)
            copy.name = own[node.name]
            del copy.input[:]
            copy.input.extend([*(outside(source) for source in node.input), *controls])
            yield copy


def _sources(source: str, changes: _Changes) -> list[str]:
    """Return what takes the place of an input: of a call's output, and of waiting for a call."""
    if source.startswith("^"):
        return changes.waits.get(source[1:], [source])
    name = full_name(source)
    if name not in changes.tensors:
        return [source]
    while name in changes.tensors:  # the output of a call may be an argument that is the output of another
        name = changes.tensors[name]
    return [name.removesuffix(":0")]
