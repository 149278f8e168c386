"""The average of several sets of weights, as of the last checkpoints of a training."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats.tensors import Tensor, shown
from tfxfer.input_spec import InputSpec
from tfxfer.weight_tools.convert_weights import by_place_notes, has_order, is_float, rounded, skipped_notes
from tfxfer.weight_tools.graft_weights import common_input_spec
from tfxfer.weights import Weights, find_checkpoint, meta_graph, streams
from tfxfer.weights.roles import SLOT, role, slots_by_place

_STEP = re.compile(r"(.*)-(\d+)")


class Average(NamedTuple):
    """What is to be written, decided before anything is.

    Attributes:
      tensors: the tensors by name, in the order of the last file.
      input_spec: what travels along, where all files say the same.
      notes: what whoever averages should know, a line each.
      ordered: whether the last file tells the order of its layers, for `writers.write`.
    """

    tensors: dict[str, Tensor]
    input_spec: InputSpec | None
    notes: list[str]
    ordered: bool


def plan(files: Sequence[Weights], coefficients: Sequence[float] = ()) -> Average:
    """Decide what is averaged; no value is read.

    Floats are averaged in float64 and rounded once to the dtype that they have. What is not a float (steps, counters,
    strings) is taken from the last file. Slots of optimizers are left out: an average of them is that of no training.

    Args:
      files: two or more; a later one is thought of as the newer.
      coefficients: how much each counts; they are divided by their sum. Default: all the same.

    Raises:
      WeightsError: names, shapes or dtypes differ (all such are listed), or the coefficients do not fit.
    """
    if len(files) < 2:
        raise WeightsError(f"{len(files)} file has no average; give two or more")
    shares = _shares(coefficients or [1.0] * len(files), len(files))
    forms = [_forms(weights) for weights in files]
    _refuse_differences(files, forms)
    last = files[-1]
    tensors = {name: _averaged(name, files, shares) for name in forms[-1]}
    input_spec, notes = common_input_spec(files)
    kept, slots = [name for name in tensors if not is_float(last.dtype(name))], len(last) - len(tensors)
    taken = [f"not averaged but as in {last.path}: {names.listed(kept)}"] if kept else []
    left = [f"{slots} optimizer slots left out"] if slots else []
    left += by_place_notes(last)
    return Average(tensors, input_spec, [*taken, *left, *skipped_notes(last), *notes], has_order(last))


def last_of(directory: Path, count: int) -> list[Path]:
    """Return the prefixes of the last checkpoints in a directory, by the number behind their names, the oldest first.

    Raises:
      WeightsError: there are fewer, or their names are not all of one form `STEM-NUMBER`.
    """
    found = find_checkpoint.found_in(directory)
    steps = {name: _STEP.fullmatch(name) for name in found}
    stems = {match[1] if match else name for name, match in steps.items()}
    if len(stems) > 1:
        raise WeightsError(
            f"{directory} holds checkpoints of several forms: {names.listed(found)}; name those to average"
        )
    if len(found) < count:
        raise WeightsError(
            f"{directory} holds {len(found)} checkpoints, not {count}{': ' * bool(found)}{names.listed(found)}"
        )
    return [directory / name for name in sorted(found, key=lambda name: int(name.rpartition("-")[2]))[-count:]]


def _shares(coefficients: Sequence[float], count: int) -> list[float]:
    total = math.fsum(coefficients)
    if len(coefficients) != count or not math.isfinite(total) or total <= 0:
        raise WeightsError(
            f"the coefficients {names.listed(coefficients)} do not fit: there must be {count}, one for each file, and "
            "their sum above 0"
        )
    return [coefficient / total for coefficient in coefficients]


def _forms(weights: Weights) -> dict[str, str]:
    """Return shape and dtype of everything but slots."""
    every, ordered = frozenset(weights), meta_graph.in_order(weights.checkpoint, weights)
    slots = slots_by_place(weights, weights.shape)
    kept = (n for n in ordered if role(n, weights.shape(n), every, slots=slots) != SLOT)
    return {name: f"{weights.dtype(name)} {weights.shape(name)}" for name in kept}


def _refuse_differences(files: Sequence[Weights], forms: Sequence[dict[str, str]]) -> None:
    faults = []
    for name in dict.fromkeys(name for each in forms for name in each):
        there: dict[str, list[str]] = {}
        for weights, each in zip(files, forms, strict=True):
            there.setdefault(each.get(name, "missing"), []).append(weights.path)
        if len(there) > 1:
            faults.append(
                f"{name}: " + ", ".join(f"{form} in {names.listed(paths, 3)}" for form, paths in there.items())
            )
    if faults:
        raise WeightsError(
            f"{len(faults)} tensors are not the same in all {len(files)} files:\n  {shown(faults)}\n"
            "average files of one network; convert_weights selects, renames and casts"
        )


def _averaged(name: str, files: Sequence[Weights], shares: Sequence[float]) -> Tensor:
    last = files[-1].tensor(name)
    if not is_float(last.dtype):
        return last
    counted = [(weights.tensor(name), share) for weights, share in zip(files, shares, strict=True) if share]
    return streams.computed(last.shape, last.dtype, functools.partial(_average, name, counted))


def _average(name: str, counted: Sequence[tuple[Tensor, float]]) -> Iterator[np.ndarray]:
    dtype = counted[0][0].dtype
    for pieces in streams.together([tensor for tensor, _ in counted]):
        total = np.zeros(len(pieces[0]))
        for piece, (_, share) in zip(pieces, counted, strict=True):
            total += share * piece.astype(np.float64)
        result = rounded(total, dtype)
        if not np.array_equal(np.isinf(result), np.isinf(total)):
            raise WeightsError(f"{name}: {dtype} does not reach to the sum that these coefficients give")
        yield result
