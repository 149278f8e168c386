"""The flags that say what a network is and where its weights come from, and the graph built from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from tfxfer import names
from tfxfer.errors import GraphError, RestoreError
from tfxfer.input_spec import InputSpec
from tfxfer.tools import _flags
from tfxfer.weights import Weights, open_weights


class Form(NamedTuple):
    """What the tools need to know of a model.

    Attributes:
      module: where in tfxfer.models it is built.
      endpoint: what a head is put on unless told.
      own: the endpoint that is the model's own classifier, trained anew if it is asked for.
      head: the variables of that classifier.
    """

    module: str
    endpoint: str
    own: str | None = None
    head: str = ""


MODELS = {
    "autoencoder": Form("autoencoder", "flatten"),
    **{name: Form("vgg", "pool5", "fc8", "fc[678]/.*") for name in ("vgg11", "vgg13", "vgg16", "vgg16c", "vgg19")},
    **{name: Form("squeezenet", "fire9:mean", "pool10", "conv10/.*") for name in ("squeezenet1_0", "squeezenet1_1")},
}


def define(values: flags.FlagValues) -> None:
    """Define the flags that say what the network is."""
    define_model(values)
    define_endpoint(values)
    define_head(values)


def define_model(values: flags.FlagValues) -> None:
    """Define the flags that say which model it is, and what file its weights are in."""
    with _flags.group(values, "model"):
        flags.DEFINE_enum("model", "autoencoder", list(MODELS), "The network to build.", flag_values=values)
        flags.DEFINE_string("weights", None, "File whose variables are restored.", flag_values=values)
        flags.DEFINE_string(
            "source",
            None,
            "Form in which --weights has the model, as vgg16_keras: names, layout and input. Default: recognised by "
            "names and shapes, before --rename and after.",
            flag_values=values,
        )
        _flags.DEFINE_rules(
            "rename",
            [],
            "Rename what is in --weights, in the order given, to the names of --model or of --source.",
            values,
        )
        flags.DEFINE_integer(
            "image_size",
            None,
            "Side of the square that pictures are brought to, in pixels; what the weights expect unless told.",
            1,
            flag_values=values,
        )


def define_endpoint(values: flags.FlagValues) -> None:
    """Define the flag that says how far the model goes."""
    with _flags.group(values, "model"):
        flags.DEFINE_string(
            "endpoint",
            None,
            "What the head is put on, as pool5, fc6 or pool5:mean (averaged over positions); fc8 (VGG) or pool10 "
            "(SqueezeNet) is the model's own classifier, made for the classes at hand. Unless told, flatten "
            "(autoencoder), pool5 (VGG) or fire9:mean (SqueezeNet).",
            flag_values=values,
        )


def define_head(values: flags.FlagValues) -> None:
    """Define the flags that say what is put on the model."""
    with _flags.group(values, "model"):
        _flags.DEFINE_ints("hidden", [200], "Units of each hidden layer of the head, fc1, fc2, ...", values)
        flags.DEFINE_float(
            "dropout",
            0.0,
            "Share of each hidden layer's output dropped in training, from 0 to below 1.",
            0.0,
            0.999,
            flag_values=values,
        )
        flags.DEFINE_enum(
            "loss",
            "softmax",
            ("softmax", "sigmoid"),
            "Cross-entropy over all classes, or of one logit for two.",
            flag_values=values,
        )


def notes(settings: Any) -> list[str]:
    """Say what a head of these flags does not use."""
    own = endpoint_of(settings) == MODELS[settings.model].own
    unused = settings.dropout and not settings.hidden and not own
    return [f"--dropout={settings.dropout:g}: not used, as --hidden=none leaves no layer to drop from"] * bool(unused)


def opened(settings: Any, *, show: bool = True) -> tuple[Weights | None, InputSpec | None]:
    """Open --weights under our names and say what they expect of their input.

    Args:
      settings: the flags' values, as attributes.
      show: whether to print what the file was recognised as.

    Returns:
      The weights, or None without --weights; and the input spec, or None for a model that takes images as they are.

    Raises:
      WeightsError: the file cannot be read, or not be recognised as weights of --model.
    """
    form = MODELS[settings.model]
    sources = _sources(form, settings.model)
    if not settings.weights:
        return None, _sized(sources[0].input_spec, settings) if sources else None
    if not sources:
        return open_weights(settings.weights, rename=settings.rename or None), None
    from tfxfer.models.recognition import recognise

    found = recognise(settings.weights, model=settings.model, source=settings.source, rename=settings.rename or None)
    if show:
        print(found.report())
    return found.weights, _sized(found.input_spec, settings)


def _sources(form: Form, model: str) -> list[Any]:
    import importlib

    module = importlib.import_module(f"tfxfer.models.{form.module}")
    return [source for source in getattr(module, "SOURCES", ()) if source.input_spec.model == model]


def _sized(input_spec: InputSpec, settings: Any) -> InputSpec:
    side = settings.image_size
    return dataclasses.replace(input_spec, size=(side, side)) if side else input_spec


class Network(NamedTuple):
    """What `build` built.

    Attributes:
      images, labels: the placeholders.
      logits: what the classifier gives.
      ends: the endpoints of the model, by name.
      restored, trained: patterns of what is restored and trained unless the flags say otherwise.
    """

    images: Any
    labels: Any
    logits: Any
    ends: dict[str, Any]
    restored: list[str]
    trained: list[str]


def endpoint_of(settings: Any) -> str:
    """Return the endpoint that the flags ask for."""
    return settings.endpoint or MODELS[settings.model].endpoint


def features(
    settings: Any, images: Any, input_spec: InputSpec | None, classes: int = 1000, dropout: float = 0.0
) -> Any:
    """Build the model up to --endpoint and return that.

    Raises:
      GraphError: there is no such endpoint, or it cannot be averaged.
    """
    return endpoints(settings, images, input_spec, classes, dropout)[endpoint_of(settings)]


def endpoints(
    settings: Any, images: Any, input_spec: InputSpec | None, classes: int = 1000, dropout: float = 0.0
) -> dict[str, Any]:
    """Build the model up to --endpoint and return all its endpoints, that one among them.

    Raises:
      GraphError: there is no such endpoint, or it cannot be averaged.
    """
    import importlib

    import tensorflow.compat.v1 as tf

    form = MODELS[settings.model]
    endpoint, _, pooling = endpoint_of(settings).partition(":")
    module = importlib.import_module(f"tfxfer.models.{form.module}")
    from tfxfer.models.sources import check_last

    if form.module == "autoencoder":
        ends = module.encoder(images)
        check_last(settings.model, endpoint, list(ends))
    else:
        build = getattr(module, settings.model)
        ends = build(images, classes=classes, last=endpoint, dropout=dropout, input_spec=input_spec)
    check_last(endpoint_of(settings), pooling or None, ["mean"])
    if pooling and ends[endpoint].shape.rank != 4:
        raise GraphError(f"{endpoint} {ends[endpoint].shape} has no positions to average over; leave :{pooling} out")
    averaged = (
        {endpoint_of(settings): tf.reduce_mean(ends[endpoint], axis=[1, 2], name=f"{endpoint}/mean")} if pooling else {}
    )
    return {**ends, **averaged}


def classes_of(weights: Weights | None) -> int:
    """Return how many classes the model's own classifier has in a file of weights; ImageNet's where it is not there."""
    biases = [weights.shape(name) for name in ("fc8/bias", "conv10/bias") if name in weights] if weights else []
    return biases[0][0] if biases else 1000


def build(settings: Any, shape: tuple[int, ...], classes: int, input_spec: InputSpec | None) -> Network:
    """Build the network with its classifier in the default graph.

    Args:
      settings: the flags' values, as attributes.
      shape: of an image.
      classes: how many there are.
      input spec: what the weights expect of their input.

    Raises:
      GraphError: there is no such endpoint, or the head cannot be built as asked.
    """
    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.graph.partitioned import wholes
    from tfxfer.models import heads

    tf.set_random_seed(settings.seed)
    images = tf.placeholder(tf.uint8, [None, *shape], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    form = MODELS[settings.model]
    if endpoint_of(settings) == form.own:
        ends = endpoints(settings, images, input_spec, classes, settings.dropout)
        logits = ends[endpoint_of(settings)]
        base, head = tx.select(".*", exclude=form.head), tx.select(form.head)
    else:
        ends = endpoints(settings, images, input_spec)
        base = tx.select(".*")
        options = {"hidden": settings.hidden, "dropout": settings.dropout, "loss": settings.loss}
        logits = heads.classifier(ends[endpoint_of(settings)], classes=classes, **options)
        head = tx.select(".*")[len(base) :]
    patterns = [names.exactly(wholes(variables)) for variables in (base, head)]
    return Network(images, labels, logits, ends, *patterns)


def plans(
    settings: Any, weights: Weights | None, restored: Sequence[str], ends: Mapping[str, Any] | None = None
) -> list[Any]:
    """Return the plan that --weights and --restore ask for, in a list, or no plan for --restore=none.

    Args:
      settings: the flags' values.
      weights: the file, if one was given.
      restored: patterns of what is restored unless --restore says otherwise.
      ends: the network's endpoints, to say how far a file reaches that has not all of it.

    Raises:
      RestoreError: nothing can be restored without --weights, or they do not fit.
    """
    import tfxfer as tx

    if settings.restore == ["none"]:
        return []
    if weights is None:
        raise RestoreError("--weights is needed, the file to restore from; or --restore=none for a random baseline")
    try:
        return [tx.plan(tx.select(*(settings.restore or restored)), weights)]
    except RestoreError as error:
        if "dry_run" in settings and settings.dry_run and error.plan:
            print(error.plan.report())
        reached = deepest(ends or {}, error.plan)
        if not reached:
            raise
        raise RestoreError(
            f"{error}\nor go no further than the file does, which has all that {reached} needs: --endpoint={reached}",
            error.plan,
        ) from None


def deepest(ends: Mapping[str, Any], plan: Any) -> str:
    """Return the last endpoint all of whose variables a plan restores, among those that need some; or nothing.

    Args:
      ends: endpoints in the order in which they follow each other.
      plan: what `RestoreError.plan` holds.
    """
    from tfxfer.graph import traversal

    if plan is None:
        return ""
    there = {pairing.variable for pairing in plan.pairings if pairing.status == "restored"}
    needs = {name: {op.name for op in traversal.variables_read([tensor])} for name, tensor in ends.items()}
    reached = [name for name, variables in needs.items() if variables and variables <= there]
    return reached[-1] if reached and len(reached) < sum(map(bool, needs.values())) else ""
