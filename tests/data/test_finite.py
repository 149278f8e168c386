"""data/finite.py: rows with NaN or infinite numbers, and the message that names their pictures."""

from __future__ import annotations

import numpy as np
import pytest

from tfxfer.data.finite import not_finite, refuse_not_finite
from tfxfer.errors import DataError


def test_rows_of_any_rank_are_found():
    rows = np.ones((5, 2, 3), np.float32)
    rows[1, 1, 2], rows[3, 0, 0], rows[4, 0, 0] = np.nan, np.inf, -np.inf
    assert not_finite(rows).tolist() == [1, 3, 4]
    assert not_finite(rows[:, 0, 0]).tolist() == [3, 4]
    assert not_finite(rows[:0]).tolist() == []


def test_the_message_names_the_first_examples_and_counts_the_rest():
    refuse_not_finite([], 100, str)
    with pytest.raises(DataError) as refused:
        refuse_not_finite(range(25), 1000, "photo {}".format, "fire9: features")
    head, *lines = str(refused.value).split("\n")
    assert head.startswith("fire9: features of 25 of 1,000 examples are NaN or infinite; leave these examples out")
    assert lines == [*(f"  photo {number}" for number in range(20)), "  and 5 more"]
