"""What is different between two files of weights: names, shapes, dtypes and values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfxfer.formats.tensors import Tensor
from tfxfer.names import printable
from tfxfer.weight_tools.tables import reason, table
from tfxfer.weight_tools.values import BOOL, INTEGER, TEXT, as_float64, kind
from tfxfer.weights import Weights, streams


@dataclasses.dataclass(frozen=True)
class Change:
    """How the values of an array differ between A and B, which have it in one shape and dtype.

    Attributes:
      differ, size: how many values are different, beyond the tolerance, and how many there are.
      max_abs: the largest |a - b| of finite values; None where there are none such, of bool and of strings.
      relative: the norm of a - b by the larger of the norms of a and b, from 0 to 2; None as above.
      cosine: of the angle between a and b as vectors, from -1 to 1; None as above, and where one is all zeros.
      not_finite: how many of those that differ are NaN or infinite in A or B; the other numbers leave them out.
    """

    differ: int
    size: int
    max_abs: float | None = None
    relative: float | None = None
    cosine: float | None = None
    not_finite: int = 0


@dataclasses.dataclass(frozen=True)
class Difference:
    """What `diff` found.

    Attributes:
      only_a, only_b: names that one of them has, in the order of the file.
      other_form: names whose arrays have another shape or dtype.
      changes: names whose arrays have other values.
      equal: names whose arrays are equal.
    """

    a: Weights
    b: Weights
    only_a: list[str]
    only_b: list[str]
    other_form: list[str]
    changes: dict[str, Change]
    equal: list[str]

    @property
    def same(self) -> bool:
        """Whether nothing is different."""
        return not (self.only_a or self.only_b or self.other_form or self.changes)

    def to_json(self) -> dict[str, Any]:
        """Return it as dicts, lists, strings and numbers."""
        forms = {name: {"a": _form_json(self.a, name), "b": _form_json(self.b, name)} for name in self.other_form}
        changes = {name: {**_form_json(self.a, name), **dataclasses.asdict(c)} for name, c in self.changes.items()}
        return {
            "a": self.a.path,
            "b": self.b.path,
            "same": self.same,
            "only_in_a": {name: _form_json(self.a, name) for name in self.only_a},
            "only_in_b": {name: _form_json(self.b, name) for name in self.only_b},
            "other_shape_or_dtype": forms,
            "other_values": changes,
            "equal": self.equal,
            "not_compared": {"a": dict(self.a.skipped), "b": dict(self.b.skipped)},
        }


def diff(a: Weights, b: Weights, chosen: Sequence[str], *, rtol: float = 0.0, atol: float = 0.0) -> Difference:
    """Compare two sets of weights; a pair of arrays is in memory at a time.

    Args:
      a, b: the sets, under names that are to be the same.
      chosen: the names to compare, each of which one of them has at least.
      rtol, atol: floats are equal where |a - b| <= atol + rtol * |b|, and a NaN equals a NaN. All else is compared
        exactly; 0.0 equals -0.0.

    Raises:
      WeightsError: an array cannot be read, or is damaged.
    """
    for name in chosen:
        if name not in a and name not in b:
            a.tensor(name)  # which says why it is not there
    both = [name for name in chosen if name in a and name in b]
    other = [name for name in both if (a.shape(name), a.dtype(name)) != (b.shape(name), b.dtype(name))]
    changes, equal = {}, []
    for name in both:
        if name not in other:
            change = compare(a.tensor(name), b.tensor(name), rtol=rtol, atol=atol)
            if change:
                changes[name] = change
            else:
                equal.append(name)
    only_a, only_b = ([name for name in chosen if name not in one] for one in (b, a))
    return Difference(a, b, only_a, only_b, other, changes, equal)


def compare(a: Tensor, b: Tensor, *, rtol: float = 0.0, atol: float = 0.0) -> Change | None:
    """Compare two arrays of one shape and dtype; None where they are equal. See `diff` for what is equal.

    Raises:
      WeightsError: the values of one of them are missing or fail their checksum.
    """
    differ = sum(int(np.count_nonzero(_apart(x, y, rtol, atol))) for x, y in streams.together([a, b]))
    if not differ:
        return None
    if kind(a.dtype) in (TEXT, BOOL):
        return Change(differ, a.size)
    largest: float = 0
    not_finite, finite, sums = 0, 0, np.zeros(4)
    with np.errstate(over="ignore", invalid="ignore"):
        for x, y in streams.together([a, b]):
            left, right = as_float64(x), as_float64(y)
            good = np.isfinite(left) & np.isfinite(right)
            not_finite += int(np.count_nonzero(_apart(x, y, 0, 0) & ~good))
            left, right, finite = left[good], right[good], finite + int(np.count_nonzero(good))
            gap = left - right
            largest = max(largest, _largest(x, y, gap))
            sums += [np.vdot(u, v).real for u, v in ((left, left), (right, right), (gap, gap), (left, right))]
        return Change(differ, a.size, *_norms(largest, sums, bool(finite)), not_finite)


def _apart(x: np.ndarray, y: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Say of each value whether it is different."""
    apart = np.asarray(x != y, bool)
    if not apart.any() or kind(x.dtype) in (TEXT, BOOL, INTEGER):
        return apart
    apart &= ~(np.isnan(x) & np.isnan(y))
    if rtol or atol:
        left, right = as_float64(x), as_float64(y)
        with np.errstate(over="ignore", invalid="ignore"):
            close = np.abs(left - right) <= atol + rtol * np.abs(right)
        apart &= ~(close & np.isfinite(left) & np.isfinite(right))
    return apart


def _largest(x: np.ndarray, y: np.ndarray, gap: np.ndarray) -> float:
    if x.dtype.kind in "iu":
        # Exactly, and without an overflow: the difference of two numbers of n bits fits into n bits without a sign.
        exact = np.where(x > y, x - y, y - x).view(f"u{x.dtype.itemsize}")
        return int(exact.max(initial=0))
    return float(np.abs(gap).max(initial=0.0))


def _norms(largest: float, sums: np.ndarray, finite: bool) -> tuple[float | None, float | None, float | None]:
    aa, bb, gap, ab = map(float, sums)
    if not finite or not math.isfinite(largest):
        return None, None, None
    if not math.isfinite(aa + bb + gap):
        return largest, None, None
    cosine = max(-1.0, min(1.0, ab / (math.sqrt(aa) * math.sqrt(bb)))) if aa and bb else None
    return largest, math.sqrt(gap / max(aa, bb)) if gap else 0.0, cosine


# --- as text ---


def report(found: Difference, width: int | None = None) -> list[str]:
    """Show what is different, by kind; see `tables.table` for `width`."""
    blocks = [
        _only("A", found.a, found.only_a, width),
        _only("B", found.b, found.only_b, width),
        _forms(found, width),
        _changes(found, width),
        *(_skipped(side, weights) for side, weights in (("A", found.a), ("B", found.b))),
    ]
    return [line for block in blocks for line in block]


def summary(found: Difference) -> str:
    """Say in a line how many arrays are equal and how many are not."""
    counts = {
        "only in A": found.only_a,
        "only in B": found.only_b,
        "of other shape or dtype": found.other_form,
        "of other values": found.changes,
    }
    parts = [f"{len(these):,} {what}" for what, these in counts.items() if these]
    return (
        f"different: {', '.join(parts)}; equal: {len(found.equal):,}" if parts else f"equal: all {len(found.equal):,}"
    )


def _only(side: str, weights: Weights, chosen: Sequence[str], width: int | None) -> list[str]:
    if not chosen:
        return []
    lines = table(("name", "shape", "dtype"), [(printable(name), *_form(weights, name)) for name in chosen], width)
    return _block(f"only in {side} ({len(chosen):,})", lines)


def _skipped(side: str, weights: Weights) -> list[str]:
    if not weights.skipped:
        return []
    lines = [f"{printable(name)}: {printable(reason(weights, name))}" for name in weights.skipped]
    return _block(f"not compared, as {side} holds no weight there ({len(lines):,})", lines)


def _forms(found: Difference, width: int | None) -> list[str]:
    if not found.other_form:
        return []
    rows = [(printable(name), *_form(found.a, name), *_form(found.b, name)) for name in found.other_form]
    headings = ("name", "shape in A", "dtype in A", "shape in B", "dtype in B")
    return _block(f"other shape or dtype ({len(rows):,})", table(headings, rows, width))


def _changes(found: Difference, width: int | None) -> list[str]:
    if not found.changes:
        return []
    headings = ["name", "shape", "dtype", ">differ", ">of", ">max abs", ">relative", ">cosine", ">NaN or Inf"]
    rows = [(printable(name), *_form(found.a, name), *_cells(c)) for name, c in found.changes.items()]
    if not any(change.not_finite for change in found.changes.values()):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return _block(f"other values ({len(rows):,})", table(headings, rows, width))


def _cells(change: Change) -> tuple[str, ...]:
    figures = (("{:,}" if isinstance(change.max_abs, int) else "{:.3g}", change.max_abs), ("{:.3g}", change.relative))
    shown = ["-" if value is None else form.format(value) for form, value in (*figures, ("{:.6f}", change.cosine))]
    return (f"{change.differ:,}", f"{change.size:,}", *shown, f"{change.not_finite:,}")


def _block(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines), ""]


def _form(weights: Weights, name: str) -> tuple[str, str]:
    tensor = weights.tensor(name)
    return str(tensor.shape), tensor.dtype.name


def _form_json(weights: Weights, name: str) -> dict[str, Any]:
    tensor = weights.tensor(name)
    return {"shape": list(tensor.shape), "dtype": tensor.dtype.name}
