"""A model up to one of its endpoints, and a classifier on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph import losses
from tfxfer.graph.partitioned import wholes
from tfxfer.graph.variables import select
from tfxfer.input_spec import InputSpec
from tfxfer.models import heads
from tfxfer.models.registry import Model, find_model
from tfxfer.models.sources import check_last
from tfxfer.weights import Weights


@dataclasses.dataclass(frozen=True)
class Classifier:
    """What `build_network` built.

    Attributes:
      logits: what the classifier gives.
      endpoints: those of the model, by name.
      restored: patterns of the variables that are usually restored: those of the model.
      trained: patterns of the variables that are usually trained: those of the classifier.
    """

    logits: tf.Tensor
    endpoints: Mapping[str, tf.Tensor]
    restored: list[str]
    trained: list[str]


def build_endpoints(
    model: str | Model,
    images: tf.Tensor,
    *,
    endpoint: str | None = None,
    classes: int = 1000,
    dropout: float = 0.0,
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build a model up to an endpoint and return all its endpoints, that one among them.

    Args:
      model: a name in `registry.MODELS`, or a row such as `networks.file_model.as_model` makes of a file.
      images: uint8 [n, height, width, channels].
      endpoint: as `pool5`, or `pool5:mean`, its average over positions. Default: `Model.bottleneck`.
      classes, dropout: of the model's own classifier.
      input_spec: what the weights expect of their input.

    Raises:
      SelectionError: `model` is not the name of a network.
      GraphError: the network has no such endpoint, or it cannot be averaged.
    """
    row = find_model(model)
    endpoint = endpoint or row.bottleneck
    layer, pooling = _divided(endpoint)
    ends = row.build(images, classes=classes, last=layer, dropout=dropout, input_spec=input_spec)
    check_last(endpoint, pooling or None, ["mean"])
    if pooling:
        ends[endpoint] = averaged_over_positions(ends[layer], layer)
    return ends


def split_endpoints(text: str) -> list[str]:
    """Return the endpoints that a text names between commas: `fire8:mean,fire9:mean`, each as `build_endpoints` has it.

    Raises:
      GraphError: one is empty, or named twice.
    """
    endpoints = [piece.strip() for piece in text.split(",")]
    if not all(endpoints) or len({*endpoints}) < len(endpoints):
        raise GraphError(
            f"`endpoint={text}`: name each endpoint once, with commas between them, as fire8:mean,fire9:mean"
        )
    return endpoints


def build_several(
    model: str | Model, images: tf.Tensor, endpoints: Sequence[str], *, input_spec: InputSpec | None = None
) -> dict[str, tf.Tensor]:
    """Build a model once, as far as the deepest of some endpoints, and return these, in the order given.

    Args:
      model, images, input_spec: as `build_endpoints` takes them.
      endpoints: each as `build_endpoints` takes one. Of a network in a file, the model ends with the deepest.

    Raises:
      GraphError: the network has no such endpoint, or it cannot be averaged.
    """
    row = find_model(model)
    for endpoint in endpoints:
        check_last(row.name, endpoint if endpoint in row.endpoints else _divided(endpoint)[0], row.endpoints)
    depths = {name: depth for depth, name in enumerate(row.endpoints)}
    deepest = max(endpoints, key=lambda name: depths[name if name in depths else _divided(name)[0]])
    ends = build_endpoints(row, images, endpoint=deepest, input_spec=input_spec)
    for endpoint in endpoints:
        layer, pooling = _divided(endpoint)
        check_last(endpoint, pooling or None, ["mean"])
        if endpoint not in ends:
            ends[endpoint] = averaged_over_positions(ends[layer], layer)
    return {endpoint: ends[endpoint] for endpoint in endpoints}


def averaged_over_positions(tensor: tf.Tensor, name: str) -> tf.Tensor:
    """Return the average of an endpoint [n, height, width, channels] over its positions, `NAME:mean`.

    Raises:
      GraphError: it has no positions.
    """
    if tensor.shape.rank != 4:
        raise GraphError(f"{name} {tensor.shape} has no positions to average over; leave :mean out")
    return tf.reduce_mean(tensor, axis=[1, 2], name=f"{name.replace(':', '_')}/mean")


def _divided(endpoint: str) -> tuple[str, str]:
    """Return the layer and how it is pooled; `split:1`, the second output of an op, is not pooled."""
    layer, _, pooling = endpoint.rpartition(":")
    return (layer, pooling) if layer and not pooling.isdecimal() else (endpoint, "")


def build_network(
    model: str | Model,
    images: tf.Tensor,
    *,
    classes: int,
    endpoint: str | None = None,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
    loss: str = "softmax",
    input_spec: InputSpec | None = None,
) -> Classifier:
    """Build a model and its classifier: a new head on an endpoint, or the model's own, if `endpoint` is that.

    Args:
      model, images, endpoint, input_spec: as `build_endpoints` takes them.
      classes, hidden, dropout, loss: as `heads.classifier` takes them; the model's own classifier has no `hidden`.

    Raises:
      GraphError: the network has no such endpoint, or the head cannot be built.
    """
    row = find_model(model)
    endpoint = endpoint or row.bottleneck
    if endpoint == row.classifier:
        ends = build_endpoints(
            model, images, endpoint=endpoint, classes=classes, dropout=dropout, input_spec=input_spec
        )
        logits = ends[endpoint]
        base, head = select(".*", exclude=row.head), select(row.head)
    else:
        ends = build_endpoints(model, images, endpoint=endpoint, input_spec=input_spec)
        base = select(".*")
        logits = heads.classifier(ends[endpoint], hidden=hidden, classes=classes, dropout=dropout, loss=loss)
        head = select(".*")[len(base) :]
    restored, trained = (names.exactly(wholes(variables)) for variables in (base, head))
    return Classifier(logits, ends, restored, trained)


def build_classifier(
    model: str | Model,
    images: tf.Tensor,
    *,
    classes: int,
    endpoint: str | None = None,
    hidden: Sequence[int] = (),
    loss: str = "softmax",
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build a model and its classifier without dropout, and return all endpoints in order; the last is `prob`.

    Args:
      model, images, classes, endpoint, hidden, loss, input_spec: as `build_network` takes them; `endpoint` may be
        `prob` too, the probabilities of the model's own classifier.

    Returns:
      The endpoints of the model; where a head is put on it, `fc1`, `fc2`, ... and `logits`; and `prob`, float32
      [n, classes].
    """
    if endpoint == "prob":
        return build_endpoints(model, images, endpoint=endpoint, classes=classes, input_spec=input_spec)
    network = build_network(
        model, images, classes=classes, endpoint=endpoint, hidden=hidden, loss=loss, input_spec=input_spec
    )
    ends = {name: tensor for name, tensor in network.endpoints.items() if name != "prob"}
    if endpoint != find_model(model).classifier:
        tensor = tf.get_default_graph().get_tensor_by_name
        ends |= {f"fc{number}": tensor(f"HEAD/fc{number}/Relu:0") for number, _ in enumerate(hidden, 1)}
        ends["logits"] = network.logits
    return {**ends, "prob": losses.class_probabilities(network.logits)}


def count_classes(model: str | Model, weights: Weights | None) -> int:
    """Return how many classes the model's own classifier has in a file; 1000, ImageNet's, where the file lacks it."""
    bias = f"{find_model(model).last_layer}/bias"
    return weights.shape(bias)[0] if weights is not None and bias in weights else 1000
