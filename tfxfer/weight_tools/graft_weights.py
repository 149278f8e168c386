"""One set of weights out of several files: the convolutions of one, the head of another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tfxfer import names
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.formats.tensors import Tensor, shown
from tfxfer.input_spec import InputSpec
from tfxfer.weight_tools.convert_weights import by_place_notes, has_order, skipped_notes
from tfxfer.weights import Weights, meta_graph
from tfxfer.weights.roles import OF_TRAINING, role, slots_by_place

_MEMBER = re.compile(r"(.+)(?:[/.][^/.]+|_(?:[Ww]|[Bb]|weights?|kernel|bias|biases))", re.DOTALL)

Takes = Sequence[tuple[str, Weights]]


class Graft(NamedTuple):
    """What is to be written, decided before anything is.

    Attributes:
      tensors: the tensors by name: those of the base in its order, then those that were added.
      origins: the file that each comes from.
      sources: all files that were given.
      input_spec: what travels along, where all files say the same.
      notes: what whoever grafts should know, a line each.
      ordered: whether the order of the tensors was chosen, or stands in the base, for `writers.write`.
    """

    tensors: dict[str, Tensor]
    origins: dict[str, Weights]
    sources: list[Weights]
    input_spec: InputSpec | None
    notes: list[str]
    ordered: bool


def plan(base: Weights | None, takes: Takes, *, mix_layers: bool = False) -> Graft:
    """Decide which tensor comes from which file; no value is read.

    What a pattern takes replaces the tensor of the same name in the base, or is added. Slots of optimizers and steps
    are left out of all files: they belong to a training that is not that of the result.

    Args:
      base: what everything comes from that is not taken from elsewhere; None where all is taken.
      takes: pairs (pattern, file): from the file come all names that the pattern matches whole.
      mix_layers: allow the tensors of one layer to come from several files.

    Raises:
      SelectionError: a pattern is not a regular expression or takes nothing, or two files give the same name.
      WeightsError: shapes or dtypes differ from the base, or the graft leaves holes: a pattern matches what the base
        has and the file has not; a layer comes without tensors that it has in its file; or, unless `mix_layers`, a
        layer has tensors of several files. All such are listed.
    """
    origins = dict.fromkeys(_of_model(base), base) if base is not None else {}
    taken = _taken(takes)
    if base is not None:
        _refuse_differences(base, taken)
        _refuse_gaps(base, takes, taken)
    origins |= taken
    _refuse_holes(origins, taken)
    if not mix_layers:
        _refuse_mixtures(origins)
    files = [base, *(weights for _, weights in takes)] if base is not None else [weights for _, weights in takes]
    input_spec, notes = common_input_spec(files)
    left = {weights.path: len(weights) - len(_of_model(weights)) for weights in files}
    notes += [f"{count} slots and steps of {path} are left out" for path, count in left.items() if count]
    notes += dict.fromkeys(n for weights in files for n in [*by_place_notes(weights), *skipped_notes(weights)])
    tensors = {name: weights.tensor(name) for name, weights in origins.items()}
    ordered = has_order(files[0]) or (base is None and len(takes) > 1)
    return Graft(tensors, origins, files, input_spec, notes, ordered)


def common_input_spec(files: Sequence[Weights]) -> tuple[InputSpec | None, list[str]]:
    """Return the input spec that all files have; None where none has one, or with a note where they do not agree."""
    input_specs = [weights.input_spec() for weights in files]
    if all(input_spec == input_specs[0] for input_spec in input_specs):
        return input_specs[0], []
    return None, ["no input spec is written: the files have different ones, or only some have one"]


def _of_model(weights: Weights) -> list[str]:
    """List what is not of training alone."""
    every, ordered = frozenset(weights), meta_graph.in_order(weights.checkpoint, weights)
    slots = slots_by_place(weights, weights.shape)
    return [n for n in ordered if role(n, weights.shape(n), every, slots=slots) not in OF_TRAINING]


def _taken(takes: Takes) -> dict[str, Weights]:
    taken: dict[str, Weights] = {}
    clashes: list[str] = []
    for pattern, weights in takes:
        for name in _matched(pattern, weights):
            before = taken.setdefault(name, weights)
            if before.path != weights.path:
                clashes.append(f"{name}: {before.path} and {weights.path}")
    if clashes:
        raise SelectionError(
            f"{len(clashes)} tensors are taken from two files:\n  {shown(clashes)}\nnarrow the patterns"
        )
    return taken


def _matched(pattern: str, weights: Weights) -> list[str]:
    try:
        return names.match([pattern], _of_model(weights))
    except SelectionError as error:
        raise SelectionError(f"nothing is taken from {weights.path}: {error}") from None


def _refuse_differences(base: Weights, taken: Mapping[str, Weights]) -> None:
    faults = [
        f"{name}: {_form(base, name)} in {base.path}, {_form(weights, name)} in {weights.path}"
        for name, weights in taken.items()
        if name in base and _form(base, name) != _form(weights, name)
    ]
    if faults:
        raise WeightsError(
            f"{len(faults)} tensors do not fit into their places:\n  {shown(faults)}\n"
            "narrow the patterns, or bring the files to one form by convert_weights"
        )


def _form(weights: Weights, name: str) -> str:
    return f"{weights.dtype(name)} {weights.shape(name)}"


def _refuse_gaps(base: Weights, takes: Takes, taken: Mapping[str, Weights]) -> None:
    mine = _of_model(base)
    faults = [
        f"{name}: {pattern!r} matches it in {base.path}, and {weights.path} does not have it"
        for pattern, weights in takes
        for name in filter(names.compile_pattern(pattern).fullmatch, mine)
        if name not in taken
    ]
    _refuse(faults, "narrow the pattern to what the file has")


def _refuse_holes(origins: Mapping[str, Weights], taken: Mapping[str, Weights]) -> None:
    files = {weights.path: weights for weights in taken.values()}
    touched = {(_layer(name), weights.path) for name, weights in taken.items()}
    faults = [
        f"{name}: the rest of {_layer(name)} comes from {path}, and nothing gives it"
        for path, weights in files.items()
        for name in _of_model(weights)
        if name not in origins and (_layer(name), path) in touched
    ]
    _refuse(faults, "let a pattern take the whole layer")


def _refuse_mixtures(origins: Mapping[str, Weights]) -> None:
    layers: dict[str, dict[str, list[str]]] = {}
    for name, weights in origins.items():
        layers.setdefault(_layer(name), {}).setdefault(weights.path, []).append(name)
    faults = [
        f"{layer}: " + ", ".join(f"{names.listed(members, 4)} of {path}" for path, members in parts.items())
        for layer, parts in layers.items()
        if len(parts) > 1
    ]
    _refuse(faults, "let a pattern take the whole layer, or allow this by `mix_layers=True`")


def _refuse(faults: list[str], cure: str) -> None:
    if faults:
        raise WeightsError(
            f"the graft leaves {'a hole' if len(faults) == 1 else f'{len(faults)} holes'}:\n  {shown(faults)}\n{cure}"
        )


def _layer(name: str) -> str:
    """Return the scope of a name; of one without, what stands before `_W` or the like: `conv1_W` is of conv1."""
    found = _MEMBER.fullmatch(name)
    return found[1] if found else name
