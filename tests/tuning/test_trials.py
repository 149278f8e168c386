"""tfxfer/tuning/trials.py: grids, ranges, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfxfer.errors import DataError
from tfxfer.tuning.trials import Range, SearchSpace, Trial

GRID = SearchSpace(normalize=("none", "l2"), hidden=(8,), dropout=(0.0, 0.5), learning_rate=(1e-3,), l2=(0.0, 0.1))


def test_a_grid_that_is_not_larger_than_the_trials_is_tried_whole_each_once():
    drawn = GRID.draw(["a", "b"], 16, seed=0)
    wanted = itertools.product("ab", ("none", "l2"), (0.0, 0.5), (0.0, 0.1))
    assert [(t.endpoint, t.normalize, t.dropout, t.l2) for t in drawn] == list(wanted)


def test_of_a_larger_grid_some_are_drawn_each_once_by_the_seed():
    drawn = [GRID.draw(["a", "b"], 10, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 10
    assert set(drawn[0]) <= set(GRID.draw(["a", "b"], 16, 0))


def test_a_linear_classifier_is_tried_once_whatever_dropout_there_is():
    space = SearchSpace(normalize=("none",), hidden=(0,), dropout=(0.0, 0.5), learning_rate=(0.1,), l2=(0.0,))
    assert space.draw(["a"], 40, 0) == [Trial(endpoint="a", learning_rate=0.1)]


def test_a_range_is_drawn_log_uniformly():
    space = SearchSpace(learning_rate=Range(1e-4, 1e-1), hidden=Range(16, 256))
    drawn = space.draw(["a"], 3000, 0)
    rates = np.array([trial.learning_rate for trial in drawn])
    assert (rates.min() >= 1e-4, rates.max() <= 1e-1) == (True, True)
    assert np.histogram(np.log10(rates), bins=[-4, -3, -2, -1])[0] / 3000 == pytest.approx([1 / 3] * 3, abs=0.03)
    assert {type(trial.hidden) for trial in drawn} == {int}


def test_all_that_cannot_be_tried_is_named_at_once():
    space = SearchSpace(hidden=(), dropout=(0.5, 1.0), learning_rate=Range(1e-2, 1e-3), l2=(-1,), normalize=("L2",))
    with pytest.raises(DataError) as refused:
        space.draw(["a"], 4, 0)
    assert str(refused.value).split("; ") == [
        "`normalize=L2`: there are standard, l2, sqrt, none",
        "`hidden` is empty, so that there is nothing to try", "give one value or more",
        "`dropout=1`: give shares from 0 to below 1",
        "`learning_rate`: the range 0.01:0.001 must go from above 0 to a larger number",
        "`l2=-1`: give numbers from 0 on"]  # fmt: skip
    with pytest.raises(DataError, match="`trials=0`: give 1 or more"):
        SearchSpace().draw(["a"], 0, 0)
