"""The flags that say what a network is and where its weights come from, and the graph built from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from tfxfer.errors import RestoreError
from tfxfer.input_spec import InputSpec, with_size
from tfxfer.models.packaged import DEFAULT, PACKAGES
from tfxfer.models.recognition import recognise
from tfxfer.models.registry import MODELS
from tfxfer.tools import _flags
from tfxfer.weights import Weights, open_weights

_MODEL_HELP = f"The network to build; {DEFAULT} for pictures, if neither --model nor --weights is given."
_WEIGHTS_HELP = (
    f"File whose variables are restored. Default: of {' or '.join(PACKAGES)} the one that an installed package brings, "
    f"as 'tfxfer[pictures]' does of {DEFAULT}."
)


def define(values: flags.FlagValues) -> None:
    """Define the flags that say what the network is."""
    define_model(values)
    define_endpoint(values)
    define_head(values)


def define_model(values: flags.FlagValues) -> None:
    """Define the flags that say which model it is, and what file its weights are in."""
    with _flags.group(values, "model"):
        flags.DEFINE_enum("model", "autoencoder", list(MODELS), _MODEL_HELP, flag_values=values)
        flags.DEFINE_string("weights", None, _WEIGHTS_HELP, flag_values=values)
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
            "Side of the square that pictures are brought to, in pixels. Default: what the weights expect.",
            1,
            flag_values=values,
        )


def _by_model(attribute: str) -> str:
    """Say what an attribute of `Model` is, for the models that have it: `fc8 (vgg11, vgg13) or pool10 (...)`."""
    models: dict[str, list[str]] = {}
    for model in MODELS.values():
        if value := getattr(model, attribute):
            models.setdefault(value, []).append(model.name)
    return " or ".join(f"{value} ({', '.join(names)})" for value, names in models.items())


def define_endpoint(values: flags.FlagValues) -> None:
    """Define the flag that says how far the model goes."""
    with _flags.group(values, "model"):
        flags.DEFINE_string(
            "endpoint",
            None,
            "What the head is put on, as pool5, fc6 or pool5:mean (averaged over positions); "
            f"{_by_model('classifier')} is the model's own classifier, made for the classes at hand. "
            f"Default: {_by_model('bottleneck')}.",
            flag_values=values,
        )


def define_head(values: flags.FlagValues) -> None:
    """Define the flags that say what is put on the model."""
    with _flags.group(values, "model"):
        _flags.DEFINE_ints("hidden", [200], "Units of each hidden layer of the head, fc1, fc2, ...", values)
        flags.DEFINE_float(
            "dropout",
            0.0,
            "Share of each hidden layer's output dropped in training, from 0 to below 1. Default: 0; 0.5 on the usual "
            f"endpoint of {DEFAULT}.",
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
    own = bool(settings.endpoint) and settings.endpoint == MODELS[settings.model].classifier
    unused = settings.dropout and not settings.hidden and not own
    return [f"--dropout={settings.dropout:g}: not used, as --hidden=none leaves no layer to drop from"] * bool(unused)


def open_weights_flag(settings: Any, *, show: bool = True) -> tuple[Weights | None, InputSpec | None]:
    """Open --weights under our names and say what they expect of their input.

    Args:
      settings: the flags' values, as attributes.
      show: whether to print what the file was recognised as.

    Returns:
      The weights, or None without --weights; and the input spec, or None for a model that takes images as they are.

    Raises:
      WeightsError: the file cannot be read, or not be recognised as weights of --model.
    """
    rename, input_spec = settings.rename or None, MODELS[settings.model].input_spec
    weights = None
    if input_spec is None:
        return (open_weights(settings.weights, rename=rename) if settings.weights else None), None
    if settings.weights:
        file = recognise(settings.weights, model=settings.model, source=settings.source, rename=rename)
        weights, input_spec = file.weights, file.input_spec
        if show:
            print(file.report())
    return weights, with_size(input_spec, settings.image_size)


def open_classifier(settings: Any) -> Any:
    """Return the `TrainedNetwork` of --model, which has a classifier of its own, and --weights."""
    from tfxfer.serving.trained_network import open_classifier

    return open_classifier(
        settings.model,
        settings.weights,
        source=settings.source,
        rename=settings.rename or None,
        image_size=settings.image_size,
    )


def endpoint_of(settings: Any) -> str:
    """Return --endpoint, or what it is by default."""
    return settings.endpoint or MODELS[settings.model].bottleneck


def endpoints(settings: Any, images: Any, weights: Weights | None, input_spec: InputSpec | None) -> dict[str, Any]:
    """Build --model up to --endpoint and return all its endpoints, with as many classes as the weights have.

    Raises:
      GraphError: the network has no such endpoint, or it cannot be averaged.
    """
    from tfxfer.models.network import build_endpoints, count_classes

    classes = count_classes(settings.model, weights)
    return build_endpoints(settings.model, images, endpoint=settings.endpoint, classes=classes, input_spec=input_spec)


def build(settings: Any, shape: tuple[int, ...], classes: int, input_spec: InputSpec | None) -> tuple[Any, Any, Any]:
    """Build the network with its classifier in the default graph.

    Args:
      settings: the flags' values, as attributes.
      shape: of an image.
      classes: how many there are.
      input_spec: what the weights expect of their input.

    Returns:
      The placeholders of the images and of the labels, and the `Network`.

    Raises:
      GraphError: the network has no such endpoint, or the head cannot be built as asked.
    """
    import tensorflow.compat.v1 as tf

    from tfxfer.models.network import build_network

    tf.set_random_seed(settings.seed)
    images = tf.placeholder(tf.uint8, [None, *shape], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    options = {name: settings[name].value for name in ("endpoint", "hidden", "dropout", "loss")}
    return images, labels, build_network(settings.model, images, classes=classes, input_spec=input_spec, **options)


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
