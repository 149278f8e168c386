"""A network in a file as a `Model`, so that heads, steps, stores and exports take it as one of the registry."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph.importing import recorded
from tfxfer.input_spec import InputSpec
from tfxfer.models.network import endpoint_parts
from tfxfer.models.registry import Model
from tfxfer.networks import importing
from tfxfer.networks.files import open_graph
from tfxfer.networks.graph_file import GraphFile
from tfxfer.networks.network import prepared
from tfxfer.weights import Weights

_PROBABILITIES = {"Softmax", "Sigmoid"}
_PASSING = {"Identity", "Reshape", "Squeeze"}


@dataclasses.dataclass(frozen=True)
class FileModel:
    """A network in a file, and the way through it that was asked for.

    Attributes:
      file: what the file describes.
      input, endpoint: full names of tensors; of endpoints that are joined, the last one.
      wanted: what is put on it, as `build_endpoints` takes it: the endpoint, averaged (`pool:mean`), or several joined.
      feeds: values that tensors are bound to, by name.
      taken: dtype and shape of the input.
      nodes: the names of what is imported.
    """

    file: GraphFile
    input: str
    endpoint: str
    wanted: str
    feeds: Mapping[str, Any]
    taken: tf.TensorSpec
    nodes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the network is called: the file's name, without what tells its kind."""
        name = Path(self.file.path).name
        return name.removesuffix(".meta").removesuffix(".pb") or name

    @property
    def weights(self) -> Weights | None:
        """The values of its variables; None where nobody has them."""
        return self.file.weights

    @property
    def stated(self) -> InputSpec | None:
        """What the file, or the input spec beside its weights, says of pictures."""
        return self.file.input_spec(self.input)

    def model(self, input_spec: InputSpec | None = None, *, scope: str = "") -> Model:
        """Return the network as a row of the registry.

        Args:
          input_spec: what it expects of pictures, which are uint8 then. Default: it is fed images as it takes them.
          scope: what is put before the names of its ops and variables. Default: nothing.
        """

        def build(
            images: tf.Tensor, *, last: str | None = None, input_spec: InputSpec | None = None
        ) -> dict[str, tf.Tensor]:
            way = importing.find_way(self.file, input=self.input, endpoint=last or self.endpoint, feeds=self.feeds)
            x = prepared(images, self.file, way, input_spec)
            with recorded():
                *ends, (_, end) = importing.import_way(self.file, way, x, scope=scope)[0].items()
            return {**dict(ends), last or self.endpoint: end}

        nodes = (*self.nodes, self.wanted)
        return Model(self.name, build, nodes, self.wanted, first_layer="", input_spec=input_spec)


def open_model(
    path: str | os.PathLike[str],
    *,
    input: str | None = None,
    endpoint: str | None = None,
    feeds: Mapping[str, Any] | None = None,
    weights: Weights | str | os.PathLike[str] | None = None,
    **options: Any,
) -> FileModel:
    """Open a network in a file; nothing is in a graph yet.

        opened = open_model("model.ckpt.meta", endpoint="pool_3", feeds={"is_training": False})
        ends = build_endpoints(opened.model(input_spec), images)

    Args:
      path, input, feeds, weights, **options: as `tfxfer.network` takes them.
      endpoint: as `tfxfer.network` takes it; `pool:mean` is averaged over positions, and
        `mixed_7:mean,pool:mean` is both joined.

    Raises:
      SelectionError, WeightsError, GraphError: as `tfxfer.network` raises them.
    """
    file = open_graph(os.fspath(path), weights=weights, **options)
    return as_model(file, input=input, endpoint=endpoint, feeds=feeds)


def as_model(
    file: GraphFile, *, input: str | None = None, endpoint: str | None = None, feeds: Mapping[str, Any] | None = None
) -> FileModel:
    """Choose a way through a network; arguments and errors as `open_model` has them."""
    parts = list(endpoint_parts(endpoint).values()) if endpoint else [(None, "")]
    ways = [importing.find_way(file, input=input, endpoint=layer, feeds=feeds) for layer, _ in parts]
    way = max(ways, key=lambda way: len(way.nodes))
    nodes = tuple(node.name for node in way.nodes if node.name != way.input.partition(":")[0])
    ends = [each.endpoint.removesuffix(":0") for each in ways]
    if len(ends) > 1:
        _check_on_way(ends, nodes)
    wanted = ",".join(end + (pooling and f":{pooling}") for end, (_, pooling) in zip(ends, parts, strict=True))
    taken = importing.spec_of(file, way.input)
    return FileModel(file, way.input, way.endpoint, wanted, dict(feeds or {}), taken, nodes)


def _check_on_way(ends: Sequence[str], nodes: Sequence[str]) -> None:
    beside = [end for end in ends if end not in nodes]
    if beside:
        raise GraphError(
            f"`endpoint={','.join(ends)}`: {names.listed(beside)} is not on the way to the last of them; endpoints of "
            "a network in a file are joined where they lie on one way"
        )


def check_probabilities(tensor: tf.Tensor, path: str) -> None:
    """Refuse what is not the probabilities of a classifier's own classes, float [n, classes].

    Raises:
      GraphError: it is not a softmax or a sigmoid.
    """
    op = tensor.op
    while op.type in _PASSING:
        op = op.inputs[0].op
    if op.type not in _PROBABILITIES or tensor.shape.rank != 2:
        graph = tensor.graph
        there = [o.name for o in graph.get_operations() if o.type in _PROBABILITIES]
        choose = f"choose `endpoint={there[-1]}`" if there else "train a head on it"
        raise GraphError(
            f"{path}: {tensor.op.name} {tensor.shape} is a {op.type}, and not probabilities of classes, as a softmax "
            f"gives them; {choose}"
        )
