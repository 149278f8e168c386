"""A model up to one of its endpoints, and a classifier on it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import GraphError
from tfxfer.graph import losses
from tfxfer.graph.normalization import statistics_of
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
      endpoint: as `pool5`, or `pool5:mean`, its average over positions; or several, `pool4:mean,pool5:mean`, joined
        along their last axis in the order given. Default: `Model.bottleneck`.
      classes, dropout: of the model's own classifier.
      input_spec: what the weights expect of their input.

    Raises:
      SelectionError: `model` is not the name of a network.
      GraphError: the network has no such endpoint, or it cannot be averaged, or not be joined.
    """
    row = find_model(model)
    endpoint = endpoint or row.bottleneck
    parts = list(endpoint_parts(endpoint))
    ends = build_several(row, images, parts, classes=classes, dropout=dropout, input_spec=input_spec)
    if len(parts) > 1:
        ends[endpoint] = heads.join({part: ends[part] for part in parts})
    return ends


def endpoint_parts(endpoint: str) -> dict[str, tuple[str, str]]:
    """Return the endpoints that one name joins, as `fire8:mean,fire9:mean`, each with its layer and its pooling.

    Raises:
      GraphError: one is empty, or is there twice.

    Example:
      >>> tx.models.network.endpoint_parts("fire8:mean,pool10")
      {'fire8:mean': ('fire8', 'mean'), 'pool10': ('pool10', '')}
    """
    parts = [part.strip() for part in endpoint.split(",")]
    if not all(parts) or len(set(parts)) < len(parts):
        raise GraphError(
            f"`endpoint={endpoint}`: name each endpoint once, with commas between them, as pool4:mean,pool5:mean"
        )
    return {part: _divided(part) for part in parts}


def build_several(
    model: str | Model,
    images: tf.Tensor,
    endpoints: Sequence[str],
    *,
    classes: int = 1000,
    dropout: float = 0.0,
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build a model once, up to the deepest of some endpoints, and return all its endpoints, those among them.

    Args:
      model, images, classes, dropout, input_spec: as `build_endpoints` takes them.
      endpoints: the names of layers, or of their averages over positions, as `pool5:mean`.

    Raises:
      GraphError: the network has no such endpoint, or it cannot be averaged.
    """
    row = find_model(model)
    parts = {endpoint: _divided(endpoint) for endpoint in endpoints}
    for endpoint, (_, pooling) in parts.items():
        check_last(endpoint, pooling or None, ["mean"])
    layers = [layer for layer, _ in parts.values()]
    for layer in layers if len(layers) > 1 else ():  # a single one, the builder looks for
        check_last(row.name, layer, row.endpoints)
    last = max(layers, key=row.endpoints.index) if len(layers) > 1 else layers[0]
    ends = row.build(images, classes=classes, last=last, dropout=dropout, input_spec=input_spec)
    pooled = {part: averaged_over_positions(ends[layer], layer) for part, (layer, pooling) in parts.items() if pooling}
    return {**ends, **pooled}


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
    normalize: str = "none",
    input_spec: InputSpec | None = None,
) -> Classifier:
    """Build a model and its classifier: a new head on an endpoint, or the model's own, if `endpoint` is that.

    Args:
      model, images, endpoint, input_spec: as `build_endpoints` takes them.
      classes, hidden, dropout, loss: as `heads.classifier` takes them; the model's own classifier has no `hidden`.
      normalize: the kind of `heads.normalize`, which is put on the endpoint; nothing to the model's own.

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
        features = heads.normalize(ends[endpoint], normalize)
        with _head_scope(base, len(hidden)):
            logits = heads.classifier(features, hidden=hidden, classes=classes, dropout=dropout, loss=loss)
        computed = statistics_of(images.graph)
        head = [variable for variable in select(".*")[len(base) :] if variable.op.name not in computed]
    restored, trained = (names.exactly(wholes(variables)) for variables in (base, head))
    return Classifier(logits, ends, restored, trained)


@contextlib.contextmanager
def _head_scope(base: Sequence[tf.Variable], hidden: int) -> Iterator[None]:
    """Let the variables of a head begin with `head/` where the network below has a layer of one of its names."""
    layers = {"logits", *(f"fc{number}" for number in range(1, hidden + 1))}
    if layers.isdisjoint(variable.op.name.partition("/")[0] for variable in base):
        yield
        return
    with tf.variable_scope(tf.VariableScope(reuse=False, name="head"), auxiliary_name_scope=False):
        yield


def build_classifier(
    model: str | Model,
    images: tf.Tensor,
    *,
    classes: int,
    endpoint: str | None = None,
    hidden: Sequence[int] = (),
    loss: str = "softmax",
    normalize: str = "none",
    temperature: float = 1.0,
    input_spec: InputSpec | None = None,
) -> dict[str, tf.Tensor]:
    """Build a model and its classifier without dropout, and return all endpoints in order; the last is `prob`.

    Args:
      model, images, classes, endpoint, hidden, loss, normalize, input_spec: as `build_network` takes them; `endpoint`
        may be `prob` too, the probabilities of the model's own classifier.
      temperature: by what logits are divided before they become probabilities; of no use to `prob`.

    Returns:
      The endpoints of the model; where a head is put on it, `fc1`, `fc2`, ... and `logits`; and `prob`, float32
      [n, classes].
    """
    if endpoint == "prob":
        return build_endpoints(model, images, endpoint=endpoint, classes=classes, input_spec=input_spec)
    network = build_network(
        model,
        images,
        classes=classes,
        endpoint=endpoint,
        hidden=hidden,
        loss=loss,
        normalize=normalize,
        input_spec=input_spec,
    )
    ends = {name: tensor for name, tensor in network.endpoints.items() if name != "prob"}
    if endpoint != find_model(model).classifier:
        tensor = tf.get_default_graph().get_tensor_by_name
        ends |= {f"fc{number}": tensor(f"HEAD/fc{number}/Relu:0") for number, _ in enumerate(hidden, 1)}
        ends["logits"] = network.logits
    return {**ends, "prob": losses.class_probabilities(network.logits, temperature)}


def count_classes(model: str | Model, weights: Weights | None) -> int:
    """Return how many classes the model's own classifier has in a file; 1000, ImageNet's, where the file lacks it."""
    bias = f"{find_model(model).last_layer}/bias"
    return weights.shape(bias)[0] if weights is not None and bias in weights else 1000
