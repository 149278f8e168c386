"""A network in the default graph: built by its name, or out of the file that somebody has of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import DataError, GraphError, SelectionError, WeightsError
from tfxfer.graph.importing import recorded
from tfxfer.graph.normalization import join
from tfxfer.graph.preprocessing import preprocess, record
from tfxfer.graph.variables import check_open, model_variables
from tfxfer.input_spec import CHANNELS, InputSpec, with_size
from tfxfer.models.network import averaged_over_positions, build_endpoints, count_classes, endpoint_parts
from tfxfer.models.packaged import packaged_weights
from tfxfer.models.recognition import recognise
from tfxfer.models.registry import MODELS, find_model, is_keras_name
from tfxfer.networks import importing
from tfxfer.networks.files import open_graph
from tfxfer.networks.graph_file import GraphFile
from tfxfer.weights import Weights


@dataclasses.dataclass(frozen=True)
class Network:
    """What `network` built or imported. `network["pool_3"]` is an endpoint, or any other tensor by its name.

    Attributes:
      images: the placeholder that pictures are fed to.
      endpoints: tensors that come from the images, by name, in order.
      variables: all that the endpoints read, in the order in which they were made.
      weights: the values of the variables, under their names, to be given to `plan`; None where nobody has them.
      input_spec: what the network expects of pictures; None where nobody says, and images are fed as it takes them.

    Example:
      >>> net = tx.network("squeezenet1_1", endpoint="fire2")
      >>> list(net), net["fire2:mean"].shape.as_list()
      (['input', 'conv1', 'pool1', 'fire2'], [None, 128])
    """

    images: tf.Tensor
    endpoints: Mapping[str, tf.Tensor]
    variables: list[tf.Variable]
    weights: Weights | None
    input_spec: InputSpec | None

    def __getitem__(self, name: str) -> tf.Tensor:
        """Return an endpoint, `NAME:mean`, its average over positions, several joined, `A:mean,B:mean`, or any tensor.

        Raises:
          GraphError: there is nothing of this name; the message gives the nearest.
        """
        if name in self.endpoints:
            return self.endpoints[name]
        if "," in name:
            return join({part: self[part] for part in endpoint_parts(name)})
        layer, _, pooling = name.rpartition(":")
        if pooling == "mean" and layer:
            return averaged_over_positions(self[layer], layer)
        try:
            return self.images.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        except (KeyError, ValueError):
            near = names.did_you_mean(name, self.endpoints)
            raise GraphError(f"the network has no endpoint {name!r}{near}; {_listed(self.endpoints)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.endpoints)


def network(
    what: str | os.PathLike[str],
    *,
    input: str | None = None,
    endpoint: str | None = None,
    feeds: Mapping[str, Any] | None = None,
    weights: Weights | str | os.PathLike[str] | None = None,
    input_spec: InputSpec | None = None,
    image_size: int | None = None,
    scope: str = "",
    **options: Any,
) -> Network:
    """Bring a network into the default graph: one that tfxfer knows by name, or one out of a file.

        net = tx.network("vgg16", weights="vgg16_weights.npz", endpoint="pool5", image_size=150)
        net = tx.network("inception.ckpt.meta", endpoint="pool_3", feeds={"is_training": False})

    Of a file, only what the endpoint needs is imported; see `tfxfer.networks.importing`. Its variables have the names
    that `open_weights` gives for the same file, and are planned, restored, frozen and trained as any others. Those that
    nobody restores start as variables of layers do: kernels are drawn, scales and variances are 1, all else is 0.

    Args:
      what: a name of `tfxfer.models.registry.MODELS`, or the path of a MetaGraph (`.meta`, or the prefix of its
        checkpoint), of a frozen graph (`.pb`), of a SavedModel, of a model of Keras (`.keras`, whole models in `.h5`),
        or of a run directory, whose best checkpoint is taken. Or a name of `keras.applications`, as `MobileNetV2`; see
        `tfxfer.networks.applications.read` for the options of these.
      input: of a file: the tensor in the place of which images come. Default: the only one that has to be fed.
      endpoint: what is wanted; of a model also `NAME:mean`, its average over positions, and several with commas between
        them. Default: of a model, all; of a file, what it declares as its output, or its only one.
      feeds: of a file: values that placeholders, or any tensors, are bound to: `{"is_training": False}`.
      weights: the values of the variables, or a file that holds them. Default: of a file,
        those that lie in it or beside it; of a model, those that an installed package brings, as `tfxfer[pictures]`
        does of efficientnet_lite0.
      input_spec: what the network expects of pictures. With one, images are uint8 [n, height, width, channels], and are
        prepared in the graph. Default: of a model, that of its weights; of a file, what it says; where it says nothing,
        images are fed as the network takes them.
      image_size: height and width of pictures, in pixels. Default: as the input spec has them. Fully connected layers
        that are restored are for one size; take an endpoint before them.
      scope: of a file: what is put before all its names. Default: nothing.
      **options: of a file: `moving_averages`, as `tfxfer.networks.files.open_graph` takes it, and what the reader of
        its kind takes: `tags` and `signature` of a SavedModel.

    Raises:
      SelectionError: `what` is neither a file nor a name of a network; or something is given that it does not use.
      WeightsError: a file cannot be read, or is not of this network.
      GraphError: the graph cannot be imported as asked; see `importing.find_way`. Or the default graph is finalized,
        or holds a network of the same names.
      DataError: the input spec does not fit to the input.

    Example:
      >>> with tf.Graph().as_default():
      ...     x = tf.placeholder(tf.float32, [None, 8, 8, 3], "x")
      ...     flat = tf.reshape(tf.nn.dropout(x, rate=tf.placeholder(tf.float32, [], "rate")), [-1, 192])
      ...     logits = tf.matmul(flat, tf.get_variable("fc/kernel", [192, 2]), name="logits")
      ...     with tf.Session() as sess:
      ...         sess.run(tf.global_variables_initializer())
      ...         prefix = tf.train.Saver().save(sess, "model.ckpt")
      >>> net = tx.network("model.ckpt.meta", endpoint="logits", feeds={"rate": 0.0})
      >>> net.images.shape.as_list(), [variable.op.name for variable in net.variables]
      ([None, 8, 8, 3], ['fc/kernel'])
      >>> [pairing.status for pairing in tx.plan(net.variables, net.weights).pairings]
      ['restored']
    """
    name = os.fspath(what)
    if image_size is not None and image_size < 1:
        raise DataError(f"`image_size={image_size}` must be 1 or more")
    if name in MODELS:
        _check_unused(name, {"input": input, "feeds": feeds, "scope": scope, **options})
        return _built(name, endpoint, weights, input_spec, image_size)
    if image_size and is_keras_name(name):
        options.setdefault("input_size", image_size)
    file = open_graph(name, weights=weights, **options)
    way = importing.find_way(file, input=input, endpoint=endpoint, feeds=feeds)
    spec = input_spec or _stated(file, way)
    if image_size and spec is None:
        raise DataError(
            f"`image_size={image_size}`: {name} does not say what pictures it expects; give an `input_spec`"
        )
    spec = with_size(spec, image_size) if spec else None
    images = placeholder(file, way, spec)
    x = prepared(images, file, way, spec)
    with recorded():
        ends, variables = importing.import_way(file, way, x, scope=scope)
    values = file.weights
    if values is not None and scope:
        values = values.renamed([("^", f"{scope.strip('/')}/")])
    return Network(images, ends, variables, values, spec)


def placeholder(file: GraphFile, way: importing.Way, input_spec: InputSpec | None) -> tf.Tensor:
    """Make the placeholder of the images: uint8 as an input spec says, or of the dtype and shape of the input."""
    _check_graph()
    if input_spec is not None:
        shape = [None, *input_spec.size, CHANNELS[input_spec.channels]]
        return tf.placeholder(tf.uint8, shape, name="images")
    taken = importing.spec_of(file, way.input)
    shape = [None, *taken.shape.as_list()[1:]] if taken.shape.rank else taken.shape
    return tf.placeholder(taken.dtype, shape, name="images")


def prepared(images: tf.Tensor, file: GraphFile, way: importing.Way, input_spec: InputSpec | None) -> tf.Tensor:
    """Return images as the input takes them.

    Raises:
      DataError: it takes others than the input spec makes.
    """
    taken = importing.spec_of(file, way.input)
    if input_spec is not None and taken.dtype == images.dtype == tf.uint8 and takes_pixels(input_spec):
        record(input_spec)
        x = images
    else:
        x = images if input_spec is None else preprocess(images, input_spec)
    if x.dtype != taken.dtype and x.dtype.is_floating and taken.dtype.is_floating:
        x = tf.cast(x, taken.dtype)
    wanted = [None, *taken.shape.as_list()[1:]] if taken.shape.rank else None
    if x.dtype != taken.dtype or not x.shape.is_compatible_with(tf.TensorShape(wanted)):
        raise DataError(
            f"{file.path}: the input {way.input} takes {taken.dtype.name} {taken.shape}, and gets {x.dtype.name} "
            f"{x.shape}; give an input spec of that size, or another `input`"
        )
    return x


def takes_pixels(input_spec: InputSpec) -> bool:
    """Say whether an input spec leaves pixels as they are: RGB or grey in 0..255."""
    return input_spec.channels != "BGR" and not any(input_spec.mean) and set(input_spec.scale) == {1}


def _check_unused(name: str, options: Mapping[str, Any]) -> None:
    unused = [f"`{option}`" for option, value in options.items() if value]
    if unused:
        raise SelectionError(f"{names.listed(unused)}: for networks in files, and not used with {name}; leave it out")


def _stated(file: GraphFile, way: importing.Way) -> InputSpec | None:
    """Return what a file, or the input spec beside its weights, says of an input that takes pictures and not bytes."""
    taken = importing.spec_of(file, way.input)
    spec = None if taken.dtype == tf.uint8 else file.input_spec(way.input)
    pictures = None if spec is None else tf.TensorShape([None, None, None, CHANNELS[spec.channels]])
    return spec if pictures is not None and taken.shape.is_compatible_with(pictures) else None


def _built(
    name: str,
    endpoint: str | None,
    weights: Weights | str | os.PathLike[str] | None,
    input_spec: InputSpec | None,
    image_size: int | None,
) -> Network:
    model = find_model(name)
    values = None
    weights = packaged_weights(name) if weights is None else weights
    if weights is not None and model.variables:
        recognised = recognise(weights, model=name)
        values, input_spec = recognised.weights, input_spec or recognised.input_spec
    input_spec = input_spec or model.input_spec
    if input_spec is None:
        raise WeightsError(f"{name} takes images of any size; call tfxfer.{model.builder} with a placeholder of yours")
    _check_graph()
    input_spec = with_size(input_spec, image_size)
    images = tf.placeholder(tf.uint8, [None, *input_spec.size, CHANNELS[input_spec.channels]], name="images")
    classes = count_classes(model, values)
    if endpoint is None:
        ends = model.build(images, classes=classes, input_spec=input_spec)
    else:
        ends = build_endpoints(model, images, endpoint=endpoint, classes=classes, input_spec=input_spec)
    variables = model_variables(outputs=[list(ends.values())[-1]])
    return Network(images, ends, variables, values, input_spec)


def _listed(endpoints: Mapping[str, tf.Tensor]) -> str:
    return f"it has {names.listed(list(endpoints)[-12:], 12)}"


def _check_graph() -> None:
    if tf.executing_eagerly():
        raise GraphError(
            "TensorFlow executes eagerly here and builds no graph; call network within `with tf.Graph().as_default():`"
        )
    check_open("network")
