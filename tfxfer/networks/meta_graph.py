"""Networks out of MetaGraphs, the `.meta` beside a checkpoint."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.framework import variable_pb2

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.graph.importing import read_meta_graph
from tfxfer.graph.traversal import VARIABLES
from tfxfer.networks.graph_file import FileVariable, GraphFile
from tfxfer.weights import Weights, open_weights
from tfxfer.weights.roles import STATISTIC, role

_AVERAGE = "/ExponentialMovingAverage"


def read(
    path: str | os.PathLike[str],
    *,
    weights: Weights | None = None,
    signature: str | None = None,
) -> GraphFile:
    """Read a network from a MetaGraph, and find its checkpoint.

    Args:
      path: the file, `model.ckpt.meta`, or its prefix.
      weights: the values of its variables. Default: the checkpoint beside it, or none where there is none.
      signature: which of its SignatureDefs tells inputs and outputs, if it has several.

    Raises:
      WeightsError: the file is missing or is not a MetaGraph; the checkpoint cannot be read; or it has no
        such signature.
    """
    name = os.fspath(path)
    meta = read_meta_graph(name)
    prefix = name.removesuffix(".meta")
    if weights is None and Path(f"{prefix}.index").exists():
        weights = open_weights(prefix)
    return described(meta, name, weights, "MetaGraph", signature=signature)


def described(
    meta: tf.MetaGraphDef, path: str, weights: Weights | None, kind: str, *, signature: str | None = None
) -> GraphFile:
    """Describe the network of a MetaGraphDef.

    Raises:
      WeightsError: it has no such signature.
    """
    inputs, outputs = _declared(meta, path, signature)
    return GraphFile(
        path=path,
        kind=kind,
        graph_def=meta.graph_def,
        variables=variables_of(meta),
        weights=weights,
        inputs=inputs,
        outputs=outputs,
        signatures=tuple(sorted(name for name in meta.signature_def if not name.startswith("__"))),
        op_list=meta.meta_info_def.stripped_op_list if meta.meta_info_def.stripped_op_list.op else None,
    )


def averaged(weights: Weights | None, path: str) -> Weights:
    """Return weights in which the moving averages stand in the place of what they are averages of.

    Raises:
      WeightsError: weights are missing, or have no averages.
    """
    there = {name for name in weights or () if name.endswith(_AVERAGE)}
    if weights is None or not there:
        raise WeightsError(
            f"`moving_averages`: {weights.path if weights else path} has no variable NAME{_AVERAGE}; leave it out"
        )
    kept = [name for name in weights if f"{name}{_AVERAGE}" not in there]
    return weights.only(kept).renamed(lambda name: name.removesuffix(_AVERAGE))


def variables_of(meta: tf.MetaGraphDef) -> dict[str, FileVariable]:
    """Describe all variables of a MetaGraph, by the names of their nodes."""
    definitions = _definitions(meta)
    trained = {definition.variable_name for definition in definitions.get(tf.GraphKeys.TRAINABLE_VARIABLES, [])}
    known = {names.op_name(d.variable_name): d for every in definitions.values() for d in every}
    nodes = {node.name: node for node in meta.graph_def.node if node.op in VARIABLES}
    described = {}
    for name, node in nodes.items():
        shape = tf.TensorShape(node.attr["shape"].shape)
        if not shape.is_fully_defined():
            continue
        definition = known.get(name)
        statistic = role(name, tuple(shape), nodes) == STATISTIC
        trainable = f"{name}:0" in trained if definition is not None and trained else not statistic
        sliced = definition is not None and definition.HasField("save_slice_info_def")
        handle = node.op == "VarHandleOp"
        described[name] = FileVariable(
            name=name,
            tensors={f"{name}:0": handle, **({f"{name}/Read/ReadVariableOp:0": False} if handle else {})},
            shape=tuple(shape.as_list()),
            dtype=tf.as_dtype(node.attr["dtype"].type).base_dtype,
            trainable=trainable and not statistic,
            part=definition.save_slice_info_def if sliced and definition is not None else None,
        )
    return described


def _definitions(meta: tf.MetaGraphDef) -> Mapping[str, list[variable_pb2.VariableDef]]:
    definitions: dict[str, list[variable_pb2.VariableDef]] = {}
    for key, collection in meta.collection_def.items():
        if key.endswith("variables") and collection.WhichOneof("kind") == "bytes_list":
            values = collection.bytes_list.value
            with contextlib.suppress(DecodeError):  # somebody's own collection of something else
                definitions[key] = [variable_pb2.VariableDef.FromString(value) for value in values]
    return definitions


def _declared(meta: tf.MetaGraphDef, path: str, signature: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tensors that a signature has as inputs and as outputs."""
    there = {name: each for name, each in meta.signature_def.items() if not name.startswith("__")}
    if signature is None:
        default = tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        signature = default if default in there else next(iter(there)) if len(there) == 1 else None
    if signature is None:
        return (), ()
    if signature not in there:
        raise WeightsError(
            f"{path} has no signature {signature!r}{names.did_you_mean(signature, there)}; it has "
            f"{names.listed(there) or 'none'}"
        )
    chosen = there[signature]
    return (
        tuple(info.name for _, info in sorted(chosen.inputs.items())),
        tuple(info.name for _, info in sorted(chosen.outputs.items())),
    )
