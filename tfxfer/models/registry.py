"""The networks that tfxfer knows, one row each. TensorFlow is loaded when a network is built, and not before.

A further network is a module with the function that builds it, and a row in `MODELS`:

    Model("lenet", "tfxfer.models.lenet.lenet", endpoints=("input", "conv1", ...), bottleneck="pool2", ...)
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tfxfer import names
from tfxfer.errors import SelectionError
from tfxfer.input_spec import InputSpec
from tfxfer.models import (
    efficientnet_lite_sources,
    mobilenet_v2_sources,
    resnet_sources,
    squeezenet_sources,
    vgg_f_sources,
    vgg_sources,
)
from tfxfer.models.sources import Shape, Source

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf


@dataclasses.dataclass(frozen=True)
class Model:
    """What is known of a network.

    Attributes:
      name: as `vgg16`.
      builder: the function from images to endpoints by name, or where it is, as `tfxfer.models.vgg.vgg16`. It takes
        `last`; with a `classifier` also `classes` and `dropout`; with an `input_spec` also that.
      endpoints: the names of all that the builder returns, in order.
      bottleneck: what a head is put on by default: an endpoint, or `NAME:mean`, its average over positions.
      first_layer: the layer that takes the images; its kernel is [height, width, channels, filters].
      variables: the shape of each variable, by name; None is a size that varies. Files under these names are
        recognised; empty where files are not recognised at all.
      input_spec: what its weights usually expect of images, for which it takes RGB; None where it takes grey or RGB
        images of any size, scaled to [0, 1].
      sources: the forms in which its weights circulate.
      classifier: the endpoint of its own logits; empty where it has no classifier. `prob` follows it.
      last_layer: the layer of that classifier whose kernel and bias are made for a number of classes.
      head: regular expression for the variables that are trained anew with the classifier.
    """

    name: str
    builder: str | Callable[..., dict[str, tf.Tensor]]
    endpoints: tuple[str, ...]
    bottleneck: str
    first_layer: str
    variables: Mapping[str, Shape] = dataclasses.field(default_factory=dict)
    input_spec: InputSpec | None = None
    sources: tuple[Source, ...] = ()
    classifier: str = ""
    last_layer: str = ""
    head: str = ""

    def build(
        self,
        images: tf.Tensor,
        *,
        classes: int = 1000,
        last: str | None = None,
        dropout: float = 0.0,
        input_spec: InputSpec | None = None,
    ) -> dict[str, tf.Tensor]:
        """Build the network in the default graph and return its endpoints.

        Args:
          images: uint8 [n, height, width, channels].
          classes, dropout: of its own classifier, where it has one.
          last: the last endpoint that is wanted. Default: all.
          input_spec: what the weights expect of their input. Default: what the builder takes for granted.

        Raises:
          GraphError: the network has no endpoint `last`.
          DataError: the network cannot take such images.
        """
        builder = self.builder
        if isinstance(builder, str):
            module, _, function = builder.rpartition(".")
            builder = getattr(importlib.import_module(module), function)
        ends: dict[str, tf.Tensor] = builder(
            images,
            last=last,
            **({"classes": classes, "dropout": dropout} if self.classifier else {}),
            **({"input_spec": input_spec} if self.input_spec else {}),
        )
        return ends


def find_model(name: str | Model) -> Model:
    """Return the row of a network; a row itself, such as one of a network in a file, is returned as it is.

    Raises:
      SelectionError: no network has this name; the message lists the names.
    """
    if isinstance(name, Model):
        return name
    if name not in MODELS:
        raise SelectionError(
            f"{name!r} is not a model{names.did_you_mean(name, MODELS)}; the models are {', '.join(MODELS)}"
        )
    return MODELS[name]


def is_keras_name(model: str) -> bool:
    """Say whether a name is neither one of `MODELS` nor a file, and so is one of `keras.applications`, or wrong."""
    return model not in MODELS and not (os.path.exists(model) or os.path.exists(f"{model}.meta"))


def all_sources() -> list[Source]:
    """Return the sources of all networks."""
    return [source for model in MODELS.values() for source in model.sources]


def _vgg(name: str) -> Model:
    sources = tuple(source for source in vgg_sources.SOURCES if source.input_spec.model == name)
    layers = (layer for layer, _, _ in vgg_sources.convolutions(name))
    return Model(
        name,
        f"tfxfer.models.vgg.{name}",
        endpoints=("input", *layers, *vgg_sources.TOP),
        bottleneck="pool5",
        first_layer="conv1_1",
        variables=vgg_sources.variables(name),
        input_spec=sources[0].input_spec if sources else vgg_sources.usual(name),
        sources=sources,
        classifier="fc8",
        last_layer="fc8",
        head="fc[678]/.*",
    )


def _vgg_f() -> Model:
    return Model(
        vgg_f_sources.MODEL,
        "tfxfer.models.vgg_f.vgg_f",
        endpoints=("input", *vgg_f_sources.LAYERS, *vgg_sources.TOP),
        bottleneck="pool5",
        first_layer="conv1",
        variables=vgg_f_sources.variables(),
        input_spec=vgg_f_sources.SOURCES[0].input_spec,
        sources=vgg_f_sources.SOURCES,
        classifier="fc8",
        last_layer="fc8",
        head="fc[678]/.*",
    )


def _squeezenet(name: str) -> Model:
    sources = tuple(source for source in squeezenet_sources.SOURCES if source.input_spec.model == name)
    return Model(
        name,
        f"tfxfer.models.squeezenet.{name}",
        endpoints=("input", "conv1", *squeezenet_sources.layers(name), "conv10", "pool10", "prob"),
        bottleneck="fire9:mean",
        first_layer="conv1",
        variables=squeezenet_sources.variables(name),
        input_spec=sources[0].input_spec,
        sources=sources,
        classifier="pool10",
        last_layer="conv10",
        head="conv10/.*",
    )


def _with_pool(
    name: str, family: str, endpoints: tuple[str, ...], variables: Mapping[str, Shape], of_family: Sequence[Source]
) -> Model:
    """Return the row of a network that ends in the endpoints `pool`, `fc` and `prob`."""
    sources = tuple(source for source in of_family if source.input_spec.model == name)
    return Model(
        name,
        f"tfxfer.models.{family}.{name}",
        endpoints=endpoints,
        bottleneck="pool",
        first_layer="stem",
        variables=variables,
        input_spec=sources[0].input_spec,
        sources=sources,
        classifier="fc",
        last_layer="fc",
        head="fc/.*",
    )


def _efficientnet_lite(name: str) -> Model:
    table = efficientnet_lite_sources
    return _with_pool(name, "efficientnet_lite", table.endpoints(name), table.variables(name), table.SOURCES)


def _resnet(name: str) -> Model:
    table = resnet_sources
    return _with_pool(name, "resnet", table.endpoints(name), table.variables(name), table.SOURCES)


def _mobilenet_v2() -> Model:
    table = mobilenet_v2_sources
    return _with_pool(table.NAME, "mobilenet_v2", table.endpoints(), table.variables(), table.SOURCES)


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "autoencoder",
            "tfxfer.models.autoencoder.encoder",
            endpoints=("input", "conv1", "conv2", "flatten"),
            bottleneck="flatten",
            first_layer="conv1",
        ),
        *map(_vgg, ("vgg11", "vgg13", "vgg16", "vgg16c", "vgg19")),
        *map(_vgg, ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")),
        _vgg_f(),
        *map(_squeezenet, ("squeezenet1_0", "squeezenet1_1")),
        *map(_efficientnet_lite, efficientnet_lite_sources.VERSIONS),
        *map(_resnet, resnet_sources.VERSIONS),
        _mobilenet_v2(),
    )
}
