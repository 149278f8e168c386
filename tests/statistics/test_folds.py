"""statistics/folds.py, against NumPy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfxfer.statistics import intervals
from tfxfer.statistics.folds import Folds

FOLDS = Folds((9, 8, 5), (10, 10, 9), ("fold-1", "fold-2", "fold-3"))


def test_mean_and_spread_are_numpys_and_the_interval_is_that_of_all_examples():
    accuracies = np.array([9 / 10, 8 / 10, 5 / 9])
    assert FOLDS.accuracy == pytest.approx(accuracies.mean())
    assert FOLDS.spread == pytest.approx(accuracies.std(ddof=1))
    assert FOLDS.accuracy_interval == intervals.wilson(22, 29)
    assert str(FOLDS) == "test accuracy 0.7519 +- 0.1772 (mean and standard deviation of 3 folds)"


def test_what_is_kept_is_read():
    value = json.loads(json.dumps(FOLDS.to_json()))
    assert Folds.from_json(value) == FOLDS
    assert value["folds"][1] == {"run": "fold-2", "right": 8, "examples": 10, "accuracy": 0.8}


@pytest.mark.parametrize("change", [{"right": 11}, {"examples": 0, "right": 0}, {"right": True}, {"right": -1}])
def test_a_damaged_file_is_refused(change):
    value = FOLDS.to_json()
    value["folds"][0] |= change
    with pytest.raises(ValueError, match="numbers cannot be"):
        Folds.from_json(value)
    with pytest.raises(ValueError, match="no two folds"):
        Folds.from_json({"folds": value["folds"][1:2]})
