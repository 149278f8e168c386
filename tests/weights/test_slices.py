"""Slices of partitioned variables: what they cover, and how their keys sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import tables
from tfxfer.formats.tensors import MAX_DIMENSIONS
from tfxfer.weights import slices


def ordered(value: int) -> bytes:
    return slices.key(b"", ((value, 0),))


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1))
def test_keys_of_slices_sort_as_their_numbers_do(a, b):
    assert (ordered(a) < ordered(b)) == (a < b)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=4),
    st.data(),
)
def test_slices_tile_an_array_if_and_only_if_each_element_is_covered_once(sizes, cuts, data):
    shape = tuple(sizes)
    parts = [tuple((0, size) for size in shape)]
    for axis, at in cuts:
        pick = data.draw(st.integers(0, len(parts) - 1))
        part, axis = parts[pick], axis % len(shape)
        start, length = part[axis]
        cut = min(at, length)
        halves = [(*part[:axis], piece, *part[axis + 1 :]) for piece in ((start, cut), (start + cut, length - cut))]
        parts[pick : pick + 1] = halves
    for extra in (False, True):
        if extra:
            pick = data.draw(st.integers(0, len(parts) - 1))
            parts[pick] = parts[data.draw(st.integers(0, len(parts) - 1))]
        count = np.zeros(shape, int)
        for part in parts:
            count[slices.index(part)] += 1
        assert slices.tile(parts, shape) == bool((count == 1).all())


def test_slices_of_scalars_and_of_empty_arrays_tile():
    assert slices.tile([()], ())
    assert not slices.tile([(), ()], ())
    assert slices.tile([((0, 0),)], (0,))
    assert slices.tile([], (0, 5))


def test_no_more_dimensions_are_kept_than_an_array_can_have():
    extents = tables.field(1, tables.field(1, 2) + tables.field(2, 3)) + tables.field(1, b"")
    assert slices.parse(extents, "x") == ((2, 3), (0, slices.FULL))
    assert len(slices.parse(extents * 100_000, "x")) == MAX_DIMENSIONS + 1
    assert slices.resolve(slices.parse(extents * 100, "x"), (1,) * MAX_DIMENSIONS) is None
