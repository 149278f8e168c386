"""Networks out of SavedModels, of TensorFlow 1 and 2, and out of the modules of TensorFlow Hub for TensorFlow 1.

Of TensorFlow 2's, the bodies of functions take the place of their calls. Which value a variable has, the graph of
objects tells, and never a name alone: TensorFlow 2 gives the same name to several variables.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf import text_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.protobuf import saved_model_pb2, trackable_object_graph_pb2

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.tensors import Tensor
from tfxfer.graph_def import inlining
from tfxfer.graph_def.nodes import Nodes, dtype_of, node_of
from tfxfer.networks import frozen, meta_graph
from tfxfer.networks.graph_file import FileVariable, GraphFile
from tfxfer.weights import Weights, find_checkpoint, object_graph, open_weights
from tfxfer.weights.roles import STATISTIC, role
from tfxfer.weights.streams import held

GRAPH = "saved_model.pb"
_DEFAULTS = ("serving_default", "default")  # of TensorFlow, and of TensorFlow Hub
_PLACE = "_place_of_constant"  # an attribute of nodes, while their values are not in the graph
_VALUE = "VARIABLE_VALUE"
_OUTSIDE = re.compile(r"^[^A-Za-z0-9.]+|[^A-Za-z0-9_.\\/>-]")  # what a name of TensorFlow's may not have


def read(
    path: str | os.PathLike[str],
    *,
    weights: Weights | None = None,
    tags: Collection[str] | str | None = None,
    signature: str | None = None,
) -> GraphFile:
    """Read a network from a SavedModel.

    Args:
      path: the directory, or the file `saved_model.pb` in it.
      weights: other values of its variables, under their names. Default: its own.
      tags: which of its graphs is wanted, by all of its tags. Default: the only one, else `serve`, else the one
        without tags.
      signature: which of its signatures tells inputs and outputs. Default: the only one, else `serving_default`, else
        `default`.

    Raises:
      WeightsError: it is missing or corrupt, has no such graph or signature or leaves a choice, or does not tell the
        value of a variable.
    """
    name = os.fspath(path)
    directory = Path(name) if Path(name).is_dir() else Path(name).parent
    meta = _tagged(read_saved_model(directory), name, tags)
    chosen = _signature(meta, name, signature)
    prefix = directory / "variables" / "variables"
    if not find_checkpoint.is_v2(prefix):
        return _frozen(meta, name, chosen, weights)
    own = open_weights(directory)
    if meta.object_graph_def.nodes and _keeps_objects(prefix):
        return _of_objects(meta, name, chosen, own, weights, prefix)
    file = meta_graph.described(meta, name, weights or own, "SavedModel of TensorFlow 1", signature=chosen)
    return _inlined(file, meta.graph_def)


def is_saved_model(path: str) -> bool:
    """Say whether a path is a SavedModel's directory, or the graph in one."""
    return find_checkpoint.is_saved_model(Path(path))


def not_one(directory: Path) -> str:
    """Say of a directory that it is not a SavedModel's, and what lies in it."""
    there = sorted(entry.name for entry in directory.iterdir())
    inside = [name for name in there if is_saved_model(str(directory / name))]
    near = f"; there is a SavedModel in {names.listed(inside)}: give {directory / inside[-1]}" if inside else ""
    return f"{directory} is a directory without {GRAPH}; it holds {names.listed(there) or 'nothing'}{near}"


def read_saved_model(directory: Path) -> Any:
    """Read the SavedModel message of a directory, binary or as text.

    Raises:
      WeightsError: there is none, or it is corrupt, or has more than 2 GB.
    """
    file, text = directory / GRAPH, directory / "saved_model.pbtxt"
    try:
        if file.exists() or not text.exists():
            saved = saved_model_pb2.SavedModel.FromString(reading.message(file))
        else:
            file, saved = text, text_format.Parse(text.read_bytes(), saved_model_pb2.SavedModel())
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from None
    except (DecodeError, text_format.ParseError, UnicodeDecodeError):
        raise WeightsError(f"{file} is corrupt: it is not a SavedModel") from None
    if not saved.meta_graphs:
        raise WeightsError(f"{file} is corrupt: it is not a SavedModel, or one without a graph")
    return saved


# --- which graph and which signature ---


def _tagged(saved: Any, path: str, tags: Collection[str] | str | None) -> tf.MetaGraphDef:
    there = {frozenset(meta.meta_info_def.tags): meta for meta in saved.meta_graphs}
    if tags is not None:
        wanted = frozenset([tags] if isinstance(tags, str) else tags)
        choices = [wanted]
    else:
        choices = list(there) if len(there) == 1 else [frozenset(["serve"]), frozenset()]
    for choice in choices:
        if choice in there:
            return there[choice]
    listed = ", ".join(_tag_set(each) for each in there)
    if tags is not None:
        raise WeightsError(f"{path} has no graph with the tags {_tag_set(choices[0])}; it has {listed}")
    raise WeightsError(f"{path} has {len(there)} graphs; say which by its tags (`tags`): {listed}")


def _tag_set(tags: Collection[str]) -> str:
    return ",".join(sorted(tags)) or "(none)"


def _signature(meta: tf.MetaGraphDef, path: str, wanted: str | None) -> str | None:
    there = sorted(name for name in meta.signature_def if not name.startswith("__"))
    if wanted is not None and wanted not in there:
        raise WeightsError(
            f"{path} has no signature {wanted!r}{names.did_you_mean(wanted, there)}; it has "
            f"{names.listed(there) or 'none'}"
        )
    if wanted is not None or not there:
        return wanted
    default = next((name for name in _DEFAULTS if name in there), None)
    if default is None and len(there) > 1:
        raise WeightsError(f"{path} has {len(there)} signatures; name one (`signature`): {', '.join(there)}")
    return default or there[0]


# --- the graph ---


def _inlined(file: GraphFile, graph_def: tf.GraphDef) -> GraphFile:
    """Return the network with a graph whose calls are replaced, and short names for what was in them."""
    if not inlining.calls(graph_def):
        return file
    inlined = inlining.inline(graph_def)
    there = Nodes(inlined)
    short = {
        name: f"{node}:0"
        for name, node in inlining.short_names(inlined.node).items()
        if (dtype := dtype_of(there[node])) is not None and dtype.is_floating
    }
    return _replaced(file, graph_def=inlined, endpoints={**file.endpoints, **short})


def _frozen(meta: tf.MetaGraphDef, path: str, signature: str | None, weights: Weights | None) -> GraphFile:
    """Describe a SavedModel without variables, whose weights are constants."""
    arrays = _take_constants(meta.graph_def)
    file = meta_graph.described(meta, path, None, "frozen SavedModel", signature=signature)
    file = _inlined(file, _needed(meta, file.outputs) if meta.object_graph_def.nodes else meta.graph_def)
    own = Weights(path, "constants of a SavedModel", _placed(file.graph_def, arrays))
    variables = {**file.variables, **frozen.thawed(file.graph_def, own)}
    return _replaced(file, variables=variables, weights=weights or own)


def _of_objects(
    meta: tf.MetaGraphDef, path: str, signature: str | None, own: Weights, weights: Weights | None, prefix: Path
) -> GraphFile:
    """Describe a SavedModel of TensorFlow 2: what its signature calls, with variables by the graph of objects."""
    if signature is None:
        raise WeightsError(
            f"{path} has no signature, and its functions ({names.listed(_functions(meta)) or 'none'}) cannot be called "
            "without one; save it anew: tf.saved_model.save(model, DIRECTORY, signatures=model.FUNCTION)"
        )
    file = meta_graph.described(meta, path, None, "SavedModel of TensorFlow 2", signature=signature)
    graph_def = _needed(meta, file.outputs)
    own = _with_valid_names(own)
    variables = _bound_variables(meta, graph_def, own, path, prefix)
    return _inlined(_replaced(file, variables=variables, weights=weights or own, graph_def=graph_def), graph_def)


def _needed(meta: tf.MetaGraphDef, outputs: Collection[str]) -> tf.GraphDef:
    """Return what the outputs need: no Saver, no initialiser of tables."""
    graph_def = tf.GraphDef(versions=meta.graph_def.versions)
    graph_def.node.extend(Nodes(meta.graph_def).needed(outputs).nodes)
    graph_def.library.MergeFrom(meta.graph_def.library)
    return graph_def


def _functions(meta: tf.MetaGraphDef) -> list[str]:
    nodes = meta.object_graph_def.nodes
    return [child.local_name for child in nodes[0].children if nodes[child.node_id].HasField("function")]


def _replaced(file: GraphFile, **changes: Any) -> GraphFile:
    return GraphFile(**{**vars(file), **changes})


# --- the variables ---


def _with_valid_names(weights: Weights) -> Weights:
    """Give names to paths of objects that no variable may have, such as `_operations/1/_kernel`."""
    if not any(_OUTSIDE.search(name) for name in weights):
        return weights
    return weights.renamed(lambda name: _OUTSIDE.sub("", name))


def _bound_variables(
    meta: tf.MetaGraphDef, graph_def: tf.GraphDef, own: Weights, path: str, prefix: Path
) -> dict[str, FileVariable]:
    """Describe the variables that a graph captures, by the nodes of their handles.

    Raises:
      WeightsError: nothing tells the value of some.
    """
    objects = dict(_captured(meta, graph_def))
    by_key = {own.source(name): name for name in own}
    keys = _keys(meta, prefix)
    described: dict[str, FileVariable] = {}
    unknown = []
    for node in (node for node in graph_def.node if node.op == "VarHandleOp"):
        variable = meta.object_graph_def.nodes[objects[node.name]].variable if node.name in objects else None
        name = _name_in(own, by_key, keys.get(objects.get(node.name, -1), ""), variable)
        if variable is None or name is None:
            unknown.append(node.name)
        else:
            described[node.name] = _described(node, name, variable, own)
    if unknown:
        raise WeightsError(
            f"{path}: nothing tells which values of its checkpoint these variables have: {names.listed(unknown)}; save "
            "the model anew by tf.saved_model.save"
        )
    return described


def _described(node: tf.NodeDef, name: str, variable: Any, own: Weights) -> FileVariable:
    shape = own.shape(name)
    return FileVariable(
        name=name,
        tensors={f"{node.name}:0": True, f"{node.name}/Read/ReadVariableOp:0": False},
        shape=shape,
        dtype=tf.as_dtype(variable.dtype),
        trainable=variable.trainable and role(name, shape, own) != STATISTIC,
    )


def _name_in(own: Weights, by_key: Mapping[str, str], key: str, variable: Any) -> str | None:
    """Return the name that weights have for a key of a checkpoint; of a second copy, that of the first."""
    if key in by_key:
        return by_key[key]
    name = names.op_name(variable.name) if variable is not None else ""
    return name if key in own.skipped and name in own else None


def _captured(meta: tf.MetaGraphDef, graph_def: tf.GraphDef) -> Iterator[tuple[str, int]]:
    """Yield the nodes that calls capture, each with the number of the object that it stands for."""
    known = meta.object_graph_def.concrete_functions
    for call in inlining.calls(graph_def):
        function = call.attr["f"].func.name
        if function in known:
            bound = list(known[function].bound_inputs)
            sources = [node_of(source) for source in call.input if not source.startswith("^")]
            yield from zip(sources[len(sources) - len(bound) :], bound, strict=True)


def _keeps_objects(prefix: Path) -> bool:
    return bool(tf.train.load_checkpoint(str(prefix)).has_tensor(object_graph.KEY))


def _keys(meta: tf.MetaGraphDef, prefix: Path) -> dict[int, str]:
    """Return the keys that the values of objects have in the checkpoint, by the objects' numbers in the SavedModel.

    Both have a graph of the objects; an object is the same in both if the same names lead to it from the root.
    """
    content = tf.train.load_checkpoint(str(prefix)).get_tensor(object_graph.KEY)
    there = trackable_object_graph_pb2.TrackableObjectGraph.FromString(content).nodes
    here = meta.object_graph_def.nodes
    pairs, seen = [(0, 0)], {0}
    keys: dict[int, str] = {}
    while pairs:
        number, other = pairs.pop()
        keys[number] = next((value.checkpoint_key for value in there[other].attributes if value.name == _VALUE), "")
        children = {child.local_name: child.node_id for child in there[other].children}
        for child in here[number].children:
            if child.local_name in children and child.node_id not in seen:
                seen.add(child.node_id)
                pairs.append((child.node_id, children[child.local_name]))
    return keys


def _take_constants(graph_def: tf.GraphDef) -> list[np.ndarray]:
    """Take the arrays of floating numbers out of a graph, so that they are not copied with it; note which is where.

    These may be weights; a single number is a setting.
    """
    arrays: list[np.ndarray] = []
    bodies = (function.node_def for function in graph_def.library.function)
    for node in itertools.chain(graph_def.node, *bodies):
        if node.op == "Const" and tf.as_dtype(node.attr["dtype"].type).is_floating:
            tensor = node.attr["value"].tensor
            if math.prod(side.size for side in tensor.tensor_shape.dim) > 1:
                node.attr[_PLACE].i = len(arrays)
                arrays.append(tf.make_ndarray(tensor))
                node.attr["value"].Clear()
    return arrays


def _placed(graph_def: tf.GraphDef, arrays: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Return the arrays that were taken out by the names of their nodes; those of branches and loops are put back."""
    tensors: dict[str, Tensor] = {}
    for node in graph_def.node:
        if _PLACE in node.attr:
            tensors[node.name] = held(arrays[node.attr.pop(_PLACE).i])
    for node in itertools.chain(*(function.node_def for function in graph_def.library.function)):
        if _PLACE in node.attr:
            array = arrays[node.attr.pop(_PLACE).i]
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
    return tensors
