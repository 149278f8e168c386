"""What a file of weights holds: every array, and how much lies in each scope and in each role."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfxfer import files
from tfxfer.errors import WeightsError
from tfxfer.names import by_number, printable
from tfxfer.weight_tools.tables import number, reason, table
from tfxfer.weight_tools.values import FLOAT, Statistics, kind, statistics
from tfxfer.weights import Weights, streams
from tfxfer.weights.roles import ROLES, role, slots_by_place

SORTS = ("file", "name", "size")
DEEPEST = 16  # scopes that a tree goes down
MOST_SCOPES = 40  # that are listed below a table


class Row(NamedTuple):
    """One array.

    Attributes:
      name, shape: as the file has them.
      dtype: the name of its dtype; `string` for TensorFlow's.
      parameters: the number of its elements.
      bytes: what they take in memory; None for strings, whose length a header does not tell.
      role: one of `weights.roles.ROLES`.
      stats: where they were asked for; None for strings.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    bytes: int | None
    role: str
    stats: Statistics | None = None

    def to_json(self, stats: bool) -> dict[str, Any]:
        """Return it as a dict of strings, numbers and lists; `stats` says whether they were asked for."""
        found = {**self._asdict(), "shape": list(self.shape), "stats": self.stats and dataclasses.asdict(self.stats)}
        return found if stats else {key: value for key, value in found.items() if key != "stats"}


@dataclasses.dataclass(frozen=True)
class Total:
    """How much lies in a scope or in a role; bytes without those of strings."""

    name: str
    tensors: int
    parameters: int
    bytes: int


def rows(weights: Weights, chosen: Sequence[str], *, sort: str = "file", stats: bool = False) -> list[Row]:
    """Describe arrays of a file, from its header alone unless statistics are asked for.

    Args:
      weights: the file.
      chosen: the names, in the order of the file.
      sort: `file` keeps the order; `name` puts conv2 before conv10; `size` begins with the largest.
      stats: whether to read every array, one at a time.

    Raises:
      WeightsError: an array that is to be read is damaged.
    """
    every = set(weights)
    slots = slots_by_place(weights, weights.shape)
    made = [_row(weights, name, every, slots, stats) for name in chosen]
    if sort == "size":
        made.sort(key=lambda row: -(row.bytes or 0))
    elif sort == "name":
        made.sort(key=lambda row: by_number(row.name))
    return made


def _row(weights: Weights, name: str, every: set[str], slots: frozenset[str], stats: bool) -> Row:
    tensor = weights.tensor(name)
    text, parameters = tensor.dtype.hasobject, tensor.size
    return Row(
        name,
        tensor.shape,
        "string" if text and weights.checkpoint else _dtype_name(tensor.dtype),
        parameters,
        None if text else parameters * tensor.dtype.itemsize,
        role(name, tensor.shape, every, tensor.dtype, slots),
        _statistics(weights, name) if stats else None,
    )


def _statistics(weights: Weights, name: str) -> Statistics | None:
    try:
        return statistics(weights.tensor(name))
    except streams.TooLargeError as error:
        raise WeightsError(
            f"{weights.path}: {name}: {error}; leave `stats` out, or choose others by `select`"
        ) from None


@functools.cache
def _dtype_name(dtype: np.dtype) -> str:
    # numpy makes the name anew each time, which takes longer than all else about a row.
    return dtype.name


def total(found: Iterable[Row], name: str = "") -> Total:
    """Add up arrays."""
    listed = list(found)
    return Total(name, len(listed), sum(row.parameters for row in listed), sum(row.bytes or 0 for row in listed))


def by_role(found: Iterable[Row]) -> list[Total]:
    """Add up the arrays of each role, in the order of `ROLES`."""
    groups = _grouped(found, lambda row: row.role)
    return [total(groups[name], name) for name in ROLES if name in groups]


def by_scope(found: Sequence[Row]) -> list[Total]:
    """Add up the arrays of each outermost scope; those in none, under the empty name, come last.

    A variable that has slots below its name is a scope with these.
    """
    cut = separator(row.name for row in found)
    outermost = {row.name.partition(cut)[0] for row in found if cut in row.name}

    def scope(row: Row) -> str:
        first = row.name.partition(cut)[0]
        return first if first in outermost else ""

    groups = _grouped(found, scope)
    return [total(groups[name], name) for name in sorted(groups, key=lambda name: not name)]


def separator(names: Iterable[str]) -> str:
    """Return what parts scopes: `/`, or where no name has one, as in files of PyTorch, a dot."""
    return "/" if any("/" in name for name in names) else "."


def _grouped(found: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(key(row), []).append(row)
    return groups


# --- as text ---

_HEADINGS = ("name", "shape", "dtype", ">parameters", ">bytes", "role")
_STATISTICS = (">mean", ">std", ">min", ">max", ">zeros", ">NaN", ">Inf")


def as_table(found: Sequence[Row], *, stats: bool = False, width: int | None = None) -> list[str]:
    """Show a line for each array; see `tables.table` for `width`."""
    headings = _HEADINGS + (_STATISTICS if stats else ())
    return table(headings, [(printable(row.name), *_cells(row, stats)) for row in found], width)


def as_tree(found: Sequence[Row], *, stats: bool = False, width: int | None = None) -> list[str]:
    """Show arrays below their scopes, with the sum of each scope."""
    root = _Scope("")
    cut = separator(row.name for row in found)
    for row in found:
        root.add(row, row.name.split(cut, DEEPEST))
    blank = [""] * (len(_STATISTICS) if stats else 0)
    lines = []
    for depth, scope in root.walk():
        label = "  " * depth + printable(scope.name)
        if scope.row:
            lines.append((label, *_cells(scope.row, stats)))
        else:
            lines.append((label + cut, "", "", f"{scope.parameters:,}", f"{scope.bytes:,}", "", *blank))
    return table(_HEADINGS + (_STATISTICS if stats else ()), lines, width)


class _Scope:
    """A scope and what lies in it; where an array has the name of a scope, `row` is that array."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.row: Row | None = None
        self.inside: dict[str, _Scope] = {}
        self.parameters = self.bytes = 0

    def add(self, row: Row, path: Sequence[str]) -> None:
        """Put an array below this scope."""
        scope = self
        for part in path:
            scope = scope.inside.setdefault(part, _Scope(part))
            scope.parameters += row.parameters
            scope.bytes += row.bytes or 0
        scope.row = row

    def walk(self, depth: int = 0) -> Iterator[tuple[int, _Scope]]:
        """Yield all scopes and arrays below with their depth, from the top."""
        for scope in self.inside.values():
            yield depth, scope
            yield from scope.walk(depth + 1)


def _cells(row: Row, stats: bool) -> tuple[str, ...]:
    size = "-" if row.bytes is None else f"{row.bytes:,}"
    cells = (str(row.shape), row.dtype, f"{row.parameters:,}", size, row.role)
    if not stats:
        return cells
    values = dataclasses.astuple(row.stats) if row.stats else (None,) * len(_STATISTICS)
    return cells + tuple(map(number, values))


def totals(found: Sequence[Row], *, scopes: bool = True, width: int | None = None) -> list[str]:
    """Show what lies in each role, and before that, if told, in each scope where there are 2 to MOST_SCOPES of them."""
    outer, lines = by_scope(found) if scopes else [], []
    if 1 < len(outer) <= MOST_SCOPES and len(outer) < len(found):
        lines += [*_totals("scope", [dataclasses.replace(one, name=one.name or "(none)") for one in outer], width), ""]
    return lines + _totals("role", by_role(found), width)


def _totals(heading: str, found: Sequence[Total], width: int | None) -> list[str]:
    lines = [(printable(t.name), f"{t.tensors:,}", f"{t.parameters:,}", f"{t.bytes:,}") for t in found]
    return table((heading, ">tensors", ">parameters", ">bytes"), lines, width)


def summary(weights: Weights, found: Sequence[Row]) -> str:
    """Say in a line how much was listed, of which file."""
    every = total(found)
    return (
        f"{every.tensors:,} of {len(weights):,} tensors in {printable(weights.path)} ({weights.kind}): "
        f"{every.parameters:,} parameters, {every.bytes:,} bytes"
    )


def skipped(weights: Weights) -> list[str]:
    """Say what else the file holds and why it is not read; empty where there is nothing."""
    if not weights.skipped:
        return []
    lines = [f"  {printable(name)}: {printable(reason(weights, name))}" for name in weights.skipped]
    return [f"not read, since {'they are not weights' if len(lines) > 1 else 'it is not a weight'}:", *lines]


def array_text(weights: Weights, name: str) -> str:
    """Show one array as numpy prints it, its middle left out where it is large.

    Raises:
      WeightsError: it is damaged.
    """
    array = weights[name]
    return f"{printable(name)}  {array.shape}  {array.dtype.name}\n{np.array2string(array)}"


def save_array(weights: Weights, name: str, out: Path, *, overwrite: bool = False) -> list[str]:
    """Save one array as a `.npy` file; what NumPy's files have no dtype for is saved in a wider one that holds it.

    Returns:
      Lines that say what was moved and written.

    Raises:
      WeightsError: the file exists and is not to be moved aside, its folder does not exist, the array is damaged, or it
        is one of strings.
      OSError: the folder is not writable, or the disk is full.
    """
    from tfxfer.weights.writers.placing import placed, refuse_existing  # only looking at a file needs no writers

    if weights.dtype(name).hasobject:
        raise WeightsError(
            f"{name} holds strings, which a .npy file keeps as a pickle only; leave `out` out to print it"
        )
    refuse_existing(out, overwrite)
    array, wider = weights[name], ""
    if array.dtype.isbuiltin != 1:
        wide = np.float32 if kind(array.dtype) == FLOAT else np.int8 if array.dtype.name.startswith("int") else np.uint8
        array, wider = array.astype(wide), f", as {np.dtype(wide)}, for .npy has no {array.dtype.name}"
    aside = {out: files.old_name(out)} if os.path.lexists(out) else {}
    with placed([out], aside) as [part], part.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return [*(f"moved {old} to {new}" for old, new in aside.items()), f"wrote {name} {array.shape} to {out}{wider}"]
