"""Bodies of functions put in the place of their calls, so that every op of a network has a name in the graph.

TensorFlow 2 keeps a network in functions that call each other, where nothing can be named, fed or cut. An op `conv1` in
the function that `StatefulPartitionedCall` calls becomes `StatefulPartitionedCall/conv1`. Under the name of the call,
its outputs stay.
"""

from __future__ import annotations

import graphlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer import names, tf_private
from tfxfer.errors import GraphError
from tfxfer.graph_def.nodes import full_name, node_of

CALLS = {"PartitionedCall", "StatefulPartitionedCall"}  # a RemoteCall, which may compute elsewhere, stays
_OPENING = {"Switch", "RefSwitch", "Enter", "RefEnter"}
MAX_NODES = 1_000_000
# TensorFlow names a call so, within the scope in which it is made.
_CALL_NAMES = re.compile(r"^(?:.*/)?(?:Stateful)?PartitionedCall(?:_\d+)?/")
_Library = Mapping[str, Any]  # FunctionDefs by their names


def calls(graph_def: tf.GraphDef) -> list[tf.NodeDef]:
    """Return the nodes that call a function of the graph's library."""
    library = {function.signature.name for function in graph_def.library.function}
    return [node for node in graph_def.node if _called(node, library) in library]


def inline(graph_def: tf.GraphDef) -> tf.GraphDef:
    """Return the graph with the bodies of functions in the place of their calls, and of calls within them.

    Branches and loops (`If`, `While`) are not calls, and stay; of the library, what they need is kept. Where a call may
    lie in a branch or loop of Switch and Merge, all of its body waits for what the call takes, as the call does.

    Raises:
      GraphError: functions call themselves, or the graph would have millions of nodes.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    _check_size(graph_def, library)
    inlined = tf.GraphDef(versions=graph_def.versions)
    changes = _Changes({node.name for node in graph_def.node}, {}, {})
    within = _within_branches(graph_def.node)
    waiting = [(node, True, node.name in within) for node in reversed(graph_def.node)]
    while waiting:
        node, outermost, branched = waiting.pop()
        function = library.get(_called(node, library))
        if function is None:
            inlined.node.append(node)
        else:
            body = list(_body(node, function, library, changes))
            if branched:
                body += _gate(node, body, function, changes)
            within = _within_branches(body)
            waiting += [(inner, False, branched or inner.name in within) for inner in reversed(body)]
            if outermost:
                inlined.node.append(_outputs(node, function))
    for node in inlined.node:
        sources = [changed for source in node.input for changed in _sources(source, changes)]
        if sources != list(node.input):
            del node.input[:]
            node.input.extend(sources)
    inlined.library.gradient.extend(graph_def.library.gradient)
    inlined.library.function.extend(library[name] for name in _reached(inlined.node, library))
    return inlined


def short_names(nodes: Iterable[tf.NodeDef]) -> dict[str, str]:
    """Return the names below the calls of those nodes that lie in bodies of functions, where they are unique.

    A scope in which all of them lie, such as that of the model, is left out.

    Args:
      nodes: of a graph that `inline` made.

    Returns:
      Names of nodes by shorter ones.
    """
    there = [node.name for node in nodes]
    below = {name: short for name in there if (short := _CALL_NAMES.sub("", name)) != name}
    scoped = {short.partition("/")[0] for short in below.values() if "/" in short}
    if len(scoped) == 1:
        below = {name: short.removeprefix(f"{min(scoped)}/") for name, short in below.items()}
    count = Counter(below.values())
    return {short: name for name, short in below.items() if count[short] == 1 and short not in there}


def _called(node: tf.NodeDef, library: Mapping[str, object] | set[str]) -> str:
    """Return the name of the function that a node calls; an old one's name is the node's op."""
    if node.op in CALLS:
        return str(node.attr["f"].func.name)
    return node.op if node.op in library else ""


def _check_size(graph_def: tf.GraphDef, library: _Library) -> None:
    """Refuse functions that call themselves, or each other so often that it would take minutes to write them out."""
    called = {name: [_called(node, library) for node in function.node_def] for name, function in library.items()}
    sizes: dict[str, int] = {}
    try:
        for name in graphlib.TopologicalSorter(called).static_order():
            sizes[name] = sum(sizes.get(other, 1) for other in called.get(name, ())) or 1
    except graphlib.CycleError as error:
        raise GraphError(f"functions of the graph call themselves: {names.listed(error.args[1])}") from None
    if (size := sum(sizes.get(_called(node, library), 1) for node in graph_def.node)) > MAX_NODES:
        raise GraphError(f"the functions of the graph call each other so often that they are {size:,} ops")


def _reached(nodes: Iterable[tf.NodeDef], library: _Library) -> list[str]:
    """Return the names of the functions that nodes need, in the order of the library."""
    reached: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        for name in {node.op, *_named(node)} & library.keys() - reached:
            reached.add(name)
            stack += library[name].node_def
    return [name for name in library if name in reached]


def _named(node: tf.NodeDef) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        elif value.HasField("list"):
            yield from (function.name for function in value.list.func)


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


def _body(call: tf.NodeDef, function: Any, library: _Library, changes: _Changes) -> Iterator[tf.NodeDef]:
    """Yield the nodes of a body under the name of its call; note what stands for the outputs of the call."""
    nodes = {node.name: node for node in function.node_def}
    arguments = [argument.name for argument in function.signature.input_arg]
    given = dict(zip(arguments, (source for source in call.input if not source.startswith("^")), strict=True))
    controls = [source for source in call.input if source.startswith("^")]
    own = {name: changes.name(f"{call.name}/{name}") for name in nodes}

    def outside(source: str) -> str:
        """Return an input of a node of the body, or what the body returns, as it is called in the graph."""
        waited, name = source.startswith("^"), node_of(source)
        if name in given:
            return f"^{node_of(given[name])}" if waited else given[name]
        return f"^{own[name]}" if waited else f"{own[name]}:{_output(source, nodes[name], library)}"

    for place, output in enumerate(function.signature.output_arg):
        changes.tensors[f"{call.name}:{place}"] = full_name(outside(function.ret[output.name]))
    changes.waits[call.name] = [f"^{own[name]}" for name in function.control_ret.values()]
    for node in nodes.values():
        copy = tf.NodeDef()
        copy.CopyFrom(node)
        copy.name = own[node.name]
        del copy.input[:]
        copy.input.extend([*(outside(source) for source in node.input), *controls])
        yield copy


def _within_branches(nodes: Iterable[tf.NodeDef]) -> set[str]:
    """Return the names of the nodes that may lie in a branch or loop: of what comes after a Switch or an Enter."""
    takers: dict[str, list[str]] = {}
    stack: list[str] = []
    for node in nodes:
        for source in node.input:
            takers.setdefault(node_of(source), []).append(node.name)
        if node.op in _OPENING:
            stack.append(node.name)
    within: set[str] = set()
    while stack:
        after = set(takers.get(stack.pop(), ())) - within
        within |= after
        stack += after
    return within


def _gate(call: tf.NodeDef, body: list[tf.NodeDef], function: Any, changes: _Changes) -> list[tf.NodeDef]:
    """Return nodes that hand on what a call takes, for which nodes of its body without inputs are made to wait.

    Waiting for the inputs themselves would not do: a Switch computes, whichever of its outputs is not taken.
    """
    alone = [node for node in body if not node.input]
    if not alone:
        return []
    gates = []
    sources = [source for source in call.input if not source.startswith("^")]
    for source, argument in zip(sources, function.signature.input_arg, strict=True):
        gate = tf.NodeDef(name=changes.name(f"{call.name}/{argument.name}"), op="Identity", input=[source])
        gate.attr["T"].type = argument.type or call.attr[argument.type_attr].type
        gates.append(gate)
    for node in alone:
        node.input.extend(f"^{gate.name}" for gate in gates)
    return gates


def _outputs(call: tf.NodeDef, function: Any) -> tf.NodeDef:
    """Return a node of the call's name that hands its outputs on, so that what names them still finds them."""
    kinds = [output.type for output in function.signature.output_arg]
    node = tf.NodeDef(name=call.name, op="Identity" if len(kinds) == 1 else "IdentityN" if kinds else "NoOp")
    node.input.extend([f"{call.name}:{place}" for place, _ in enumerate(kinds)] or [f"^{call.name}"])
    if len(kinds) == 1:
        node.attr["T"].type = kinds[0]
    elif kinds:
        node.attr["T"].list.type.extend(kinds)
    return node


def _output(source: str, node: tf.NodeDef, library: _Library) -> int:
    """Return the number of an output that a function calls `NODE:ARGUMENT:NUMBER`, the number being within an argument
    of several tensors; of an op that TensorFlow does not know, the first such argument is taken."""
    _, argument, number = [*source.split(":"), "0", "0"][:3]
    called = library[_called(node, library)].signature if _called(node, library) in library else None
    definition = called if called is not None and node.op not in CALLS else tf_private.op_definition(node.op)
    before = 0
    for output in definition.output_arg if definition is not None else ():
        if output.name == argument:
            break
        before += _count(output, node)
    return before + int(number)


def _count(output: Any, node: tf.NodeDef) -> int:
    if output.type_list_attr:
        return len(node.attr[output.type_list_attr].list.type)
    return int(node.attr[output.number_attr].i) if output.number_attr else 1


def _sources(source: str, changes: _Changes) -> list[str]:
    """Return what takes the place of an input: of a call's output, and of waiting for a call."""
    if source.startswith("^"):
        if source[1:] not in changes.waits:
            return [source]
        return [changed for inner in changes.waits[source[1:]] for changed in _sources(inner, changes)]
    name = full_name(source)
    if name not in changes.tensors:
        return [source]
    while name in changes.tensors:  # the output of a call may be an argument that is the output of another
        name = changes.tensors[name]
    return [name.removesuffix(":0")]
