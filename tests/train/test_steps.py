"""The steps of one process: in the order of the seed, each by one call."""

from __future__ import annotations

import itertools

import numpy as np

from tests.train.test_options import OPTIONS
from tfxfer.data.batches import batch
from tfxfer.train.steps import Steps


def test_one_process_makes_all_steps_in_the_order_of_the_seed():
    steps = Steps(None, OPTIONS, 75, lambda: 0)
    steps.begin()
    order = steps.order(None, 12)
    for number, examples in enumerate(itertools.islice(order, 10), 12):
        assert np.array_equal(examples, batch(0, number, 75, 8))
    assert steps.run(None, lambda: "metrics") == "metrics"
    assert steps.count(12) == 13
