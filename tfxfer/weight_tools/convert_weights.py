"""Weights under other names, in another layout or dtype, in another format; some of them or all."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tfxfer import names
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.formats.tensors import Tensor, shown
from tfxfer.input_spec import InputSpec
from tfxfer.weight_tools.tables import reason
from tfxfer.weights import Weights, keras_h5, layouts, meta_graph, streams
from tfxfer.weights.roles import OF_TRAINING, role, slots_by_place

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
MOST_NOTES = 10  # about entries that are left out; an export of Keras has one for each variable
# Layouts after which an input spec no longer says the truth: the order of colours, and how many classes there are.
_AGAINST_INPUT_SPEC = ("bgr_conv", "classes_1001")


class Row(NamedTuple):
    """A tensor on its way.

    Attributes:
      old: its name in the file.
      new: its name in what is written.
      before: the tensor as it is read.
      after: the tensor as it is written.
    """

    old: str
    new: str
    before: Tensor
    after: Tensor


class Conversion(NamedTuple):
    """What is to be written, decided before anything is.

    Attributes:
      weights: the file that it comes from.
      rows: the tensors, in the order in which they are written.
      input_spec: what travels along; None where there is none, or where it would no longer hold.
      notes: what whoever converts should know, a line each.
      ordered: whether the order of the rows was chosen, or stands in the file, for `writers.write`.
    """

    weights: Weights
    rows: list[Row]
    input_spec: InputSpec | None
    notes: list[str]
    ordered: bool

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their new names."""
        return {row.new: row.after for row in self.rows}


def plan(
    weights: Weights,
    *,
    select: Sequence[str] = (".*",),
    exclude: Sequence[str] = (),
    drop_slots: bool = False,
    strip_prefix: str = "",
    rename: names.Rules = (),
    add_prefix: str = "",
    layout: layouts.Rules = (),
    dtype: str | None = None,
) -> Conversion:
    """Decide what becomes of each tensor, for `writers.write`; no value is read unless `dtype` might not hold it.

    Args:
      weights: what is converted.
      select: patterns for the names in the file. Their order is that of what is written, tensors of one pattern as the
        file has them; the file of a checkpoint with its `.meta` has them as they were made.
      exclude: patterns for the names to leave out again.
      drop_slots: leave out what optimizers keep, and step counters; see `roles`.
      strip_prefix: what is taken from the beginning of every name that begins with it.
      rename: rules for what is left of the names, in order; see `names.renamer`.
      add_prefix: what is put before every name.
      layout: pairs (regular expression, layout) for the new names; see `Weights.laid_out`.
      dtype: what floats become; integers, booleans and strings stay. Rounds to nearest, and may round to zero.

    Raises:
      SelectionError: a pattern or a rule is not a regular expression or matches nothing, or two names would become one.
      WeightsError: nothing is left, a layout does not fit, or `dtype` cannot hold the values of some tensors.
    """
    old = _chosen(weights, select, exclude)
    kept = _without_training(weights, old) if drop_slots else old
    new = _named(weights.only(kept), strip_prefix, rename, add_prefix)
    if layout:
        new = new.laid_out(layout)
    rows = [
        Row(name, name_new, weights.tensor(name), _cast(new.tensor(name_new), dtype))
        for name, name_new in zip(kept, new, strict=True)
    ]
    _refuse_overflow(rows, dtype)
    input_spec, notes = _input_spec(weights, kept, layout)
    notes = [*_dropped(weights, old, kept), *skipped_notes(weights), *notes]
    return Conversion(weights, rows, input_spec, notes, len(select) > 1 or has_order(weights))


def has_order(weights: Weights) -> bool:
    """Say whether a file tells the order of its layers: one of Keras, or a checkpoint with its `.meta`."""
    return weights.kind == keras_h5.WORDS or meta_graph.tells_order(weights.checkpoint, weights)


def skipped_notes(weights: Weights) -> list[str]:
    """Say what a file holds besides weights, which is left out of everything that is made from it."""
    notes = [f"{name} of {weights.path} is left out: {reason(weights, name)}" for name in weights.skipped]
    more = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], f"{more:,} more entries of {weights.path} are left out"] if more > 1 else notes


def _chosen(weights: Weights, select: Sequence[str], exclude: Sequence[str]) -> list[str]:
    every = meta_graph.in_order(weights.checkpoint, weights)
    left = set(names.match(select, every, exclude))
    ordered = (name for pattern in select for name in every if names.compile_pattern(pattern).fullmatch(name))
    return [name for name in dict.fromkeys(ordered) if name in left]


def _without_training(weights: Weights, chosen: list[str]) -> list[str]:
    of_training = _of_training(weights)
    kept = [name for name in chosen if name not in of_training]
    if not kept:
        raise WeightsError(
            f"nothing is left of {weights.path}: all {len(chosen)} tensors that were chosen are slots of optimizers or "
            f"steps, as {chosen[0]}; leave `drop_slots` out to keep them"
        )
    return kept


def _dropped(weights: Weights, chosen: list[str], kept: list[str]) -> list[str]:
    of_training = _of_training(weights)
    left = set(chosen).difference(kept)
    counts = Counter(of_training[name] for name in left)
    words = " and ".join(f"{count:,} {kind}{'s' * (count > 1)}" for kind, count in sorted(counts.items()))
    return [f"{words} of {weights.path} left out", *by_place_notes(weights, left)] if words else []


def _of_training(weights: Weights) -> dict[str, str]:
    """Return the roles of what only training needs, by name."""
    every, slots = frozenset(weights), slots_by_place(weights, weights.shape)
    roles = {name: role(name, weights.shape(name), every, slots=slots) for name in weights}
    return {name: kind for name, kind in roles.items() if kind in OF_TRAINING}


def by_place_notes(weights: Weights, left: Iterable[str] | None = None) -> list[str]:
    """Name what is left out as a slot because of its place below a variable, since that is a conclusion.

    Args:
      weights: the file.
      left: what is left out of it; None where all slots are.
    """
    slots = slots_by_place(weights, weights.shape)
    taken = sorted(slots if left is None else slots.intersection(left))
    return [f"taken for slots of {weights.path}, by their place below a variable: {names.listed(taken)}"] * bool(taken)


def _named(weights: Weights, strip_prefix: str, rename: names.Rules, add_prefix: str) -> Weights:
    if strip_prefix:
        if not any(name.startswith(strip_prefix) for name in weights):
            near = ", ".join(names.nearest(strip_prefix, weights))
            raise SelectionError(f"no name begins with {strip_prefix!r}; nearest: {near}")
        weights = weights.renamed(lambda name: name.removeprefix(strip_prefix))
    if rename:
        weights = weights.renamed(rename)
    return weights.renamed(lambda name: add_prefix + name) if add_prefix else weights


# --- dtypes ---


def is_float(dtype: np.dtype) -> bool:
    """Say whether a dtype is of numbers that are cast and averaged: floats of 16 bits or more."""
    return dtype in DTYPES.values()


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Cast floats to another dtype of floats, each to the nearest there is; what is too large becomes infinite.

    ml_dtypes casts float64 to bfloat16 by way of float32, and so rounds twice. Here the first step rounds to odd: what
    float32 cannot hold is cut, and its last bit set, so that the second step sees on which side of a tie it was.
    """
    with np.errstate(over="ignore"):
        near = values.astype(np.float32 if dtype == DTYPES["bfloat16"] else dtype)
        if values.dtype == np.float64 and dtype == DTYPES["bfloat16"]:
            back, bits = near.astype(np.float64), near.view(np.uint32)
            bits -= np.abs(back) > np.abs(values)
            bits |= (back < values) | (back > values)  # neither for NaN
        return near.astype(dtype, copy=False)


def _cast(tensor: Tensor, dtype: str | None) -> Tensor:
    if dtype is None or not is_float(tensor.dtype) or tensor.dtype == DTYPES[dtype]:
        return tensor
    return streams.computed(tensor.shape, DTYPES[dtype], functools.partial(_cast_pieces, tensor, DTYPES[dtype]))


def _cast_pieces(tensor: Tensor, dtype: np.dtype) -> Iterator[np.ndarray]:
    for piece in streams.pieces(tensor):
        yield rounded(piece, dtype)


def _refuse_overflow(rows: list[Row], dtype: str | None) -> None:
    """Read what becomes narrower once before it is written, so that all faults come at once and early."""
    counts = [(row, _overflows(row.before, row.after.dtype)) for row in rows if _is_narrower(row)]
    faults = [f"{row.old}: {count:,} of {row.before.size:,} values" for row, count in counts if count]
    if faults:
        raise WeightsError(
            f"{dtype} ends at {_most(DTYPES[dtype or '']):.5g}; beyond it are values of:\n  {shown(faults)}\n"
            "take another `dtype`, or leave these out"
        )


def _is_narrower(row: Row) -> bool:
    before, after = row.before.dtype, row.after.dtype
    return before != after and _most(after) < _most(before)


def _most(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).max)


def _overflows(tensor: Tensor, dtype: np.dtype) -> int:
    """Count the finite values that would become infinite."""
    return sum(
        int(np.count_nonzero(np.isfinite(piece) & np.isinf(rounded(piece, dtype)))) for piece in streams.pieces(tensor)
    )


# --- the input spec ---


def _input_spec(weights: Weights, kept: list[str], layout: layouts.Rules) -> tuple[InputSpec | None, list[str]]:
    """Return the input spec beside the file if it still holds; else a note why it does not."""
    input_spec = weights.input_spec()
    if input_spec is None:
        return None, []
    of_training, there = _of_training(weights), frozenset(kept)
    missing = [name for name in weights if name not in there and name not in of_training]
    changes = [text for _, text in layout if any(change in str(text) for change in _AGAINST_INPUT_SPEC)]
    if not missing and not changes:
        return input_spec, []
    why = (
        f"the layout {changes[0]} changes what it speaks of"
        if changes
        else f"{len(missing)} of its variables are left out, as {missing[0]}"
    )
    return None, [f"{weights.input_spec_path.name} stays behind: {why}"]
