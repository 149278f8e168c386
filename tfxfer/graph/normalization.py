"""What lies between an endpoint and a head: several endpoints joined, and features brought to one scale.

What is computed once for each example ends before it: features are stored as the network gives them, for any head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.data.normalization import KINDS, SMALLEST_LENGTH, SMALLEST_ROOT
from tfxfer.errors import GraphError
from tfxfer.graph import records
from tfxfer.graph.variables import model_variable

BOUNDARIES = "tfxfer_boundaries"
NORMALIZATIONS = "tfxfer_normalizations"


class Normalization(NamedTuple):
    """What `normalize` recorded of itself: names, so that a MetaGraph carries them.

    Attributes:
      features: the tensor of which the statistics are.
      mean, scale: the ops of the variables.
    """

    features: str
    mean: str
    scale: str


def normalize(features: tf.Tensor, kind: str = "standard", *, name: str = "normalize") -> tf.Tensor:
    """Bring features to one scale, by statistics of the training examples or by their own length.

    `standard` makes `<name>/mean` and `<name>/scale`, float32 [features], which nobody trains. They are NaN until
    `tfxfer.fit` begins a run, which computes them from `data.train` before the first step, or until
    `tfxfer.fit_normalization` does; from then on they are frozen, saved and exported as all else. A run that goes on
    has those of its checkpoint.

    Args:
      features: float32 [n, ..., features]. Statistics are of each place of the last axis, over all positions.
      kind: "standard", `(x - mean) * scale`, see `tfxfer.data.normalization`; "l2", each example divided by the length
        of all its features, at least 1e-12; "sqrt", the root of each feature, with its sign, then "l2", so that a few
        large features count less (power normalisation of Perronnin, Sanchez and Mensink, 2010); or "none", `features`
        as they are.
      name: the variable scope.

    Raises:
      GraphError: an unknown kind, features that are not float32 [n, ...], or so many of them as nobody knows.

    Example:
      >>> features = tf.placeholder(tf.float32, [None, 4])
      >>> logits = tx.models.heads.classifier(tx.models.heads.normalize(features), classes=3)
      >>> [variable.op.name for variable in tx.select("normalize/.*")]
      ['normalize/mean', 'normalize/scale']
    """
    if kind not in KINDS:
        raise GraphError(f"`kind={kind}`: features are normalised by {names.listed(map(repr, KINDS))}")
    if kind == "none":
        return features
    rank, size = features.shape.rank or 0, features.shape.as_list()[-1] if features.shape.rank else None
    if features.dtype != tf.float32 or rank < 2 or size is None:
        raise GraphError(
            f"{features.name} is {features.dtype.name} {features.shape}; normalised are float32 [n, ..., features], "
            "the number of features known"
        )
    with tf.variable_scope(name):
        x = boundary(features, "features")
        if kind in ("l2", "sqrt"):
            unit = _unit_length(x, "l2")
            if kind == "l2":
                return unit
            return _unit_length(unit * tf.rsqrt(tf.maximum(tf.abs(unit), SMALLEST_ROOT)), "sqrt")
        unset = tf.constant_initializer(float("nan"))
        mean, scale = (model_variable(part, [size], unset, trainable=False) for part in ("mean", "scale"))
        record = Normalization(x.name, mean.op.name, scale.op.name)
        records.add(NORMALIZATIONS, record._asdict())
        return tf.multiply(x - mean, scale, name="standard")


def join(endpoints: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Join endpoints along their last axis, each of which is stored by itself.

    Raises:
      GraphError: they differ in other axes than the last.
    """
    shapes = {name: tensor.shape.as_list()[1:-1] for name, tensor in endpoints.items()}
    if any(shape != next(iter(shapes.values())) for shape in shapes.values()):
        rows = names.listed(f"{name} {tensor.shape}" for name, tensor in endpoints.items())
        raise GraphError(f"{rows} cannot be joined, as they differ in more than the last axis; average each: NAME:mean")
    with tf.name_scope("joined"):
        return tf.concat([boundary(tensor, "part") for tensor in endpoints.values()], axis=-1, name="features")


def _unit_length(x: tf.Tensor, name: str) -> tf.Tensor:
    return tf.nn.l2_normalize(x, axis=list(range(1, x.shape.rank)), epsilon=SMALLEST_LENGTH**2, name=name)


def boundary(tensor: tf.Tensor, name: str) -> tf.Tensor:
    """Return a tensor as it is, with a mark that what is computed once for each example ends before it."""
    tensor = tf.identity(tensor, name)
    tf.add_to_collection(BOUNDARIES, tensor)
    return tensor


def normalizations(graph: tf.Graph) -> list[Normalization]:
    """Return the layers that were made in a graph and have statistics, in order; none of a MetaGraph in a scope."""
    made = [Normalization(**values) for scope, values in records.read(graph, NORMALIZATIONS) if not scope]
    known = {variable.op.name for variable in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}
    return [layer for layer in made if {layer.mean, layer.scale} <= known]


def statistics_of(graph: tf.Graph) -> dict[str, tf.Variable]:
    """Return the variables of a graph that are computed from the training examples, by name."""
    wanted = {name for record in normalizations(graph) for name in (record.mean, record.scale)}
    listed = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    return {variable.op.name: variable for variable in listed if variable.op.name in wanted}
