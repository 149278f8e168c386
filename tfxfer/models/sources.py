"""The forms in which weights of a model circulate: their names, layout and input spec.

The sources of each model are in its row of `registry.MODELS`. A file is recognised by its names and shapes, which its
header tells.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfxfer import names
from tfxfer.errors import GraphError, SelectionError, WeightsError
from tfxfer.input_spec import InputSpec
from tfxfer.weights import Weights, layouts
from tfxfer.weights.roles import is_of_training, slots_by_place

Shape = tuple[int | None, ...]

SHOWN = 4
MOST_TENSORS = 8  # for each variable of a model, with all that optimizers keep
TOLERANCE = 1e-3  # of the probe; float16 rounds by less


@dataclasses.dataclass(frozen=True)
class Source:
    """One form in which the weights of a model circulate.

    Attributes:
      name: what it is called, as `vgg16_keras`.
      words: which files these are.
      input_spec: what the weights expect of their input.
      variables: the shape of every variable of the model, by our names; None is a size that varies, as the number of
        classes does.
      renames: pairs (regular expression, replacement); the first that matches the whole of a name makes our name of it.
      layout: pairs (regular expression, layout as in `weights.layouts`); the first that matches the whole of one of our
        names says how that array lies in the file.
      ignored: regular expressions for names in the file that do not belong to the model, beside what only training
        needs (see `weights.roles.is_of_training`).
      probe: a variable, and what `[0, 0, :, 0]` of it is for R, G and B in the authors' weights. Names and shapes do
        not tell the order of the channels, and files circulate with either under the same names.
      whole: whether a file is of this source only if it holds all variables: its names are numbers, and the shapes of a
        part are those of other networks too.
      unbroken: whether a file of this source holds every kernel between its first and its last: other networks have the
        same names and shapes, and fewer layers in the middle.
    """

    name: str
    words: str
    input_spec: InputSpec
    variables: Mapping[str, Shape]
    renames: names.Rules
    layout: names.Rules = ()
    ignored: Sequence[str] = ()
    probe: tuple[str, tuple[float, float, float]] | None = None
    whole: bool = False
    unbroken: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.words}): {self.input_spec}"

    def ours(self, name: str) -> str | None:
        """Return our name for a name in the file, or None if no rule matches it or the model has no such variable."""
        replacement = self._renames.first(name)
        return replacement if replacement in self.variables else None

    def rename(self, name: str) -> str:
        """Return our name for a name in the file, or the name itself; `open_weights(path, rename=source.rename)`."""
        return self.ours(name) or name

    def apply(self, weights: Weights) -> Weights:
        """Return weights under our names and in our layout; names that the source does not know stay as they are.

        Raises:
          SelectionError: two names would become one.
          WeightsError: an array is not of the shape that its layout is for.
        """
        renamed = weights.renamed(self.rename)
        texts = {name: self.layout_of(name) for name in map(self.ours, weights) if name}
        return renamed.laid_out([(re.escape(name), text) for name, text in texts.items() if text])

    def layout_of(self, name: str) -> str:
        """Return in which layout the file has one of our variables; the empty string where in ours."""
        return self._layout.first(name) or ""

    @functools.cached_property
    def _renames(self) -> _Rules:
        return _Rules(self.renames)

    @functools.cached_property
    def _layout(self) -> _Rules:
        return _Rules(self.layout)

    def compare(self, weights: Weights) -> Comparison:
        """Say what of a file this source knows, and what speaks against it. Reads no array but the probe.

        Raises:
          WeightsError: the probe cannot be read.
        """
        matched = {ours: name for name in weights if (ours := self.ours(name))}
        if not matched:
            return Comparison(self, matched, (f"knows none of the {len(weights)} names",))
        faults = [*_name_faults(self, weights, matched), *_shape_faults(self, weights, matched)]
        if self.whole and len(matched) < len(self.variables):
            faults.append(f"holds {len(matched)} of {len(self.variables)} arrays, and numbers tell only a whole file")
        if self.unbroken:
            faults += _gap_faults(self, matched)
        order = "" if faults else self.order_of_channels(weights)
        contradicted = order not in ("", self.input_spec.channels)
        if contradicted:
            faults.append(f"wants {self.input_spec.channels}, and the first kernel is for {order}")
        return Comparison(self, matched, tuple(faults), order == self.input_spec.channels, contradicted)

    def order_of_channels(self, weights: Weights) -> str:
        """Return `RGB` or `BGR` where the first kernel of a file is the authors' in that order, else the empty string.

        Raises:
          WeightsError: the kernel cannot be read.
        """
        if not self.probe:
            return ""
        name, expected = self.probe
        theirs = next((theirs for theirs in weights if self.ours(theirs) == name), None)
        if theirs is None:
            return ""
        kernel, text = weights[theirs], self.layout_of(name)
        kernel = layouts.layout(text).apply(kernel) if text else kernel
        if kernel.ndim != 4 or kernel.shape[2] != len(expected):
            return ""
        orders = {"RGB": expected, "BGR": expected[::-1]}
        return next((o for o, wanted in orders.items() if np.allclose(kernel[0, 0, :, 0], wanted, 0, TOLERANCE)), "")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a source makes of a file.

    Attributes:
      source: the source.
      matched: the names in the file that the source knows, by our names.
      faults: what speaks against the file being of this source; empty where nothing does.
      confirmed: whether the probe shows the order of the channels that the input spec says.
      contradicted: whether it shows the other order, and nothing else speaks against the source.
    """

    source: Source
    matched: Mapping[str, str]
    faults: tuple[str, ...]
    confirmed: bool = False
    contradicted: bool = False

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What the source makes of the file: our names, layouts, and what pictures are brought to."""
        layout = [self.source.layout_of(name) for name in self.matched]
        return dict(self.matched), layout, dataclasses.replace(self.source.input_spec, source="any")

    @property
    def missing(self) -> list[str]:
        """The variables of the model that the file does not hold."""
        return [name for name in self.source.variables if name not in self.matched]


def torch_input_spec(model: str, source: str) -> InputSpec:
    """Return the input spec of torchvision's ImageNet networks: pixels in 0..1, minus a mean, by a standard deviation.

    Source: https://pytorch.org/vision/stable/models.html. Its evaluation resizes the shorter side to 256 and crops
    224x224 out of the centre; ours crops first.
    """
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    scale = tuple(1 / (255 * value) for value in deviation)
    return InputSpec(model, source, (224, 224), "RGB", tuple(255 * value for value in mean), scale)


def recognise(weights: Weights, sources: Sequence[Source]) -> Source:
    """Find where a file comes from, by its names and shapes.

    It may hold a part of the model; of several models, it is the one of which it holds the largest part. Where names
    and shapes leave a doubt about the order of the channels, a few numbers of the first kernel decide.

    Args:
      weights: the file, as `open_weights` gives it without renaming.
      sources: what it may be, as `vgg.SOURCES`.

    Raises:
      WeightsError: it is none of these, or may be several; the message says what speaks against each.
    """
    compared = [source.compare(weights) for source in sources]
    best = _best(compared)
    if not best:
        raise WeightsError(_unknown(weights, compared))
    if len(best) > 1:
        raise WeightsError(_ambiguous(weights, [comparison.source for comparison in best]))
    return best[0].source


def candidates(weights: Weights, sources: Sequence[Source]) -> list[Comparison]:
    """List the sources that a file may be of, as `recognise` finds them: one, several where nothing tells, or none.

    Raises:
      WeightsError: the first kernel is to decide, and cannot be read.
    """
    # A file of many more tensors than a model has, slots among them, is not of that model, and not compared with it.
    likely = [source for source in sources if len(weights) <= MOST_TENSORS * len(source.variables)]
    return _best([source.compare(weights) for source in likely])


def _best(compared: Sequence[Comparison]) -> list[Comparison]:
    # Where the order of channels alone speaks against a source, the file is not of another model that fits less either.
    fitting = [comparison for comparison in compared if not comparison.faults or comparison.contradicted]
    fewest = min((len(comparison.missing) for comparison in fitting), default=0)
    best = [comparison for comparison in fitting if len(comparison.missing) == fewest and not comparison.contradicted]
    best = [comparison for comparison in best if comparison.confirmed] or best
    # Of sources that make the same of a file, as of a VGG without its classifier, the first is as good as any.
    return [comparison for place, comparison in enumerate(best) if not _is_told(comparison, best[:place])]


def _is_told(comparison: Comparison, before: Sequence[Comparison]) -> bool:
    return any(comparison.meaning == other.meaning for other in before)


def check_last(model: str, last: str | None, endpoints: Sequence[str]) -> None:
    """Refuse the name of an endpoint that a model does not have.

    Raises:
      GraphError: no endpoint is named `last`; the message lists the endpoints.
    """
    if last is not None and last not in endpoints:
        near = names.did_you_mean(last, endpoints)
        raise GraphError(f"{model} has no endpoint {last!r}{near}; it has {names.listed(endpoints, 99)}")


def named(sources: Sequence[Source], name: str) -> Source:
    """Return the source of this name.

    Raises:
      SelectionError: no source has this name; the message lists all.
    """
    table = {source.name: source for source in sources}
    if name not in table:
        near = names.did_you_mean(name, table)
        raise SelectionError(f"{name!r} is not a source{near}; the sources are {names.listed(table, len(table))}")
    return table[name]


class _Rules:
    """Rules of which most match one name alone: these are looked up, since there are hundreds for each source."""

    def __init__(self, rules: names.Rules) -> None:
        self._literals: dict[str, tuple[int, str]] = {}
        self._patterns: list[tuple[int, re.Pattern[str], str]] = []
        for place, (pattern, replacement) in enumerate(rules):
            literal = None if "\\" in replacement else _literal(pattern)
            if literal is None:
                self._patterns.append((place, re.compile(pattern), replacement))
            else:
                self._literals.setdefault(literal, (place, replacement))

    def first(self, name: str) -> str | None:
        """Return what the first rule that matches the whole name makes of it."""
        literal_at, ours = self._literals.get(name, (math.inf, None))
        for place, pattern, replacement in self._patterns:
            if place < literal_at and (match := pattern.fullmatch(name)):
                return match.expand(replacement)
        return ours


def _literal(pattern: str) -> str | None:
    """Return the one name that a pattern without operators matches, else None."""
    name = re.sub(r"\\([^\w])", r"\1", pattern)
    return name if re.escape(name) == pattern else None


def _name_faults(source: Source, weights: Weights, matched: Mapping[str, str]) -> Iterator[str]:
    known = {name for name in weights if source.ours(name)}
    if len(known) > len(matched):
        twice = sorted(known - set(matched.values()))
        yield f"has one name for {names.listed(twice, SHOWN)} and others"
    ignored = [re.compile(pattern) for pattern in source.ignored]
    others = [name for name in weights if name not in known and not any(each.fullmatch(name) for each in ignored)]
    # What is one number says nothing of a network: `best_acc1`, `args/lr`.
    more = [name for name in others if math.prod(weights.shape(name)) != 1]
    slots = slots_by_place(weights, weights.shape) if more else frozenset()
    unknown = [name for name in more if not is_of_training(name, weights, slots)]
    if unknown:
        yield f"knows {len(known)} of the {len(weights)} names, and not {names.listed(unknown, SHOWN)}"


def _shape_faults(source: Source, weights: Weights, matched: Mapping[str, str]) -> Iterator[str]:
    wrong = [
        f"{name} {weights.shape(name)}"
        for ours, name in matched.items()
        if not _fits(source, ours, weights.shape(name))
    ]
    if wrong:
        yield f"wants other shapes than those of {names.listed(wrong, SHOWN)}"


def _gap_faults(source: Source, matched: Mapping[str, str]) -> Iterator[str]:
    kernels = [name for name in source.variables if name.endswith("kernel")]
    places = [place for place, name in enumerate(kernels) if name in matched]
    lacking = [name for name in kernels[min(places, default=0) : max(places, default=0)] if name not in matched]
    if lacking:
        yield f"has {names.listed(lacking, SHOWN)} between what the file holds"


def _fits(source: Source, ours: str, shape: tuple[int, ...]) -> bool:
    wanted, text = source.variables[ours], source.layout_of(ours)
    try:
        shape = layouts.layout(text).shape(shape) if text else shape
    except WeightsError:
        return False
    return len(shape) == len(wanted) and all(want in (None, size) for want, size in zip(wanted, shape, strict=True))


def _unknown(weights: Weights, compared: Sequence[Comparison]) -> str:
    near = sorted((c for c in compared if c.matched), key=lambda comparison: -len(comparison.matched))
    width = max((len(comparison.source.name) for comparison in near), default=0)
    lines = [f"{weights.path} ({weights.kind}) is none of the {len(compared)} sources that are known:"]
    lines += [f"  {each.source.name:{width}}  {'; '.join(each.faults) or _lacks(each)}" for each in near]
    if len(near) < len(compared):
        others = "the others know" if near else "all know"
        lines.append(f"  {others} none of its {len(weights)} names: {names.listed(weights, SHOWN)}")
    lines.append("name its source if it is one all the same (`source`), or rename what is in it (`rename`)")
    return "\n".join(lines)


def _lacks(comparison: Comparison) -> str:
    # What speaks against a source that fits, beside one that fits better but for the order of the channels.
    variables = comparison.source.variables
    return f"lacks {len(comparison.missing)} of the {len(variables)} variables of {comparison.source.input_spec.model}"


def _ambiguous(weights: Weights, sources: Sequence[Source]) -> str:
    lines = [f"{weights.path} may come from {len(sources)} sources, and its names and shapes do not tell which:"]
    return "\n".join([*lines, *(f"  {source}" for source in sources), "name its source (`source`)"])
