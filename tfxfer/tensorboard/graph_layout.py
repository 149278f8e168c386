"""The graph as TensorBoard is to show it: a copy in which each op has a name that puts it where one looks for it.

In the graph that runs nothing is renamed. In the copy the network lies in boxes that say what becomes of it, `FROZEN`,
`TRAINED` and, of what is trained from a later epoch on, `EPOCH_10`, with the name scopes of the model in them; a
variable lies in the box of the layer that reads it; what optimizers keep is in `SOLVER/slots`, savers are in `SAVE`. So
the inputs are the only ops at top level. Where all of the network is trained, or nothing, its scopes need no such box.
What came out of a file lies in a scope `IMPORTED` within these boxes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import tensorflow.compat.v1 as tf

from tfxfer.graph.importing import IMPORTED
from tfxfer.graph.train_step import Step
from tfxfer.graph.traversal import VARIABLES, needed, spread

OWN = ("LOSS", "SOLVER", "SUMMARY")  # the scopes that `train_step` makes
FROZEN, TRAINED = "FROZEN", "TRAINED"
MOST_BYTES = 1024  # of a constant that is shown with its values; TensorBoard leaves out what is longer


def display_names(step: Step) -> dict[str, str]:
    """Return by the name of each op of the step's graph what it is called where it is shown; no two are alike."""
    layout = _Layout(step)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for op in step.images.graph.get_operations():
        name = layout.display_name(op.name)
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
        node.input[:] = [_renamed(source, names) for source in node.input]
        box = _top(node.name)
        if box == "SAVE":
            node.input[:] = [source for source in node.input if re.match(r"\^?(SAVE/|SOLVER/(?!slots/))", source)]
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
    renamed = tf.RunMetadata()
    for device in metadata.step_stats.dev_stats:
        known = [(stats, name) for stats in device.node_stats if (name := _display_name(stats.node_name, names))]
        if known:
            shown = renamed.step_stats.dev_stats.add(device=device.device)
            for stats, name in known:
                shown.node_stats.add().CopyFrom(stats)
                shown.node_stats[-1].node_name = name
    return renamed


def _top(name: str) -> str:
    """Return the outermost scope of an op; of one that is in none, the empty string."""
    scope, slash, _ = name.partition("/")
    return scope if slash else ""


def _owner(name: str, variables: set[str]) -> str:
    """Return the variable that an op is part of, the innermost: `conv1/kernel` of `conv1/kernel/Assign`."""
    while name not in variables and name:
        name = name.rpartition("/")[0]
    return name


class _Layout:
    """Which scopes and variables the graph of a step has, and which box each belongs into."""

    def __init__(self, step: Step) -> None:
        ops = step.images.graph.get_operations()
        self._global_step = step.global_step.op.name
        self._inputs = {tensor.op.name for tensor in (step.images, step.labels) if tensor is not None}
        self._imported = set(step.images.graph.get_collection(IMPORTED))
        self._slots = {slot.op.name for slot in step.slots}
        variables = {op.name for op in ops if op.type in VARIABLES}
        self._owners = {op.name: _owner(op.name, variables) for op in ops}
        self._savers = {_top(op.name) for op in ops if op.type in ("SaveV2", "RestoreV2")}
        self._forward = {op.name for op in needed([step.outputs.op]) if not self._owners[op.name]} - self._inputs
        self._scopes = {_top(name) for name in self._forward} - {*OWN, *self._forward, ""}
        readers: defaultdict[str, list[str]] = defaultdict(list)
        for op in ops:
            for owner in dict.fromkeys(self._owners[tensor.op.name] for tensor in op.inputs):
                if owner and owner != self._owners[op.name] and self._in_network(op.name):
                    readers[owner].append(op.name)
        self._homes = {name: self._home(name, readers[name]) for name in variables}
        self._boxes = _Boxes(step, self._homes)

    def display_name(self, name: str) -> str:
        """Return what an op is called where it is shown."""
        owner = self._owners[name]
        if owner:
            home = self._homes[owner] + name.removeprefix(owner)
            return home if home.startswith("SOLVER/") else self._boxes.put(owner, home)
        if name in self._inputs:
            return name
        if self._in_network(name):
            return self._boxes.put(name, self._whence(name, name))
        if _top(name) in self._savers:
            return f"SAVE/{name}"
        return name if _top(name) else f"OTHER/{name}"

    def _whence(self, name: str, shown: str) -> str:
        """Put what came out of a file into a scope of its own."""
        return f"IMPORTED/{shown}" if name in self._imported else shown

    def _in_network(self, name: str) -> bool:
        return name in self._imported or name in self._forward or _top(name) in self._scopes

    def _home(self, name: str, readers: Sequence[str]) -> str:
        """Return the name of a variable in the scope of the layer that reads it."""
        if name == self._global_step:
            return f"SOLVER/{name}"
        if not readers or name in self._slots:
            return f"SOLVER/slots/{name}"
        return self._whence(name, self._beside(name, readers))

    def _beside(self, name: str, readers: Sequence[str]) -> str:
        scope = name.rpartition("/")[0]
        for reader in readers:
            outer, inside, _ = f"/{reader}".partition(f"/{scope}/")
            if scope and inside:
                return f"{outer}/{name}".lstrip("/")
        outer = _top(readers[0])
        return f"{outer}/{name}" if outer in self._scopes and name not in self._imported else name


class _Boxes:
    """The boxes `FROZEN`, `TRAINED` and `EPOCH_N`; they have numbers: 0 is frozen, 1 trained from the start on, ..."""

    def __init__(self, step: Step, homes: Mapping[str, str]) -> None:
        first: dict[str, int] = {}
        for number, stage in enumerate(step.stages, 1):
            for variable in stage.written:
                first.setdefault(variable.op.name, number)
        self._within: defaultdict[str, set[int]] = defaultdict(set)
        for name, home in homes.items():
            for head in _heads(home):
                self._within[head].add(first.get(name, 0))
        inside = {first.get(name, 0) for name, home in homes.items() if not home.startswith("SOLVER/")}
        later = [f"EPOCH_{stage.epoch}" for stage in step.stages[1:]]
        self._titles = [FROZEN, TRAINED, *later] if len(inside) > 1 else []
        self._depending = _depending(step.images.graph, first)

    def put(self, name: str, shown: str) -> str:
        """Return the shown name of an op with its box before it."""
        if not self._titles:
            return shown
        # By the outermost scope whose variables are all in one box; in a scope without any, by what the op takes.
        numbers = next((box for head in _heads(shown) if len(box := self._within.get(head, set())) < 2), set())
        return f"{self._titles[next(iter(numbers), self._depending.get(name, 0))]}/{shown}"


def _heads(name: str) -> list[str]:
    """Return `a`, `a/b`, `a/b/c` of `a/b/c`."""
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _depending(graph: tf.Graph, first: Mapping[str, int]) -> dict[str, int]:
    """Return for each op that takes something of a trained variable, directly or not, from which stage on it does."""
    depending: dict[str, int] = {}
    for number in sorted(set(first.values())):
        variables = [graph.get_operation_by_name(name) for name in first if first[name] == number]
        for op in spread(variables, graph.get_operations()):
            depending.setdefault(op.name, number)
    return depending


def _renamed(source: str, names: Mapping[str, str]) -> str:
    """Return an input of a node, `op`, `op:1` or `^op`, under another name."""
    caret, name, place = re.fullmatch(r"(\^?)([^:]*)(.*)", source).groups()  # type: ignore[union-attr]  # matches all
    return f"{caret}{names[name]}{place}"


def _display_name(name: str, names: Mapping[str, str]) -> str | None:
    """Return the shown name of an op as the executor calls it, which may be that of an optimized one."""
    fed = re.fullmatch(r"_arg_(.+)_\d+_\d+", name)
    name = fed[1] if fed else name.partition(":")[0]
    while name and name not in names:
        name = name.partition("/")[2]  # ArithmeticOptimizer/ReorderCast_HEAD/fc1/MatMul, say
    return names.get(name)
