"""The graph as TensorBoard is to show it: a copy in which each op has a name that puts it where one looks for it.

In the graph that runs nothing is renamed. In the copy the network lies in boxes that say what becomes of it, `FROZEN`,
`TRAINED` and, of what is trained from a later epoch on, `EPOCH_10`, with the name scopes of the model in them; a
variable lies in the box of the layer that reads it; what optimizers keep is in `SOLVER/slots`, savers are in `SAVE`. So
the inputs are the only ops at top level. Where all of the network is trained, or nothing, its scopes need no such box.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import tensorflow.compat.v1 as tf

from tfxfer.graph.train_step import Step
from tfxfer.graph.traversal import VARIABLES, needed

OWN = ("LOSS", "SOLVER", "SUMMARY")  # the scopes that `train_step` makes
FROZEN, TRAINED = "FROZEN", "TRAINED"
MOST_BYTES = 1024  # of a constant that is shown with its values; TensorBoard leaves out what is longer


def display_names(step: Step) -> dict[str, str]:
    """Return by the name of each op of the step's graph what it is called where it is shown; no two are alike."""
    every = step.images.graph.get_operations()
    inputs = {tensor.op.name for tensor in (step.images, step.labels) if tensor is not None}
    variables = {op.name for op in every if op.type in VARIABLES}
    owners = {op.name: _owner(op.name, variables) for op in every}
    savers = {_top(op.name) for op in every if op.type in ("SaveV2", "RestoreV2")}
    forward = {op.name for op in needed([step.outputs.op]) if not owners[op.name]} - inputs
    scopes = {_top(name) for name in forward} - {*OWN, *forward, ""}
    homes = {name: _home(step, name, scopes, forward) for name in variables}
    boxes = _boxes(step, homes)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for op in every:
        owner = owners[op.name]
        if owner:
            name = homes[owner] + op.name[len(owner) :]
            name = name if name.startswith("SOLVER/") else boxes.of(owner, name)
        elif op.name in inputs:
            name = op.name
        elif _top(op.name) in scopes or op.name in forward:
            name = boxes.of(op.name, op.name)
        elif _top(op.name) in savers:
            name = f"SAVE/{op.name}"
        else:
            name = op.name if "/" in op.name else f"OTHER/{op.name}"
        while name in taken:
            name += "_"
        taken.add(name)
        names[op.name] = name
    return names


def display_graph(graph: tf.Graph, names: Mapping[str, str]) -> tf.GraphDef:
    """Return a copy of a graph in which ops have other names, for a writer of events.

    Of the edges from variables to savers only that from global_step is left, for there is one for each variable. The
    values of large constants are left out. An op's device is the box it lies in, for TensorBoard's "color by device".

    Args:
      graph: the graph.
      names: what `display_names` returned.
    """
    shown = graph.as_graph_def(add_shapes=True)
    for node in shown.node:
        node.name = names[node.name]
        node.input[:] = [_renamed(given, names) for given in node.input]
        box = _top(node.name)
        if box == "SAVE":
            node.input[:] = [given for given in node.input if re.match(r"\^?(SAVE/|SOLVER/(?!slots/))", given)]
            node.device = ""
        if re.fullmatch(rf"{FROZEN}|{TRAINED}|EPOCH_\d+", box):
            node.device = f"/device:{box}:0"
        node.attr.pop("_class", None)  # names of ops to be placed together, as they were
        if node.op == "Const" and node.attr["value"].tensor.ByteSize() > MOST_BYTES:
            node.attr["value"].tensor.ClearField("tensor_content")
    return shown


def display_metadata(metadata: tf.RunMetadata, names: Mapping[str, str]) -> tf.RunMetadata:
    """Return the time and memory of each op under the names by which `display_graph` shows it, and nothing else.

    What TensorFlow made of several ops (`fc1/Relu` may do what `fc1/MatMul` does too) has the name of one of them; what
    is behind none of ours is left out.
    """
    found = tf.RunMetadata()
    for device in metadata.step_stats.dev_stats:
        known = [(stats, name) for stats in device.node_stats if (name := _found(stats.node_name, names))]
        if known:
            shown = found.step_stats.dev_stats.add(device=device.device)
            for stats, name in known:
                shown.node_stats.add().CopyFrom(stats)
                shown.node_stats[-1].node_name = name
    return found


def _top(name: str) -> str:
    """Return the outermost scope of an op; of one that is in none, the empty string."""
    scope, slash, _ = name.partition("/")
    return scope if slash else ""


def _owner(name: str, variables: set[str]) -> str:
    """Return the variable that an op is part of, the innermost: `conv1/kernel` of `conv1/kernel/Assign`."""
    while name not in variables and name:
        name = name.rpartition("/")[0]
    return name


def _home(step: Step, name: str, scopes: set[str], forward: set[str]) -> str:
    """Return the name of a variable in the box of the layer that reads it."""
    ours = {variable.op.name for variable in (*step.slots, step.global_step)}
    takers = _takers(step.images.graph.get_operation_by_name(name))
    readers = [reader for reader in takers if reader in forward or _top(reader) in scopes]
    if name in ours or not readers:
        return f"SOLVER/slots/{name}" if name != step.global_step.op.name else f"SOLVER/{name}"
    scope = name.rpartition("/")[0]
    for reader in readers:
        outer, found, _ = f"/{reader}".partition(f"/{scope}/")
        if scope and found:
            return f"{outer}/{name}".lstrip("/")
    outer = _top(readers[0])
    return f"{outer}/{name}" if outer in scopes else name


def _takers(variable: tf.Operation) -> list[str]:
    """Return the names of the ops that take a variable, not those that are part of it, in the order of the graph."""
    found: list[str] = []
    queue = [variable]
    for op in queue:
        for taker in (taker for tensor in op.outputs for taker in tensor.consumers()):
            if taker.name.startswith(f"{variable.name}/"):
                queue.append(taker)
            else:
                found.append(taker.name)
    return found


class _Boxes:
    """Which ops of the network belong into which box."""

    def __init__(self, titles: list[str], within: Mapping[str, set[int]], depending: Mapping[str, int]) -> None:
        self._titles, self._within, self._depending = titles, within, depending

    def of(self, name: str, shown: str) -> str:
        """Return the shown name of an op with its box before it."""
        if len(self._titles) < 2:
            return shown
        parts = shown.split("/")
        heads = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        # By the outermost scope all of whose variables have the same fate; in a scope without any, by what it takes.
        fates = next((found for head in heads if len(found := self._within.get(head, set())) < 2), set())
        return f"{self._titles[next(iter(fates), self._depending.get(name, 0))]}/{shown}"


def _boxes(step: Step, homes: Mapping[str, str]) -> _Boxes:
    """Fate 0 is frozen, 1 trained from the first stage on, and so on."""
    first: dict[str, int] = {}
    for number, stage in enumerate(step.stages, 1):
        for variable in stage.written:
            first.setdefault(variable.op.name, number)
    within: defaultdict[str, set[int]] = defaultdict(set)
    for name, home in homes.items():
        parts = home.split("/")
        for end in range(1, len(parts) + 1):
            within["/".join(parts[:end])].add(first.get(name, 0))
    later = [f"EPOCH_{stage.epoch}" for stage in step.stages[1:]]
    inside = {first.get(name, 0) for name, home in homes.items() if not home.startswith("SOLVER/")}
    titles = [FROZEN, TRAINED, *later] if len(inside) > 1 else []
    return _Boxes(titles, within, _depending(step.images.graph, first))


def _depending(graph: tf.Graph, first: Mapping[str, int]) -> dict[str, int]:
    """Return for each op that takes something of a trained variable, directly or not, from which stage on it does."""
    found: dict[str, int] = {}
    for name in sorted(first, key=first.__getitem__):
        queue = [graph.get_operation_by_name(name)]
        while queue:
            op = queue.pop()
            if op.name not in found:
                found[op.name] = first[name]
                queue += [taker for tensor in op.outputs for taker in tensor.consumers()]
    return found


def _renamed(given: str, names: Mapping[str, str]) -> str:
    """Return an input of a node, `op`, `op:1` or `^op`, under another name."""
    caret, name, place = re.fullmatch(r"(\^?)([^:]*)(.*)", given).groups()  # type: ignore[union-attr]  # matches all
    return f"{caret}{names[name]}{place}"


def _found(name: str, names: Mapping[str, str]) -> str | None:
    """Return the shown name of an op as the executor calls it, which may be that of an optimized one."""
    fed = re.fullmatch(r"_arg_(.+)_\d+_\d+", name)
    name = fed[1] if fed else name.partition(":")[0]
    while name and name not in names:
        name = name.partition("/")[2]  # ArithmeticOptimizer/ReorderCast_HEAD/fc1/MatMul, say
    return names.get(name)
