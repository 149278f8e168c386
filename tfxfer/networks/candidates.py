"""What somebody sees of a network in a file before it is imported: what goes in and out, and where it may be cut.

A candidate for an endpoint is a tensor on the way from the input to the output. Most networks have hundreds; the few
that all of the way goes through, such as what comes out of a block, are its cuts. What only changes values between two
cuts, as a bias, a normalisation or an activation does, belongs to the cut behind it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph.traversal import PLACEHOLDERS
from tfxfer.graph_def.nodes import Nodes, data_inputs, dtype_of, node_of
from tfxfer.input_spec import CHANNELS
from tfxfer.networks import importing, multiply_adds
from tfxfer.networks.graph_file import FileVariable, GraphFile
from tfxfer.weights.roles import STATISTIC, role

OF_OURS = "network of tfxfer"
_NORMALISING = ("FusedBatchNorm", "BatchNormWithGlobalNormalization")
_QUESTIONS = {"Shape", "ShapeN", "Size", "Rank", "OnesLike", "ZerosLike"}  # take nothing of the values
_PADDING = {"Pad", "PadV2", "MirrorPad", "SpaceToBatchND"}  # belongs to the layer behind it
_BRANCHES = {"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase", "Enter", "RefEnter"}
_GLUE = {"Identity", "IdentityN", "StopGradient", "Snapshot", "CheckNumerics", "PreventGradient", "Cast"}


@dataclasses.dataclass(frozen=True)
class Port:
    """A tensor that goes in or out: its full name, dtype and shape, as far as they are known."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A tensor that may be an endpoint.

    Attributes:
      name: by which it is asked for.
      tensor: its full name in the graph.
      op, dtype, shape: what makes it, and what it is; the shape is None where nobody knows the rank.
      parameters: how many there are in the variables that it needs.
      multiply_adds: how many it takes for one example, if the shapes tell.
      on_the_way: batch normalisation, dropout and the placeholders of switches that it depends on.
      cut: whether all of the way from the input to the output goes through it, and no other does the same.
    """

    name: str
    tensor: str
    op: str
    dtype: str
    shape: tuple[int | None, ...] | None
    parameters: int
    multiply_adds: int | None
    on_the_way: tuple[str, ...]
    cut: bool


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a network in a file is.

    Attributes:
      path, kind, signatures: as `GraphFile` has them.
      inputs, outputs: what the file declares, or else what has to be fed, and what nothing takes.
      input, endpoint: the way's beginning and end; empty where they cannot be chosen.
      lacking: what has to be fed besides the input.
      candidates: in order, the endpoint last.
      suggested: the cut before the last weights, a good bottleneck; empty where there is none.
      notes: what else is to be said, in sentences.
    """

    path: str
    kind: str
    signatures: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    input: str = ""
    endpoint: str = ""
    lacking: tuple[Port, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    suggested: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as a dict of strings, numbers and lists."""
        return dataclasses.asdict(self)


def inspect(
    file: GraphFile,
    *,
    input: str | None = None,
    endpoint: str | None = None,
    feeds: Mapping[str, Any] | None = None,
    image_size: int | None = None,
) -> Inspection:
    """Look at a network in a file.

    Args:
      file: as `open_graph` reads it.
      input, endpoint, feeds: as `importing.find_way` takes them. Default of `endpoint`: of several, the one that most
        comes before.
      image_size: height and width of the input, for the shapes. Default: as the file says.

    Raises:
      GraphError: a tensor that is named does not exist, or the endpoint does not come from the input.
    """
    ends = importing.possible_endpoints(file)
    end = endpoint or _furthest(file, ends)
    shown = Inspection(
        file.path,
        file.kind,
        file.signatures,
        tuple(_port(file, name) for name in _inputs(file, ends)),
        tuple(_port(file, name) for name in ends),
    )
    if not end:
        return dataclasses.replace(shown, notes=("nothing in it comes from an input, so that it has no candidates",))
    try:
        way = importing.find_way(file, input=input, endpoint=end, feeds=feeds, check=False)
    except GraphError as error:
        if input or endpoint or feeds:
            raise
        return dataclasses.replace(shown, endpoint=end, notes=(str(error).removeprefix(f"{file.path}: "),))
    return _described(shown, file, way, image_size, len(ends) > 1 and not endpoint)


def _described(shown: Inspection, file: GraphFile, way: importing.Way, size: int | None, chosen: bool) -> Inspection:
    walked = _Walk(file, way, size)
    candidates = walked.candidates()
    several = (
        f"of {len(shown.outputs)} outputs, {walked.way.endpoint} has most before it; another may be named (`endpoint`)"
    )
    return dataclasses.replace(
        shown,
        outputs=tuple(
            dataclasses.replace(port, shape=walked.output()) if port.name == walked.way.endpoint else port
            for port in shown.outputs
        ),
        input=way.input,
        endpoint=walked.way.endpoint,
        lacking=tuple(_port(file, name) for name in importing.lacking(walked.way)),
        candidates=candidates,
        suggested=_bottleneck(candidates),
        notes=(*([several] if chosen else []), *walked.notes()),
    )


def _inputs(file: GraphFile, ends: Sequence[str]) -> list[str]:
    return list(file.inputs) or list(dict.fromkeys(importing.sources(file, ends)))


def _port(file: GraphFile, name: str) -> Port:
    try:
        spec = importing.spec_of(file, name)
    except GraphError:
        return Port(name, "unknown", None)
    return Port(name, spec.dtype.name, _shape(spec.shape))


def _shape(shape: tf.TensorShape) -> tuple[int | None, ...] | None:
    return None if shape.rank is None else tuple(shape.as_list())


def _furthest(file: GraphFile, ends: Sequence[str]) -> str:
    """Return the end before which there are most nodes."""
    index = Nodes(file.graph_def)
    return max(ends, key=lambda name: len(index.needed([name]).nodes), default="")


def _bottleneck(candidates: Sequence[Candidate]) -> str:
    """Return the last cut that needs fewer parameters than the endpoint: what the last layer takes."""
    if not candidates:
        return ""
    total = candidates[-1].parameters
    before = [each.name for each in candidates if each.cut and each.parameters < total]
    return before[-1] if before else candidates[-1].name


def _behind_weights(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Leave out the cuts that come before all weights, as those of the preparation of pictures do."""
    weights = candidates[-1].parameters if candidates else 0
    return [dataclasses.replace(each, cut=each.cut and bool(each.parameters or not weights)) for each in candidates]


class _Walk:
    """The way through a network, in a graph of its own in which TensorFlow infers the shapes."""

    def __init__(self, file: GraphFile, way: importing.Way, size: int | None) -> None:
        self.file = file
        self.unknown = importing.unknown_nodes(file, way)
        beside = {name for name in importing.lacking(way) if node_of(name) == node_of(way.input)}
        self.nodes = _without(way.nodes, self.unknown, beside)
        there = {node.name for node in self.nodes}
        variables = {name: variable for name, variable in way.variables.items() if name in there}
        dependent = [node for node in way.dependent if node.name in there]
        self.way = dataclasses.replace(way, nodes=self.nodes, variables=variables, dependent=dependent)
        with tf.Graph().as_default() as self.graph:
            if dependent:
                last = way.endpoint if node_of(way.endpoint) in there else _last(dependent)
                self.way = dataclasses.replace(self.way, endpoint=last)
                importing.import_way(file, self.way, _placeholder(file, way.input, size))
        self.flow = _flow(self.nodes, way.input)
        self.costs = {name: self._cost(name) for name in self.flow}

    def candidates(self) -> tuple[Candidate, ...]:
        """Return all tensors of numbers on the way, in order."""
        before, switches = self._before(), self._switches()
        cuts = self._cuts()
        short = {tensor: name for name, tensor in self.file.endpoints.items()}
        of_ours = self.file.kind == OF_OURS  # which takes no other endpoints than these
        sizes = [math.prod(variable.shape) for variable in self.way.variables.values()]
        result = []
        for name in self.flow:
            tensor = self._tensor(name)
            if not tensor.dtype.is_floating or (of_ours and f"{name}:0" not in short):
                continue
            variables, costs, on_the_way = (_numbers(bits) for bits in before[name])
            amounts = [list(self.costs.values())[place] for place in costs]
            result.append(
                Candidate(
                    name=short.get(f"{name}:0", name),
                    tensor=f"{name}:0",
                    op=tensor.op.type,
                    dtype=tensor.dtype.base_dtype.name,
                    shape=_shape(tensor.shape),
                    parameters=sum(sizes[place] for place in variables),
                    multiply_adds=None if None in amounts else sum(amount or 0 for amount in amounts),
                    on_the_way=tuple(dict.fromkeys(list(switches.values())[place] for place in on_the_way)),
                    cut=name in cuts,
                )
            )
        return tuple(_behind_weights(result))

    def output(self) -> tuple[int | None, ...] | None:
        """Return the shape of the endpoint, as far as it was inferred."""
        return _shape(self.graph.get_tensor_by_name(self.way.endpoint).shape) if self.way.dependent else None

    def notes(self) -> Iterator[str]:
        """Yield what stands in the way of importing the network, and what was not counted."""
        if self.unknown:
            listed = names.listed([f"{name} ({kind})" for name, kind in self.unknown.items()])
            yield f"TensorFlow has no ops {listed}; what comes behind them is not listed"
        if python := importing.python_nodes(self.way):
            yield f"{names.listed(python)} run Python functions, which no file holds; what is behind cannot be imported"
        inside = [node.name for node in self.nodes if node.op in _BRANCHES]
        if inside:
            yield f"multiply-adds within branches and loops are not counted: {names.listed(inside)}"

    def _tensor(self, name: str) -> tf.Tensor:
        return self.graph.get_operation_by_name(name).outputs[0]

    def _cost(self, name: str) -> int | None:
        op = self.graph.get_operation_by_name(name)
        return multiply_adds.of(op)

    def _before(self) -> dict[str, tuple[int, int, int]]:
        """Return which variables, costs and switches each node depends on, as sets of bits."""
        places = [
            {name: place for place, name in enumerate(each)}
            for each in (self.way.variables, self.costs, self._switches())
        ]
        bits: dict[str, tuple[int, int, int]] = {}
        for node in self.nodes:
            sums = [1 << each[node.name] if node.name in each else 0 for each in places]
            for source in data_inputs(node):
                if source != self.way.input:
                    sums = [
                        mine | theirs for mine, theirs in zip(sums, bits.get(node_of(source), (0, 0, 0)), strict=True)
                    ]
            bits[node.name] = (sums[0], sums[1], sums[2])
        return bits

    def _switches(self) -> dict[str, str]:
        """Return what of the nodes is batch normalisation, dropout or a switch, in words."""
        return {node.name: words for node in self.nodes if (words := _switch(node, self.way.variables))}

    def _cuts(self) -> set[str]:
        """Return the nodes through which all of the way goes, one for each run in which only values change."""
        leading = self._leading()
        runs: list[list[str]] = []
        for place in self._narrow(leading):
            name = leading[place]
            if not self._is_layer(name):
                continue
            if runs and self._continues(runs[-1][-1], leading[leading.index(runs[-1][-1]) + 1 : place + 1]):
                runs[-1].append(name)
            else:
                runs.append([name])
        return {self._last_of(run) for run in runs}

    def _is_layer(self, name: str) -> bool:
        tensor = self._tensor(name)
        return tensor.dtype.is_floating and tensor.op.type not in _PADDING

    def _narrow(self, leading: Sequence[str]) -> Iterator[int]:
        """Yield the places in an order of nodes through which everything goes."""
        order = {name: place for place, name in enumerate(leading)}
        reach = max((order[node.name] for node in self.nodes if node.name in order and self._is_first(node)), default=0)
        for name, place in order.items():
            if reach <= place:
                yield place
            reach = max([reach, *(order[taker] for taker in self.flow[name] if taker in order)])

    def _is_first(self, node: tf.NodeDef) -> bool:
        return self.way.input in data_inputs(node)

    def _continues(self, name: str, following: Sequence[str]) -> bool:
        """Say whether the last of some nodes has the values of the first, changed one by one."""
        here, there = self._tensor(name).shape, self._tensor(following[-1]).shape
        same = here.rank is not None and here.as_list() == there.as_list()
        glue = self.graph.get_operation_by_name(following[-1]).type in _GLUE
        return all(self.costs[each] == 0 for each in following) and (same or glue)

    def _last_of(self, run: Sequence[str]) -> str:
        plain = [name for name in run if self.graph.get_operation_by_name(name).type not in _GLUE]
        return (plain or run)[-1]

    def _leading(self) -> list[str]:
        """Return the nodes of the flow that lead to the endpoint, in order."""
        leading = {node_of(self.way.endpoint)}
        for name in reversed(self.flow):
            if any(taker in leading for taker in self.flow[name]):
                leading.add(name)
        return [name for name in self.flow if name in leading]


def _without(nodes: Sequence[tf.NodeDef], unknown: Mapping[str, str], beside: Set[str]) -> list[tf.NodeDef]:
    """Return the nodes that need no unknown op, and nothing that the input's node hands out beside the input."""
    lost = set(unknown)
    kept = []
    for node in nodes:
        sources = {node_of(source) for source in node.input}
        if node.name in lost or sources & lost or not beside.isdisjoint(data_inputs(node)):
            lost.add(node.name)
        else:
            kept.append(node)
    return kept


def _is_floating(node: tf.NodeDef) -> bool:
    dtype = dtype_of(node)
    return dtype is not None and dtype.is_floating


def _last(nodes: Sequence[tf.NodeDef]) -> str:
    """Return the last tensor of numbers that no other node takes."""
    taken = {node_of(source) for node in nodes for source in node.input}
    ends = [node.name for node in nodes if node.name not in taken and _is_floating(node)]
    return f"{(ends or [nodes[-1].name])[-1]}:0"


def _flow(nodes: Sequence[tf.NodeDef], start: str) -> dict[str, list[str]]:
    """Return the nodes to which values of the input come, and not only its shape, each with those that take of it."""
    flow: dict[str, list[str]] = {}
    for node in nodes:
        sources = data_inputs(node)
        if node.op not in _QUESTIONS and any(source == start or node_of(source) in flow for source in sources):
            flow[node.name] = []
            for source in sources:
                if source != start and node_of(source) in flow:
                    flow[node_of(source)].append(node.name)
    return flow


def _switch(node: tf.NodeDef, variables: Mapping[str, FileVariable]) -> str:
    if node.op.startswith(_NORMALISING):
        return "batch norm"
    if node.name in variables:
        variable = variables[node.name]
        every = {each.name for each in variables.values()}
        return "batch norm" if role(variable.name, variable.shape, every) == STATISTIC else ""
    if node.op.startswith(("RandomUniform", "StatelessRandomUniform", "RandomStandardNormal")):
        return "dropout or noise"
    return node.name if node.op in PLACEHOLDERS and dtype_of(node) == tf.bool else ""


def _numbers(bits: int) -> list[int]:
    """Return the numbers in a set of bits."""
    return [place for place, digit in enumerate(reversed(f"{bits:b}")) if digit == "1"]


def _placeholder(file: GraphFile, name: str, size: int | None) -> tf.Tensor:
    """Make a placeholder of the input's dtype and shape, for any number of examples."""
    spec = importing.spec_of(file, name)
    shape = spec.shape.as_list() if spec.shape.rank else None
    stated = file.stated.size if file.stated else None
    if shape is None and (size or stated):
        shape = [None, None, None, 3]
    if shape is not None:
        shape[0] = None
        for place, side in enumerate(stated or (), 1) if len(shape) == 4 else ():
            shape[place] = shape[place] or side
        if size and len(shape) == 4:
            shape[1:3] = [size, size]
    return tf.placeholder(spec.dtype, shape, name="images_of_inspection")


def of_model(name: str, image_size: int | None = None) -> GraphFile:
    """Describe a network that tfxfer knows by name as if it lay in a file."""
    from tfxfer.models.registry import find_model
    from tfxfer.networks import meta_graph

    model = find_model(name)
    spec = model.input_spec
    size = (image_size, image_size) if image_size else spec.size if spec else (28, 28)
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [None, *size, CHANNELS[spec.channels] if spec else 1], name="images")
        ends = model.build(images, input_spec=dataclasses.replace(spec, size=size) if spec else None)
        meta = tf.train.export_meta_graph(graph=graph)
    file = meta_graph.described(meta, name, None, OF_OURS)
    last = list(ends.values())[-1].name
    aliases = {end: tensor.name for end, tensor in ends.items()}
    return dataclasses.replace(file, inputs=(images.name,), outputs=(last,), endpoints=aliases)
