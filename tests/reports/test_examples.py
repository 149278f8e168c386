"""Each class's figures, and the mistakes with their pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from tests.reports.pages import pictures, shown
from tfxfer.reports import examples


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_figures_of_classes_are_those_of_scikit_learn(classes, seed):
    generator = np.random.default_rng(seed)
    true, taken = generator.integers(0, classes, (2, 30))
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (true, taken), 1)
    wanted = precision_recall_fscore_support(true, taken, labels=range(classes), zero_division=0.0)
    for found, column in zip(examples.per_class(matrix).values(), wanted, strict=True):
        assert found == pytest.approx(column)


def test_mistakes_have_their_pictures_in_the_page(finished):
    files = sorted((finished / "mistakes").iterdir())
    assert pictures(shown(finished)) == [file.read_bytes() for file in files]
    assert "The 5 of 38" in shown(finished).text
    assert "with 98.0%" in shown(finished).text
