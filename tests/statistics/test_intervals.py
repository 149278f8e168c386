"""Intervals of accuracies; SciPy is the oracle."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from tfxfer.statistics import intervals


@pytest.mark.parametrize(("right", "every"), [(0, 10), (51, 60), (10, 10), (1, 1), (350, 360)])
def test_the_interval_is_wilsons(right, every):
    wanted = binomtest(right, every).proportion_ci(0.95, method="wilson")
    assert intervals.wilson(right, every) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_without_examples_every_share_is_possible():
    assert intervals.wilson(0, 0) == (0.0, 1.0)


def test_it_is_shown_with_three_digits():
    assert intervals.shown(81, 263) == "95 % interval 0.255 to 0.366"  # Newcombe, Statistics in Medicine 17, 1998
