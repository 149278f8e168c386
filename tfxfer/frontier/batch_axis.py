"""Where the batch lies in a tensor: what the analysis of `tfxfer.frontier.per_example` says of each.

FIXED    neither the examples nor their number has a part in it: a constant, a variable that nobody writes
Rows     each of its elements belongs to one example and depends on no other, nor on how many there are
Sizes    integers that depend on the number of examples at most, as a shape
Mixed    none of these can be proved, for a reason
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A tensor that is the same for any batch."""


FIXED = Fixed()


@dataclasses.dataclass(frozen=True)
class Rows:
    """A tensor whose elements each belong to one example.

    Of n examples, dimension `axis` has the size outer * n * inner; the index (o * n + k) * inner + i belongs to example
    k. So the rows of two views that were joined have outer = 2, and the pixels of images [n, h, w, c] that were
    reshaped to [n * h * w, c] have inner = h * w.
    """

    axis: int = 0
    outer: int = 1
    inner: int = 1

    @property
    def is_plain(self) -> bool:
        """Whether row k of the tensor is that of example k."""
        return self == Rows()

    def at(self, axis: int) -> Rows:
        """Return the same in another dimension."""
        return Rows(axis, self.outer, self.inner)

    def with_new(self, place: int) -> Rows:
        """Return the same after a new dimension was put at a place."""
        return self.at(self.axis + (place <= self.axis))

    def without(self, axes: Collection[int]) -> Rows:
        """Return the same after some other dimensions were taken out."""
        return self.at(self.axis - sum(axis < self.axis for axis in axes))


@dataclasses.dataclass(frozen=True)
class Mixed:
    """A tensor of which nothing is proved.

    Attributes:
      op: the name of the op that it comes from.
      reason: beginning with a verb, whose subject is the op.
    """

    op: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Term:
    """An integer: `factor`, or factor times the number of examples; a factor of None is not known."""

    factor: int | None
    batch: bool = False

    def __mul__(self, other: Term) -> Term:
        known = self.factor is not None and other.factor is not None and not (self.batch and other.batch)
        return Term(self.factor * other.factor if known else None, self.batch or other.batch)  # type: ignore[operator]

    def __floordiv__(self, other: Term) -> Term:
        a, b = self.factor, other.factor
        if a is None or not b or (other.batch and not self.batch):
            return Term(None, self.batch or other.batch)
        if self.batch and a % b:
            return Term(None, True)
        return Term(a // b, self.batch and not other.batch)

    def __add__(self, other: Term) -> Term:
        return self._sum(other, 1)

    def __sub__(self, other: Term) -> Term:
        return self._sum(other, -1)

    def _sum(self, other: Term, sign: int) -> Term:
        if self.factor is None or other.factor is None or (self.batch != other.batch and other.factor):
            return other if self == Term(0) and sign == 1 else Term(None, self.batch or other.batch)
        return Term(self.factor + sign * other.factor, self.batch)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Integers of a shape, one for each element in order."""

    shape: tuple[int, ...]
    terms: tuple[Term, ...]

    @staticmethod
    def of(terms: Any) -> Sizes:
        """Take a term, a list of terms or an array of them."""
        array = np.asarray(terms, object)
        return Sizes(array.shape, tuple(array.ravel().tolist()))

    @property
    def array(self) -> np.ndarray:
        """The terms as an array of objects."""
        return np.array(self.terms, object).reshape(self.shape)

    @property
    def is_fixed(self) -> bool:
        """Whether they are the same for any number of examples."""
        return not any(term.batch for term in self.terms)


Layout = Fixed | Rows | Sizes | Mixed


def is_fixed(layout: Layout) -> bool:
    """Say whether neither the examples nor their number has a part in a tensor."""
    return layout is FIXED or (isinstance(layout, Sizes) and layout.is_fixed)


def joined(first: Layout, second: Layout, op: str) -> Layout:
    """Return what is known of a tensor that is either the one or the other."""
    if first == second or isinstance(first, Mixed):
        return first
    if isinstance(second, Mixed):
        return second
    if is_fixed(first) and is_fixed(second):
        return FIXED
    if isinstance(first, Sizes) and isinstance(second, Sizes) and first.shape == second.shape:
        terms = [a if a == b else Term(None, True) for a, b in zip(first.terms, second.terms, strict=True)]
        return Sizes(first.shape, tuple(terms))
    return Mixed(op, "gives now one thing and now another, of which not both belong to examples in the same way")


def constants(values: np.ndarray) -> np.ndarray:
    """Return integers as terms."""
    return np.array([Term(int(value)) for value in values.ravel()], object).reshape(values.shape)


def product(terms: Sequence[Term]) -> Term:
    """Return the product of some terms."""
    result = Term(1)
    for term in terms:
        result = result * term
    return result
