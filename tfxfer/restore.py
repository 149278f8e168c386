"""Where files and graph meet: which variable takes which array, decided and checked before anything moves."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import names
from tfxfer.errors import RestoreError
from tfxfer.graph.parts import is_part, name_of, shape_of, wholes
from tfxfer.graph.variables import model_variables
from tfxfer.weights import Weights

SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Pairing:
    """One variable of the graph and what becomes of it.

    Attributes:
      variable: its op name, without `/part_N` where it is split (see `tfxfer.graph.parts`).
      status: `restored`; `initialised` (not chosen); `missing` (chosen, and the file has no such name); `mismatched`
        (the file has it in another shape or dtype).
      shape, dtype: what the variable is.
      source: the name in the file, before any renaming; None where there is none.
      source_shape, source_dtype: what the file has under that name.
      by: how it gets there: `Saver`, or `feed` (of the variable's initializer).
    """

    variable: str
    status: str
    shape: tuple[int, ...]
    dtype: str
    source: str | None = None
    source_shape: tuple[int, ...] | None = None
    source_dtype: str | None = None
    by: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The checked pairing of variables and weights.

    Attributes:
      weights: where the arrays come from.
      variables: the variables that were chosen, each part of a split one by itself.
      pairings: one for each variable of the model, chosen or not, in the order in which they were made.
      unused: the names in the file, before any renaming, that nobody takes, in its order.
      saver: a `tf.train.Saver` of exactly the chosen variables, or None where the plan has errors. If it restores them
        its names are those in the checkpoint; else it can save the variables under their own.
      by: `Saver` if the weights are a checkpoint whose arrays are taken as they are; else `feed`, of each variable's
        initializer.
    """

    weights: Weights
    variables: tuple[tf.Variable, ...]
    pairings: tuple[Pairing, ...]
    unused: tuple[str, ...]
    saver: tf.train.Saver | None
    by: str

    def chosen(self) -> list[Pairing]:
        """Return the pairings of the chosen variables, in the order of `variables`."""
        table = {pairing.variable: pairing for pairing in self.pairings}
        return [table[name] for name in wholes(self.variables)]

    def report(self) -> str:
        """Return a table of every variable of the model, its source, and why; then what nobody took of the file."""
        restored = sum(pairing.status == "restored" for pairing in self.pairings)
        title = (
            f"restore plan: {restored} of {len(self.pairings)} variables from {self.weights.path} ({self.weights.kind})"
        )
        rows = [("variable", "shape", "dtype", "status", "from")]
        rows += [(p.variable, str(p.shape), p.dtype, p.status, _origin(p)) for p in self.pairings]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        rest = f"{len(self.unused)} tensors of the file are not used"
        if self.unused:
            rest += ": " + names.listed(self.unused, SHOWN)
        return "\n".join([title, *("  " + line for line in table), rest])

    def to_json(self) -> dict[str, Any]:
        """Return the whole plan as plain dicts, lists and strings."""
        pairings = [
            {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in dataclasses.asdict(p).items()
                if value is not None
            }
            for p in self.pairings
        ]
        return {
            "weights": self.weights.path,
            "kind": self.weights.kind,
            "variables": pairings,
            "unused": list(self.unused),
        }


def plan(variables: Sequence[tf.Variable], weights: Weights) -> Plan:
    """Pair variables with the arrays of the same name, and check every name, shape and dtype before a session exists.

    Args:
      variables: what to restore, as `select` returns it. Each is looked up in `weights` by its op name, a part by that
        of the whole.
      weights: what `open_weights` returned; rename there if the names differ.

    Returns:
      The plan, to be handed to `session`.

    Raises:
      RestoreError: no variable was chosen, or some are missing or mismatched: all of them are listed, and the error's
        `plan` reports the rest too.
    """
    chosen = list({variable.op.name: variable for variable in variables}.values())
    if not chosen:
        raise RestoreError(f"no variable was chosen to be restored from {weights.path}; select at least one")
    table = wholes(chosen)
    as_they_are = not any(weights.transformed(name) for name in table if name in weights)
    by = "Saver" if weights.checkpoint and as_they_are else "feed"
    pairings = {name: _pair(parts[0], weights, by) for name, parts in table.items()}
    every = wholes([*model_variables(chosen[0].graph), *chosen])
    rows = tuple(pairings.get(name) or _describe(parts[0], "initialised") for name, parts in every.items())
    taken = {pairing.source for pairing in pairings.values()}
    unused = tuple(source for source in map(weights.source, weights) if source not in taken)
    wrong = [pairing for pairing in pairings.values() if pairing.status != "restored"]
    saver = None if wrong else _saver(table, pairings, by)
    result = Plan(weights, tuple(chosen), rows, unused, saver, by)
    if wrong:
        raise RestoreError(_explain(wrong, list(pairings), weights), result)
    return result


def _pair(variable: tf.Variable, weights: Weights, by: str) -> Pairing:
    name = name_of(variable)
    if name not in weights:
        return _describe(variable, "missing")
    tensor = weights.tensor(name)
    fits = tensor.shape == _shape(variable) and tensor.dtype == np.dtype(variable.dtype.base_dtype.as_numpy_dtype)
    return _describe(
        variable,
        "restored" if fits else "mismatched",
        source=weights.source(name),
        by=by if fits else None,
        source_shape=tensor.shape,
        source_dtype=str(tensor.dtype),
    )


def _describe(variable: tf.Variable, status: str, **source: Any) -> Pairing:
    return Pairing(name_of(variable), status, _shape(variable), variable.dtype.base_dtype.name, **source)


def _shape(variable: tf.Variable) -> tuple[int, ...]:
    # Of integers, also where tf.disable_v2_behavior() makes a shape a sequence of Dimension; -1 is what is not known.
    shape = shape_of(variable)
    sides = [None] if shape.rank is None else shape.as_list()
    return tuple(-1 if side is None else side for side in sides)


def _saver(table: dict[str, list[tf.Variable]], pairings: dict[str, Pairing], by: str) -> tf.train.Saver:
    # A list is what a Saver takes for parts of one variable, and for nothing else.
    saved = {
        (pairings[name].source if by == "Saver" else name): parts if is_part(parts[0]) else parts[0]
        for name, parts in table.items()
    }
    with next(iter(table.values()))[0].graph.as_default():
        return tf.train.Saver(saved, save_relative_paths=True)


def _origin(pairing: Pairing) -> str:
    if pairing.status == "mismatched":
        return f"{pairing.source} is {pairing.source_dtype} {pairing.source_shape}"
    return f"{pairing.source} (by {pairing.by})" if pairing.source else ""


def _explain(wrong: Sequence[Pairing], chosen: Sequence[str], weights: Weights) -> str:
    width = max(len(pairing.variable) for pairing in wrong)
    spare = [name for name in weights if name not in chosen]
    lines = [f"cannot restore {len(wrong)} of {len(chosen)} variables from {weights.path}:"]
    for pairing in wrong:
        if pairing.status == "missing":
            reason = f"not in the file{names.did_you_mean(pairing.variable, spare)}"
        else:
            reason = (
                f"variable is {pairing.dtype} {pairing.shape}, file has {pairing.source_dtype} {pairing.source_shape}"
            )
        lines.append(f"  {pairing.variable:{width}}  {reason}")
    if all(pairing.status == "missing" for pairing in wrong) and len(wrong) == len(chosen):
        lines.append(f"the file holds: {names.listed(weights, SHOWN)}")
    rules = ", ".join(_rules(wrong, spare, weights)) or r'(r"fc_(\d)", r"fc\1"), ...'
    return "\n".join([*lines, f"select fewer variables, or rename: open_weights(path, rename=[{rules}])"])


def _rules(wrong: Sequence[Pairing], spare: Sequence[str], weights: Weights) -> Iterator[str]:
    """Return rename rules that cure what is missing where the file has, under a close name, an array that fits."""
    left = list(spare)
    for pairing in [pairing for pairing in wrong if pairing.status == "missing"][:SHOWN]:
        fitting = [
            name for name in left if (weights.shape(name), weights.dtype(name).name) == (pairing.shape, pairing.dtype)
        ]
        if meant := names.close(pairing.variable, fitting):
            left.remove(meant)
            yield f'(r"^{re.escape(meant)}$", "{pairing.variable}")'
