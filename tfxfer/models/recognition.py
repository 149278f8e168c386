"""Which network a file of weights is of: its names, layout and input spec, found by one call.

No TensorFlow is loaded.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence

from tfxfer import names
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.models.registry import MODELS, all_sources
from tfxfer.models.sources import Comparison, Source, candidates, named
from tfxfer.models.sources import recognise as source_of
from tfxfer.weights import MAX_BYTES, Weights, open_weights

OURS = "under tfxfer's own names"
# What the input spec says of a file under our names whose first kernel is the authors', in one order of channels.
UNKNOWN = "unknown names; the first kernel shows the order of the channels"

Rename = names.Rules | Callable[[str], str]
Probe = tuple[str, tuple[float, float, float]]
_SAME = ((r"(.*)", r"\1"),)


@dataclasses.dataclass(frozen=True)
class Recognised:
    """A file of weights of which it is known what it is.

    Attributes:
      weights: its arrays under the names and in the layout of our models, to be given to `plan`.
      input_spec: what they expect of their input, to be given to the model: `vgg.vgg16(images, input_spec=...)`.
      path: the file.
    """

    weights: Weights
    input_spec: InputSpec
    path: str

    @property
    def model(self) -> str:
        """The network, as `vgg16`."""
        return self.input_spec.model

    @property
    def source(self) -> str:
        """Where the weights come from: the name of a `Source`, as `vgg16_keras`, or words where none is known."""
        return self.input_spec.source

    def report(self) -> str:
        """Say what the file is, how pictures are prepared for it, and what of the network it holds."""
        source = next((source for source in all_sources() if source.name == self.source), None)
        words = str(source) if source else f"{self.source}: {self.input_spec}"
        if self.model not in _recognised_models():
            return f"{self.path} is {words}"
        variables = MODELS[self.model].variables
        missing = [name for name in variables if name not in self.weights]
        holds = f"it holds {len(variables) - len(missing)} of the {len(variables)} variables of {self.model}"
        lacks = f"; not in it: {names.listed(missing)}" if missing else ""
        return f"{self.path} is {words}\n  {holds}{lacks}"


def recognise(
    weights: str | os.PathLike[str] | Weights,
    *,
    model: str | None = None,
    source: str | None = None,
    rename: Rename | None = None,
    max_bytes: int = MAX_BYTES,
) -> Recognised:
    """Find out what a file of weights is, and bring it to our names and our layout.

        vgg16 = tx.recognise("vgg16_weights.npz")
        ends = vgg.vgg16(images, last="pool5", input_spec=vgg16.input_spec)
        convolutions = tx.plan(tx.select("conv.*"), vgg16.weights)

    The input spec beside the file decides, if there is one. Else its names and shapes do, first as the file has them
    and then after `rename`; where they leave a doubt whether its first kernel is for RGB or BGR, a few values of it do.
    Nothing is guessed: what remains in doubt is an error, which lists what the file could be. What the file itself says
    of pictures and of its classes (`Weights.stated`) goes before what is known of its source.

    Args:
      weights: a path that `open_weights` takes, or what it returned without renaming.
      model: the network, as `vgg16`. Default: whichever fits.
      source: the form that the file has, as `vgg16_keras`, which is then not looked for: it gives the layout, the input
        spec, and the names that `rename` does not change.
      rename: as in `open_weights`: what the file calls its arrays becomes our names, or those of a known source.
      max_bytes: as in `open_weights`.

    Raises:
      SelectionError: `model` or `source` is not a known name, or a rule of `rename` matches nothing.
      WeightsError: the file cannot be read, is of none of the known sources or may be of several, or is not what
        `model` or `source` says.

    Example:
      >>> images = tf.placeholder(tf.uint8, [None, 28, 28, 1])
      >>> ends = tx.models.autoencoder.encoder(images)
      >>> with tx.session() as sess:
      ...     np.savez("weights.npz", **{variable.op.name: sess.run(variable) for variable in tx.select("conv.*")})
      >>> tx.models.autoencoder.input_spec(images).save("weights.npz")
      >>> recognised = tx.recognise("weights.npz")
      >>> recognised.model, recognised.input_spec.size, list(recognised.weights)[0]
      ('autoencoder', (28, 28), 'conv1/kernel')
    """
    file = weights if isinstance(weights, Weights) else open_weights(weights, max_bytes=max_bytes)
    return _with_stated(_recognise(file, model, source, rename), file.stated)


def _recognise(file: Weights, model: str | None, source: str | None, rename: Rename | None) -> Recognised:
    sources = _sources(model)
    renamed = file if rename is None else file.renamed(rename)
    if input_spec := file.input_spec():
        return _by_input_spec(file, renamed, input_spec, model, source)
    if source is not None:
        return _by_source(file, renamed, named(sources, source))
    if len(candidates(file, sources)) == 1 or (rename is None and not _own(file, model)):
        return _named(file, renamed, source_of(file, sources))
    if rename is not None and candidates(renamed, sources):
        known = source_of(renamed, sources)
        return Recognised(known.apply(renamed), known.input_spec, file.path)
    if own := _own(renamed, model):
        return _by_kernel(renamed, own)
    return _named(file, renamed, source_of(renamed if rename is not None else file, sources))


def _with_stated(recognised: Recognised, stated: InputSpec | None) -> Recognised:
    """Put what a file says of its input in the place of what is known of its source."""
    if stated is None or recognised.weights.input_spec_path.exists():
        return recognised
    known = recognised.input_spec
    names_of_classes = stated.class_names or known.class_names
    input_spec = dataclasses.replace(
        stated, model=known.model, source=known.source, resize=known.resize, class_names=names_of_classes
    )
    return dataclasses.replace(recognised, input_spec=input_spec)


def compare_with_models(weights: Weights) -> list[Comparison]:
    """List what a file may be: the sources that it fits, or else the models whose variables it has under our names.

    Of the latter, `Comparison.source` has the name of the model and the words `OURS`, and its input spec is a guess.

    Raises:
      WeightsError: the first kernel is to decide, and cannot be read.
    """
    ours = [Source(name, OURS, _any_input_spec(name), MODELS[name].variables, _SAME) for name in _recognised_models()]
    return candidates(weights, all_sources()) or candidates(weights, ours)


def objection(input_spec: InputSpec, probe: Probe, weights: Weights) -> str:
    """Say that the first kernel of a file is for another order of channels than an input spec has, or nothing.

    Args:
      input_spec: what the network is built for.
      probe: as `Source.probe`.
      weights: the file, under our names.
    """
    order = _plain(input_spec, probe).order_of_channels(weights)
    if order in ("", input_spec.channels):
        return ""
    return (
        f"the first kernel of {weights.path} is for {order}, and the network is built for {input_spec.channels}; let "
        f"tfxfer.recognise find out what the file is, and build by its input spec: {input_spec.model}(images, "
        "input_spec=recognised.input_spec)"
    )


def _sources(model: str | None) -> list[Source]:
    known = _recognised_models()
    if model is not None and model not in known:
        raise SelectionError(
            f"nothing is known of files of {model!r}{names.did_you_mean(model, known)}; there are {', '.join(known)}"
        )
    return [source for source in all_sources() if model in (None, source.input_spec.model)]


def _recognised_models() -> list[str]:
    """Return the models whose files can be recognised."""
    return [model.name for model in MODELS.values() if model.variables]


def _by_input_spec(
    file: Weights, renamed: Weights, input_spec: InputSpec, model: str | None, source: str | None
) -> Recognised:
    where = file.input_spec_path
    if model not in (None, input_spec.model):
        raise WeightsError(
            f"{file.path} is of {input_spec.model}, by the input spec beside it, and not of `model={model}`"
        )
    if source not in (None, input_spec.source):
        raise WeightsError(
            f"{where} says that the source is {input_spec.source!r}, and not {source!r}; leave `source` out, or "
            "move that file away if it is wrong"
        )
    return Recognised(renamed, input_spec, file.path)


def _by_source(file: Weights, renamed: Weights, source: Source) -> Recognised:
    weights = renamed.renamed(source.rename)
    there = [name for name in weights if name in source.variables]
    if not there:
        raise WeightsError(
            f"{file.path} holds none of the variables of {source.input_spec.model} under the names of {source.name}, "
            f"nor under ours: {names.listed(weights, 4)}; bring them to ours, as conv1_1/kernel (`rename`)"
        )
    weights = _laid_out(weights, {name: source.layout_of(name) for name in there})
    if source.probe:
        order = _plain(source.input_spec, source.probe).order_of_channels(weights)
        if order not in ("", source.input_spec.channels):
            raise WeightsError(
                f"{file.path} is not {source.name}: that is for {source.input_spec.channels}, and the first "
                f"kernel has the values for {order}; leave `source` out, or name one that is for {order}"
            )
    return Recognised(weights, source.input_spec, file.path)


def _named(file: Weights, renamed: Weights, source: Source) -> Recognised:
    """Apply a source to the names that a file has, but for those that were renamed otherwise."""
    if renamed is file:
        return Recognised(source.apply(file), source.input_spec, file.path)
    by_rules = {renamed.source(name): name for name in renamed}
    old = {file.source(name): name for name in file}
    new = {old[key]: name if name != old[key] else source.rename(name) for key, name in by_rules.items()}
    layout = {new[name]: source.layout_of(ours) for name in file if (ours := source.ours(name))}
    return Recognised(_laid_out(file.renamed(new.__getitem__), layout), source.input_spec, file.path)


def _laid_out(weights: Weights, layout: dict[str, str]) -> Weights:
    return weights.laid_out([(re.escape(name), text) for name, text in layout.items() if text])


def _plain(input_spec: InputSpec, probe: Probe | None = None) -> Source:
    """Return a source of files under our names."""
    variables = MODELS[input_spec.model].variables
    return Source(input_spec.source, input_spec.source, input_spec, variables, _SAME, probe=probe)


def _own(weights: Weights, model: str | None) -> list[Source]:
    """List what a file under our own names may be: for each model, one order of channels or the other."""
    own: list[Source] = []
    for name in _recognised_models() if model is None else [model]:
        probed: dict[InputSpec, Probe | None] = {
            dataclasses.replace(source.input_spec, source=UNKNOWN): source.probe
            for source in MODELS[name].sources
            if source.probe
        }
        own += [_plain(input_spec, probe) for input_spec, probe in (probed or {_any_input_spec(name): None}).items()]
    return [comparison.source for comparison in candidates(weights, own)]


def _any_input_spec(model: str) -> InputSpec:
    """Return an input spec where it only has to name the model."""
    return MODELS[model].input_spec or InputSpec(model, UNKNOWN, (1, 1), "RGB", (0, 0, 0), (1, 1, 1))


def _by_kernel(weights: Weights, own: Sequence[Source]) -> Recognised:
    """Say what a file under our names is, by the values of its first kernel, or not at all."""
    confirmed = [source for source in own if source.order_of_channels(weights) == source.input_spec.channels]
    if len(confirmed) == 1:
        return Recognised(weights, confirmed[0].input_spec, weights.path)
    models = dict.fromkeys(source.input_spec.model for source in own)
    known = [source for name in models for source in MODELS[name].sources]
    cure = "Name its source (`source`):" if known else "Put an input spec beside it (tfxfer.input_spec.InputSpec.save)"
    lines = [
        f"{weights.path} has our names of {' or '.join(models)}, which do not tell what the weights expect of "
        f"pictures: RGB or BGR, which mean, which scale. {cure}",
        *(f"  {source}" for source in known),
    ]
    raise WeightsError("\n".join(lines))
