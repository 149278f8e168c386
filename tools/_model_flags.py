"""The flags that say what a network is and where its weights come from, and the graph built from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from tfxfer.data.normalization import KINDS
from tfxfer.errors import RestoreError
from tfxfer.input_spec import InputSpec, with_size
from tfxfer.models.packaged import DEFAULT, PACKAGES
from tfxfer.models.recognition import recognise
from tfxfer.models.registry import MODELS, Model, is_keras_name
from tfxfer.tools import _flags, _heads, _input_spec_flags, _pager
from tfxfer.weights import Weights, open_weights

_MODEL_HELP = f"The network to build ({DEFAULT} for pictures, if neither --model nor --weights is given)"
_WEIGHTS_HELP = (
    "File whose variables are restored. Default: of a network in a file, what lies in it or beside it; of "
    f"{' or '.join(PACKAGES)} the one that an installed package brings, as 'tfxfer[pictures]' does of {DEFAULT}; for "
    "the digits, an autoencoder's convolutions, which come with tfxfer."
)


def define(values: flags.FlagValues) -> None:
    """Define the flags that say what the network is."""
    define_model(values)
    define_endpoint(values)
    define_head(values)


def define_model(values: flags.FlagValues) -> None:
    """Define the flags that say which model it is, and what file its weights are in."""
    with _flags.group(values, "model"):
        define_name(values, "autoencoder", _MODEL_HELP)
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

    define_file(values)


def define_name(values: flags.FlagValues, default: str | None, purpose: str) -> None:
    """Define --model."""
    help = (
        f"{purpose}: {', '.join(MODELS)}; or a network in a file: a MetaGraph (.meta, or its checkpoint's prefix), "
        "a frozen graph (.pb), a SavedModel, a model of Keras (.keras, .h5), or a run directory; or a name of "
        "keras.applications, as MobileNet."
    )
    flag: flags.Flag = flags.Flag(flags.ArgumentParser(), None, "model", default, help)
    flag.form = "NAME|FILE"  # type: ignore[attr-defined]  # what --help shows
    flag.choices = [*MODELS, "@"]  # type: ignore[attr-defined]  # what completion offers: names, and files
    flags.DEFINE_flag(flag, values)


def define_file(values: flags.FlagValues) -> None:
    """Define the flags of networks in files."""
    with _flags.group(values, "a network in a file"):
        flags.DEFINE_string(
            "input",
            None,
            "The tensor in the place of which pictures come. Default: the only one that has to be fed.",
            flag_values=values,
        )
        _flags.DEFINE_feeds(
            "feed",
            "Value of a placeholder, or of any tensor, as Python writes it: is_training=False, keep_prob=1.0.",
            values,
        )
        define_signature(values)
        flags.DEFINE_bool(
            "moving_averages",
            False,
            "Take the moving averages that training kept of the variables (NAME/ExponentialMovingAverage).",
            flag_values=values,
        )
        _input_spec_flags.define(values)


def define_signature(values: flags.FlagValues) -> None:
    """Define the flags that say which graph of a file is wanted."""
    flags.DEFINE_list("tags", None, "Of a SavedModel: the tags of the graph that is wanted.", flag_values=values)
    flags.DEFINE_string(
        "signature",
        None,
        "Of a MetaGraph or SavedModel: the signature that tells input and output.",
        flag_values=values,
    )


def file_options(settings: Any) -> dict[str, Any]:
    """Return the options of `open_graph` that the flags set."""
    options = {name: settings[name].value for name in ("tags", "signature") if settings[name].value is not None}
    if "moving_averages" in settings and settings.moving_averages:
        options["moving_averages"] = True
    return options


def _by_model(attribute: str) -> str:
    """Say what an attribute of `Model` is, for the models that have it: `fc8 (vgg11, vgg13) or pool10 (...)`."""
    models: dict[str, list[str]] = {}
    for model in MODELS.values():
        if value := getattr(model, attribute):
            models.setdefault(value, []).append(model.name)
    return " or ".join(f"{value} ({', '.join(names)})" for value, names in models.items())


def define_endpoint(values: flags.FlagValues, *, classifier: bool = False) -> None:
    """Define --endpoint, how far the model goes: up to where a head is put on, or to the probabilities of a
    `classifier`, which only a network in a file has to name."""
    with _flags.group(values, "a network in a file" if classifier else "model"):
        flags.DEFINE_string(
            "endpoint",
            None,
            "The tensor that is the probabilities of the classes, as a softmax gives them. Default: its output."
            if classifier
            else "What the head is put on, as pool5, fc6 or pool5:mean (averaged over positions), or several of them "
            "joined, as pool4:mean,pool5:mean; "
            f"{_by_model('classifier')} is the model's own classifier, made for the classes at hand. "
            f"Default: {_by_model('bottleneck')}; of a network in a file, its output.",
            flag_values=values,
        )


USES = (_flags.Use("endpoint", "model", _flags.models, unless=True, what="a network in a file"),)


def define_loss(values: flags.FlagValues) -> None:
    """Define the flag that says what a head is trained to."""
    flags.DEFINE_enum(
        "loss",
        "softmax",
        ("softmax", "sigmoid"),
        "Cross-entropy over all classes, or of one logit for two.",
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
            "normalize",
            "none",
            KINDS,
            "What is done to features before the head: l2 divides those of each picture by their length; sqrt does so "
            "with the root of each; standard takes each minus its mean over the training pictures, by its deviation. "
            f"Default: none; {_heads.KIND} for a new head on a frozen network of pictures, with other defaults that go "
            "with it, where neither --learning_rate nor --optimizer is given.",
            flag_values=values,
        )
        define_loss(values)


@dataclasses.dataclass(frozen=True)
class Opened:
    """What --model and --weights are.

    Attributes:
      model: the network: a row of the registry, or one like it for a file.
      weights: the values of its variables, under its names; None without them.
      input_spec: what they expect of pictures; None for a model that takes images as they are.
      endpoint: what --endpoint is, or is by default.
    """

    model: Model
    weights: Weights | None
    input_spec: InputSpec | None
    endpoint: str

    def free_name(self, name: str) -> str:
        """Return a name for a placeholder that the network, which keeps its own names, does not use."""
        while name in self.model.endpoints:
            name += "_"
        return name


def is_file(settings: Any) -> bool:
    """Say whether --model is a network in a file, or one by a name that only its reader knows."""
    return settings.model not in MODELS


def notes(settings: Any, opened: Opened) -> list[str]:
    """Say what a head of these flags does not use."""
    own = bool(settings.endpoint) and settings.endpoint == opened.model.classifier
    unused = settings.dropout and not settings.hidden and not own
    return [f"--dropout={settings.dropout:g}: not used, as --hidden=none leaves no layer to drop from"] * bool(unused)


def open_model(settings: Any, *, show: bool = True, endpoint: str | None = None) -> Opened:
    """Open --model, and --weights under its names.

    Args:
      settings: the flags' values, as attributes.
      show: whether to print what the file was recognised as.
      endpoint: how far it goes. Default: --endpoint, or the model's usual one.

    Raises:
      SelectionError: --model is neither the name of a network nor a file.
      WeightsError: a file cannot be read, or not be recognised as weights of --model.
      GraphError, DataError: a network in a file cannot be taken as asked.
    """
    if is_file(settings):
        file_model, of_file = open_file(settings, endpoint=endpoint)
        of_file = _with_decode(of_file, settings)
        model = file_model.model(of_file)
        if show:
            ends = f"{file_model.input} to {model.bottleneck}"
            _pager.say(f"{file_model.file.path}: {file_model.file.kind}, {ends}; pictures {of_file}")
        return Opened(model, file_model.weights, of_file, model.bottleneck)
    model = MODELS[settings.model]
    weights, input_spec = _open_weights(settings, model, show)
    endpoint = endpoint or (settings.endpoint if "endpoint" in settings else None) or model.bottleneck
    return Opened(model, weights, input_spec, endpoint)


def _open_weights(settings: Any, model: Model, show: bool) -> tuple[Weights | None, InputSpec | None]:
    """Open --weights under our names and say what they expect of their input."""
    rename, input_spec = settings.rename or None, model.input_spec
    weights = None
    if input_spec is None:
        return (open_weights(settings.weights, rename=rename) if settings.weights else None), None
    if settings.weights:
        file = recognise(settings.weights, model=settings.model, source=settings.source, rename=rename)
        weights, input_spec = file.weights, file.input_spec
        if show:
            _pager.say(file.report())
    return weights, _with_decode(with_size(input_spec, settings.image_size), settings)


def _with_decode(input_spec: InputSpec, settings: Any) -> InputSpec:
    """Return an input spec that decodes as --decode says, in the tools that have it."""
    if "decode" not in settings:
        return input_spec
    return dataclasses.replace(input_spec, decode=settings.decode or "exact")


def open_file(settings: Any, weights: str | None = None, *, endpoint: str | None = None) -> tuple[Any, InputSpec]:
    """Open the network in the file --model: a `FileModel`, and what it expects of pictures.

    Args:
      settings: the flags' values.
      weights: the file of its weights. Default: --weights, or what lies in the file or beside it.
      endpoint: how far it goes. Default: --endpoint, or its output.

    Raises:
      UsageError: a flag is given that a network in a file does not use.
      SelectionError, WeightsError, GraphError, DataError: it cannot be taken as asked.
    """
    if settings["source"].present:
        raise _flags.UsageError(
            f"--source: a form of the weights of our models, and not used with the file --model={settings.model}; "
            "leave it out"
        )
    from tfxfer.networks.file_model import open_model as open_file_model

    weights = weights or (settings.weights if "weights" in settings else None)
    opened = open_file_model(
        settings.model,
        input=settings.input,
        endpoint=endpoint or (settings.endpoint if "endpoint" in settings else None),
        feeds=settings.feed,
        weights=open_weights(weights, rename=settings.rename or None) if weights else None,
        **file_options(settings),
        **({"input_size": settings.image_size} if settings.image_size and is_keras_name(settings.model) else {}),
    )
    return opened, _input_spec_flags.input_spec(settings, opened)


def open_classifier(settings: Any) -> Any:
    """Return the `TrainedNetwork` of --model, which has a classifier of its own, and --weights."""
    from tfxfer.serving import trained_network

    if is_file(settings):
        return trained_network.open_file(*open_file(settings))
    return trained_network.open_classifier(
        settings.model,
        settings.weights,
        source=settings.source,
        rename=settings.rename or None,
        image_size=settings.image_size,
    )


def endpoints(opened: Opened, images: Any) -> dict[str, Any]:
    """Build the model up to the endpoint and return all its endpoints, with as many classes as the weights have.

    Raises:
      GraphError: the network has no such endpoint, or it cannot be averaged.
    """
    from tfxfer.models.network import build_endpoints, count_classes

    model, classes = opened.model, count_classes(opened.model, opened.weights)
    return build_endpoints(model, images, endpoint=opened.endpoint, classes=classes, input_spec=opened.input_spec)


def build(settings: Any, opened: Opened, shape: tuple[int, ...], classes: int) -> tuple[Any, Any, Any]:
    """Build the network with its classifier in the default graph.

    Args:
      settings: the flags' values, as attributes.
      opened: the model.
      shape: of an image.
      classes: how many there are.

    Returns:
      The placeholders of the images and of the labels, and the `Classifier`.

    Raises:
      GraphError: the network has no such endpoint, or the head cannot be built as asked.
    """
    import tensorflow.compat.v1 as tf

    from tfxfer.models.network import build_network

    tf.set_random_seed(settings.seed)
    images = tf.placeholder(tf.uint8, [None, *shape], name=opened.free_name("images"))
    labels = tf.placeholder(tf.int64, [None], name=opened.free_name("labels"))
    options = {name: settings[name].value for name in ("hidden", "dropout", "loss", "normalize")}
    model, endpoint = opened.model, opened.endpoint
    network = build_network(model, images, classes=classes, endpoint=endpoint, input_spec=opened.input_spec, **options)
    return images, labels, network


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
    if weights is None and is_file(settings) and is_keras_name(settings.model):
        raise RestoreError(
            f"--weights is needed, the file to restore {settings.model} from, which Keras builds without any; or "
            "--restore=none for a random baseline"
        )
    if weights is None and is_file(settings):
        raise RestoreError(
            f"--model={settings.model} has no weights in it or beside it (a checkpoint is PREFIX.index and "
            "PREFIX.data-*, and its graph PREFIX.meta); give the file that has them by --weights, or --restore=none "
            "to train from scratch"
        )
    if weights is None:
        raise RestoreError("--weights is needed, the file to restore from; or --restore=none for a random baseline")
    try:
        return [tx.plan(tx.select(*(settings.restore or restored)), weights)]
    except RestoreError as error:
        if "dry_run" in settings and settings.dry_run and error.plan:
            _pager.say(error.plan.report())
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
