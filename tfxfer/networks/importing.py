"""What an endpoint needs of a network in a file, brought into the default graph with variables that can be trained.

Only the way from the input to the endpoint is imported: no input pipeline, no optimizer, no Saver, no summary, and no
update of a moving average. Each variable is made anew, as a resource variable of the name that the file has for it.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names, tf_private
from tfxfer.errors import GraphError
from tfxfer.formats.tensors import shown
from tfxfer.graph.traversal import PLACEHOLDERS, VARIABLES
from tfxfer.graph.variables import NEW_GRAPH
from tfxfer.graph_def import inlining
from tfxfer.graph_def import nodes as walk
from tfxfer.graph_def.folding import fold
from tfxfer.graph_def.nodes import Nodes, depending, dtype_of
from tfxfer.networks.graph_file import FileVariable, GraphFile
from tfxfer.networks.initial_values import Uses, initial_value

SHOWN = 12
# What must be fed, or hands out other data each time that it is run.
_SOURCES = {"Placeholder", "PlaceholderV2", "IteratorGetNext", "IteratorGetNextSync", "ReaderReadV2", "ReaderRead"}
_TABLES = {"HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2", "AnonymousHashTable"}
_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
_FED = "tensor to be fed"
_DROPPED_ATTRIBUTES = ("_class", "_output_shapes", "_XlaCompile", "_XlaScope", "_xla_compile_id")


@dataclasses.dataclass(frozen=True)
class Way:
    """The way from an input to an endpoint through a graph that is not imported yet.

    Attributes:
      nodes: what is computed, in order, variables and constants among them.
      input, endpoint: full names of tensors.
      feeds: what is bound to a value, by full name.
      variables: those that are read.
      dependent: those of the nodes whose values come from the input.
    """

    nodes: Sequence[tf.NodeDef]
    input: str
    endpoint: str
    feeds: Mapping[str, Any]
    variables: Mapping[str, FileVariable]
    dependent: Sequence[tf.NodeDef]


def find_way(
    file: GraphFile,
    *,
    input: str | None = None,
    endpoint: str | None = None,
    feeds: Mapping[str, Any] | None = None,
    check: bool = True,
) -> Way:
    """Find what an endpoint needs, and refuse what cannot be imported.

    Args:
      file: the network.
      input: the tensor in the place of which images come. Default: what the file declares, or the only tensor that the
        endpoint needs and that has to be fed or comes from an input pipeline.
      endpoint: what is wanted. Default: what the file declares, or the only tensor that nothing takes.
      feeds: values of placeholders or of any other tensors, by name; `{"is_training": False}`.
      check: whether to refuse what cannot be imported; to look at a network, it need not be importable.

    Raises:
      GraphError: a tensor does not exist, input or endpoint cannot be chosen, the endpoint does not come from the
        input, or needs values that nothing gives, Python functions, or ops that TensorFlow does not know; all of a kind
        are named.
    """
    index = Nodes(file.graph_def)
    bound = {_tensor(file, index, name, _FED): value for name, value in (feeds or {}).items()}
    end = _tensor(file, index, endpoint, "endpoint") if endpoint else _default_endpoint(file, index)
    if bound:
        file, index = _bind(file, index, bound)
    start = _tensor(file, index, input, "input") if input else _default_input(file, index, end, bound)
    needed = index.needed([end], {start})
    dependent = depending(needed.nodes, {start})
    if walk.node_of(end) not in {node.name for node in dependent}:
        raise GraphError(
            f"{file.path}: the endpoint {end} does not come from the input {start}{_candidates(index, end, {start})}"
        )
    read = {node.name for node in needed.nodes}
    variables = {name: variable for name, variable in file.variables.items() if name in read}
    way = Way(needed.nodes, start, end, bound, variables, dependent)
    if check:
        _check(file, index, way, needed.dropped)
    return way


def import_way(
    file: GraphFile, way: Way, tensor: tf.Tensor, *, scope: str = ""
) -> tuple[dict[str, tf.Tensor], list[tf.Variable]]:
    """Import what `find_way` found into the default graph.

    Args:
      file, way: the network, and the way through it.
      tensor: what takes the place of the input, of its dtype.
      scope: what is put before all names. Default: nothing, so that they are those of the file.

    Returns:
      The tensors that come from the input, by the names of their nodes and by `GraphFile.endpoints`, in order, the
      endpoint last; and the variables.

    Raises:
      GraphError: names are in use already, or TensorFlow refuses the graph.
    """
    before = f"{scope.strip('/')}/" if scope else ""
    _check_size(file, way, tensor)
    variables = _import(file, way, {way.input: tensor}, before)
    return _endpoints(file, way, before), variables


def import_whole(file: GraphFile) -> list[tf.Variable]:
    """Import all of a network into the default graph, its placeholders as they are, and return its variables.

    Raises:
      GraphError: as `import_way` raises it.
    """
    nodes = list(Nodes(file.graph_def).values())
    return _import(file, Way(nodes, "", "", {}, file.variables, ()), {}, "")


def _import(file: GraphFile, way: Way, inputs: Mapping[str, tf.Tensor], before: str) -> list[tf.Variable]:
    """Import the nodes of a way with variables anew, under names that begin with `before`."""
    _check_free(file, way, before)
    graph_def = _graph_def(file, way)
    definitions = _add_variables(graph_def, way, before)
    taken = {source for node in graph_def.node for source in walk.data_inputs(node)} | {way.endpoint}
    try:
        with tf.name_scope(None):
            tf.graph_util.import_graph_def(
                graph_def,
                name=before.strip("/"),
                input_map={name: tensor for name, tensor in inputs.items() if name in taken},
                producer_op_list=file.op_list,
            )
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise GraphError(_refusal(file, inputs, str(error).splitlines()[0])) from None
    return [_collected(definition) for definition in definitions]


def _refusal(file: GraphFile, inputs: Mapping[str, tf.Tensor], why: str) -> str:
    shapes = [tensor.shape for tensor in inputs.values() if tensor.shape.rank == 4]
    if not shapes or not shapes[0][1:].is_fully_defined() or not re.search("(?i)dimension|shape", why):
        return f"{file.path}: TensorFlow refuses the graph: {why}"
    return (
        f"{file.path} cannot take images of {shapes[0][1]}x{shapes[0][2]}: {why}; choose another `size`, or an "
        "`endpoint` before that op"
    )


def _check_size(file: GraphFile, way: Way, tensor: tf.Tensor) -> None:
    """Refuse images of a size that no Reshape of the way can take: as long as nobody says how many images there are,
    TensorFlow takes any, and fails when it runs."""
    if tensor.shape.rank != 4 or not tensor.shape[1:].is_fully_defined() or not _reshapes(file, way):
        return
    taken = spec_of(file, way.input).shape
    with tf.Graph().as_default():
        images = tf.placeholder(tensor.dtype, [(taken.rank and taken[0]) or 1, *tensor.shape[1:]])
        try:
            _import(file, way, {way.input: images}, "")
        except GraphError as error:
            if "= Reshape[" in str(error):  # Other ops may want another number of images, which a feed has fixed.
                raise


def _reshapes(file: GraphFile, way: Way) -> bool:
    """Say whether something on a way is reshaped, and nowhere to a number of rows that the graph has fixed."""
    index = Nodes(file.graph_def)
    shapes = [index.get(walk.node_of(node.input[1])) for node in way.dependent if node.op == "Reshape"]
    known = (shape.attr["value"].tensor for shape in shapes if shape is not None and shape.op == "Const")
    return bool(shapes) and all(values.flat[0] <= 1 for values in map(tf.make_ndarray, known) if values.size)


def _tensor(file: GraphFile, index: Nodes, name: str, role: str) -> str:
    if name in file.endpoints:
        return file.endpoints[name]
    try:
        return index.tensor(name, role=role)
    except GraphError as error:
        near = "" if name.partition(":")[0] in index else names.did_you_mean(name, file.endpoints)
        there = _nameable(file, index, role)
        raise GraphError(
            f"{file.path}: {error}{near}; it has {names.listed(there[-SHOWN:], SHOWN) or 'none'}"
        ) from None


def _nameable(file: GraphFile, index: Nodes, role: str) -> list[str]:
    """Return what may be named where nothing has a name: what is fed, or else the layers, or numbers up to the ends."""
    if role == _FED:
        return [name for name, node in index.items() if node.op in PLACEHOLDERS]
    before = index.needed(possible_endpoints(file)).nodes
    return list(file.endpoints) or [node.name for node in before if _is_floating(node) and node.op != "Const"]


def _default_endpoint(file: GraphFile, index: Nodes) -> str:
    if len(file.outputs) == 1:
        return file.outputs[0]
    ends = possible_endpoints(file)
    if len(ends) == 1:
        return ends[0]
    raise GraphError(
        f"{file.path} has {len(ends)} tensors that may be the endpoint; name it (`endpoint`): "
        f"{names.listed(ends, SHOWN) or 'there is none that comes from an input'}"
    )


def possible_endpoints(file: GraphFile) -> list[str]:
    """Return the full names of the outputs that a file declares, or else of the numbers that nothing takes."""
    return list(file.outputs) or [f"{name}:0" for name in _last(Nodes(file.graph_def))]


def _last(index: Nodes) -> list[str]:
    """Return the nodes that give numbers which nothing takes, and that come from what is fed."""
    taken = {walk.node_of(source) for node in index.values() for source in node.input}
    sources = {f"{node.name}:0" for node in index.values() if node.op in _SOURCES | {"PlaceholderWithDefault"}}
    every = index.needed([f"{name}:0" for name in index if name not in taken])
    coming = {node.name for node in depending(every.nodes, sources)}
    ends = [name for name in index if name in coming and name not in taken and _is_floating(index[name])]
    return [name for name in ends if not name.startswith("gradients")] or ends


def _is_floating(node: tf.NodeDef) -> bool:
    dtype = dtype_of(node)
    return dtype is not None and dtype.is_floating


def _default_input(file: GraphFile, index: Nodes, end: str, bound: Mapping[str, Any]) -> str:
    needed = index.needed([end])
    wanting = [name for node in needed.nodes for name in _given(node) if name not in bound]
    declared = [name for name in file.inputs if walk.node_of(name) in {node.name for node in needed.nodes}]
    images = [name for name in wanting if _may_be_images(index, name)] or wanting
    for choice in (declared, images):
        if len(choice) == 1:
            _check_numbers(file, index, choice[0], needed.nodes)
            return choice[0]
    listed = [f"{name} ({_described(index, name)})" for name in declared or wanting]
    if not listed:
        raise GraphError(
            f"{file.path}: {end} needs no input that has to be fed; name the tensor in the place of which images come "
            f"(`input`){_candidates(index, end, set())}"
        )
    raise GraphError(
        f"{file.path}: {end} needs {len(listed)} inputs: {names.listed(listed, SHOWN)}; name the one that is the "
        "images (`input`), and give the others their values (`feeds`)"
    )


def _check_numbers(file: GraphFile, index: Nodes, name: str, nodes: Sequence[tf.NodeDef]) -> None:
    """Refuse an input of strings, such as encoded pictures, and name the numbers that come from it first."""
    node, _, output = name.partition(":")
    if dtype_of(index[node], int(output)) != tf.string:
        return
    behind = [f"{each.name} ({each.op})" for each in depending(nodes, {name}) if _is_numeric(each)]
    raise GraphError(
        f"{file.path}: the input {name} is of strings, such as encoded pictures; name the tensor behind their decoding "
        f"(`input`): {names.listed(behind[:SHOWN], SHOWN) or 'there is none'}"
    )


def _is_numeric(node: tf.NodeDef) -> bool:
    dtype = dtype_of(node)
    return dtype is not None and (dtype.is_floating or dtype == tf.uint8)


def _given(node: tf.NodeDef) -> Iterator[str]:
    """Yield the tensors of a node that has to be fed or hands out data, that are read or may be."""
    if node.op in _SOURCES or "Dequeue" in node.op:
        kinds = node.attr["output_types"].list.type or node.attr["component_types"].list.type or [0]
        yield from (f"{node.name}:{output}" for output, _ in enumerate(kinds))


def _may_be_images(index: Nodes, name: str) -> bool:
    node, _, output = name.partition(":")
    dtype = dtype_of(index[node], int(output))
    shape = _shape(index[node], int(output))
    return (dtype is None or dtype.is_floating or dtype == tf.uint8) and (shape.rank is None or shape.rank == 4)


def _shape(node: tf.NodeDef, output: int) -> tf.TensorShape:
    shapes = node.attr["output_shapes"].list.shape or node.attr["_output_shapes"].list.shape
    if node.op in PLACEHOLDERS:
        return tf.TensorShape(node.attr["shape"].shape) if "shape" in node.attr else tf.TensorShape(None)
    return tf.TensorShape(shapes[output]) if output < len(shapes) else tf.TensorShape(None)


def spec_of(file: GraphFile, name: str) -> tf.TensorSpec:
    """Return shape and dtype of a tensor of a file, as far as its node tells.

    Raises:
      GraphError: the dtype cannot be told.
    """
    index = Nodes(file.graph_def)
    node, _, output = name.partition(":")
    dtype = dtype_of(index[node], int(output))
    if dtype is None:
        raise GraphError(f"{file.path}: nothing tells the dtype of {name}; choose another tensor as the input")
    return tf.TensorSpec(_shape(index[node], int(output)), dtype)


def _described(index: Nodes, name: str) -> str:
    node, _, output = name.partition(":")
    dtype = dtype_of(index[node], int(output))
    return f"{dtype.name if dtype else 'unknown dtype'} {_shape(index[node], int(output))}"


def _candidates(index: Nodes, end: str, stops: Collection[str]) -> str:
    """Say which tensors lie before an endpoint and give numbers."""
    there = [node.name for node in index.needed([end], stops).nodes if _is_floating(node) and node.op != "Const"]
    return f"; before it are {names.listed(there[-SHOWN:], SHOWN)}" if there else ""


def _bind(file: GraphFile, index: Nodes, bound: Mapping[str, Any]) -> tuple[GraphFile, Nodes]:
    """Put constants in the place of what is fed, and take out the branches that are then never taken."""
    faults: list[str] = []
    values = {name: _value(index, name, value, faults) for name, value in bound.items()}
    if faults:
        raise GraphError(f"{file.path}: the values of `feeds` do not fit:\n  {shown(faults)}")
    graph_def = fold(file.graph_def, values)
    while inlining.calls(graph_def):  # of a branch that is taken
        graph_def = fold(inlining.inline(graph_def), {})
    # What is fed in the place of a variable is a constant, and no longer one.
    variables = {name: each for name, each in file.variables.items() if bound.keys().isdisjoint(each.tensors)}
    changed = dataclasses.replace(file, graph_def=graph_def, variables=variables)
    return changed, Nodes(graph_def)


def _value(index: Nodes, name: str, value: Any, faults: list[str]) -> np.ndarray:
    node, _, output = name.partition(":")
    dtype, shape = dtype_of(index[node], int(output)), _shape(index[node], int(output))
    try:
        array = np.asarray(value, dtype.as_numpy_dtype if dtype else None)
        lossless = np.array_equal(array, np.asarray(value))
    except (TypeError, ValueError, KeyError):  # NumPy has no resources
        array, lossless = np.zeros(shape.as_list() if shape.is_fully_defined() else []), False
    if not lossless:
        faults.append(f"{name} is {dtype.name if dtype else 'of unknown dtype'}, and cannot be {value!r}")
    if not shape.is_compatible_with(array.shape):
        faults.append(f"{name} has the shape {shape}, and {value!r} the shape {array.shape}")
    return array


def sources(file: GraphFile, tensors: Sequence[str]) -> list[str]:
    """Return what has to be fed, or hands out data, for tensors of a file: full names."""
    needed = Nodes(file.graph_def).needed(tensors).nodes
    taken = {source for node in needed for source in walk.data_inputs(node)} | set(tensors)
    return [name for node in needed for name in _given(node) if name in taken]


def lacking(way: Way) -> list[str]:
    """Return what has to be fed on a way besides its input, by full name."""
    taken = {source for node in way.nodes for source in walk.data_inputs(node)}
    return [name for node in way.nodes for name in _given(node) if name in taken and name != way.input]


def python_nodes(way: Way) -> list[str]:
    """Return the names of the ops on a way that run Python functions."""
    return [node.name for node in way.nodes if node.op in _PYTHON]


def unknown_nodes(file: GraphFile, way: Way) -> dict[str, str]:
    """Return the ops on a way that TensorFlow does not know, by the names of their nodes."""
    library = {function.signature.name for function in file.graph_def.library.function}
    return {
        node.name: node.op for node in way.nodes if tf_private.op_definition(node.op) is None and node.op not in library
    }


def _check(file: GraphFile, index: Nodes, way: Way, dropped: Sequence[str]) -> None:
    wanting = lacking(way)
    if wanting:
        listed = [f"{name} ({_described(index, name)})" for name in wanting]
        raise GraphError(
            f"{file.path}: {way.endpoint} also needs {names.listed(listed, SHOWN)}; give each a value (`feeds`), as "
            f"feeds={{{wanting[0].removesuffix(':0')!r}: ...}}, or choose an `input` or an `endpoint` that needs none"
        )
    python = python_nodes(way)
    if python:
        raise GraphError(
            f"{file.path}: {names.listed(python)} run Python functions, which no file holds; choose an input behind "
            "them, or an endpoint before them"
        )
    tables = [node.name for node in way.nodes if node.op in _TABLES]
    if tables:
        raise GraphError(
            f"{file.path}: {way.endpoint} reads the tables {names.listed(tables, SHOWN)}, which are filled outside of "
            "the network; choose an input behind them, or an endpoint before them"
        )
    unknown = unknown_nodes(file, way)
    if unknown:
        listed = [f"{name} ({kind})" for name, kind in unknown.items()]
        raise GraphError(
            f"{file.path}: TensorFlow {tf.__version__} has no ops {names.listed(listed, SHOWN)}; load the library that "
            "has them (tf.load_op_library), or choose an input behind them, or an endpoint before them"
        )
    unread = [node.name for node in way.nodes if node.op in VARIABLES and node.name not in way.variables]
    if unread:
        raise GraphError(f"{file.path}: nothing tells the shape of the variables {names.listed(unread, SHOWN)}")
    _check_writes(file, index, way, dropped)


def _check_writes(file: GraphFile, index: Nodes, way: Way, dropped: Sequence[str]) -> None:
    """Refuse a way that waits for an op which writes what the way reads."""
    writers = index.needed([f"{name}:0" for name in dropped]).nodes if dropped else []
    written = {
        walk.node_of(source): node.name
        for node in writers
        if node.op not in VARIABLES and ("Assign" in node.op or "Scatter" in node.op or node.op == "CountUpTo")
        for source in walk.data_inputs(node)[:1]
    }
    both = [f"{name} (by {written[name]})" for name in way.variables if name in written]
    if both:
        raise GraphError(
            f"{file.path}: {way.endpoint} reads variables that are written before, in the same step: "
            f"{names.listed(both, SHOWN)}; choose an endpoint that does not wait for that"
        )


def _check_free(file: GraphFile, way: Way, before: str) -> None:
    graph = tf.get_default_graph()
    there = {op.name for op in graph.get_operations()}
    taken = [name for name in (f"{before}{node.name}" for node in way.nodes) if name in there]
    taken = [name for name in taken if name != f"{before}{walk.node_of(way.input)}"]
    if taken:
        raise GraphError(
            f"{file.path}: the graph already has ops named {names.listed(taken, SHOWN)}; import it into a scope "
            f"(`scope`), or into a graph of its own: {NEW_GRAPH}"
        )


def _add_variables(graph_def: tf.GraphDef, way: Way, before: str) -> list[Any]:
    """Put new variables into a graph that takes those of the file, and return their VariableDefs.

    They are imported with the other nodes: TensorFlow would give another name to a node `softmax` that comes into a
    graph where a variable `softmax/weights` is already.
    """
    definitions: list[Any] = []
    renamed: dict[str, str] = {}
    seed, uses = tf.get_default_graph().seed, Uses(way.nodes)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(seed)
        for described in way.variables.values():
            variable = _variable(described, uses, before)
            definition = variable.to_proto()
            read = definition.snapshot_name
            renamed |= {name: variable.handle.name if handle else read for name, handle in described.tensors.items()}
            for field in ("variable_name", "initializer_name", "snapshot_name", "initial_value_name"):
                setattr(definition, field, f"{before}{getattr(definition, field)}")
            definitions.append(definition)
    _make_way(graph_def, {op.name for op in graph.get_operations()})
    for node in graph_def.node:
        sources = [
            source if source.startswith("^") else renamed.get(walk.full_name(source), source) for source in node.input
        ]
        if sources != list(node.input):
            del node.input[:]
            node.input.extend(sources)
    graph_def.node.extend(graph.as_graph_def().node)
    return definitions


def _make_way(graph_def: tf.GraphDef, made: Collection[str]) -> None:
    """Rename the nodes of a graph that have names of `made`, the ops that new variables consist of.

    A frozen graph holds `kernel/Read/ReadVariableOp`, as an Identity, where the network took that op of a variable.
    """
    there = {*made, *(node.name for node in graph_def.node)}
    moved = {
        name: next(free for number in itertools.count(1) if (free := f"{name}_{number}") not in there)
        for name in {node.name for node in graph_def.node}.intersection(made)
    }
    for node in graph_def.node:
        node.name = moved.get(node.name, node.name)
        for place, source in enumerate(node.input):
            name = walk.node_of(source)
            if name in moved:
                node.input[place] = source.replace(name, moved[name], 1)


def _variable(described: FileVariable, uses: Uses, before: str) -> tf.Variable:
    variable = tf.Variable(
        lambda: initial_value(described, uses, f"{before}{described.name}"),
        name=described.name,
        dtype=described.dtype,
        trainable=described.trainable,
        use_resource=True,
    )
    if described.part is not None:
        tf_private.set_slice_info(variable, described.part, before)
    return variable


def _collected(definition: Any) -> tf.Variable:
    """Return the variable that was imported under a definition, and put it where variables belong."""
    variable = tf_private.variable_of(definition)
    tf.add_to_collection(tf.GraphKeys.GLOBAL_VARIABLES, variable)
    if variable.trainable:
        tf.add_to_collection(tf.GraphKeys.TRAINABLE_VARIABLES, variable)
    return variable


def _graph_def(file: GraphFile, way: Way) -> tf.GraphDef:
    """Return the nodes that are imported: what stands for a variable, and the input, are not."""
    replaced = {name for described in way.variables.values() for name in described.tensors} | {way.input}
    left_out = {walk.node_of(name) for name in replaced}
    kept = [node for node in way.nodes if node.name not in left_out]
    there = {node.name for node in kept}
    graph_def = tf.GraphDef(versions=file.graph_def.versions, library=file.graph_def.library)
    for node in kept:
        copy = graph_def.node.add()
        copy.CopyFrom(node)
        copy.device = ""
        for attribute in _DROPPED_ATTRIBUTES:
            copy.attr.pop(attribute, None)
        if way.input and copy.op == "PlaceholderWithDefault":  # nobody feeds it any more
            copy.op = "Identity"
            copy.attr["T"].CopyFrom(copy.attr["dtype"])
            copy.attr.pop("dtype")
            copy.attr.pop("shape")
        sources = [source for source in node.input if not source.startswith("^") or walk.node_of(source) in there]
        del copy.input[:]
        copy.input.extend(sources)
    return graph_def


def _endpoints(file: GraphFile, way: Way, before: str) -> dict[str, tf.Tensor]:
    graph = tf.get_default_graph()
    ends = {}
    for node in way.dependent:
        op = graph.get_operation_by_name(f"{before}{node.name}")
        if op.outputs and op.outputs[0].dtype.is_floating:
            ends[node.name] = op.outputs[0]
    there = {node.name for node in way.dependent}
    for name, tensor in file.endpoints.items():
        if walk.node_of(tensor) in there:
            ends[name] = graph.get_tensor_by_name(f"{before}{tensor}")
    last = next((name for name, tensor in file.endpoints.items() if tensor == way.endpoint), None)
    last = last or way.endpoint.removesuffix(":0")
    end = graph.get_tensor_by_name(f"{before}{way.endpoint}")
    ends.pop(last, None)
    return {**ends, last: end}
