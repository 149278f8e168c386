"""Layouts: dimensions that come and go, and sizes that are known but for the number of examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfxfer.frontier.batch_axis import FIXED, Mixed, Rows, Sizes, Term, constants, is_fixed, joined, product

SHAPE = (3, 4, 5, 6)


def of(term: Term, examples: int) -> int:
    return term.factor * examples if term.batch else term.factor


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("place", range(5))
def test_a_new_dimension_moves_the_batch_as_in_numpy(axis, place):
    expanded = np.expand_dims(np.empty(SHAPE), place)
    assert expanded.shape[Rows(axis, 2, 7).with_new(place).axis] == SHAPE[axis]
    assert Rows(axis, 2, 7).with_new(place) == Rows(axis + (place <= axis), 2, 7)


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("removed", [set(), {0}, {1, 2}, {0, 3}])
def test_dimensions_that_go_move_the_batch_as_in_numpy(axis, removed):
    if axis not in removed:
        left = np.empty(SHAPE).max(axis=tuple(removed))
        assert left.shape[Rows(axis).without(removed).axis] == SHAPE[axis]


TERMS = st.builds(Term, st.none() | st.integers(0, 50), st.booleans())


@given(TERMS, TERMS, st.integers(1, 9))
def test_what_is_known_of_a_result_holds_for_any_number_of_examples(a, b, examples):
    for result, exact in (
        (a + b, lambda x, y: x + y),
        (a - b, lambda x, y: x - y),
        (a * b, lambda x, y: x * y),
        (a // b, lambda x, y: x // y if y else None),
    ):
        if result.factor is not None and a.factor is not None and b.factor is not None:
            assert of(result, examples) == exact(of(a, examples), of(b, examples))


def test_a_product_of_sizes_knows_whether_the_batch_is_in_it():
    assert product([Term(2), Term(3, True), Term(5)]) == Term(30, True)
    assert product([Term(2), Term(None)]) == Term(None)


def test_two_values_that_a_branch_may_give_are_joined_to_what_both_are():
    three, four = (Sizes.of(constants(np.array([size, 8]))) for size in (3, 4))
    assert joined(Rows(1), Rows(1), "op") == Rows(1)
    assert joined(three, four, "op") is FIXED
    assert is_fixed(three)
    batch = Sizes((2,), (Term(1, True), Term(8)))
    assert joined(batch, three, "op") == Sizes((2,), (Term(None, True), Term(8)))
    assert isinstance(joined(Rows(), FIXED, "op"), Mixed)
    mixed = Mixed("other", "reduces over the batch")
    assert joined(Rows(), mixed, "op") is mixed
