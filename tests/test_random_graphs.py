"""Graphs drawn at random: what is stored of them trains to the same bits as their images, or is refused by name."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
import tensorflow.compat.v1 as tf

from tests import random_graphs

ALWAYS = 30


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no test cuts the power


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_random_graphs_train_on_stored_features_to_the_same_bits_or_are_refused(request):
    slow = request.config.getoption("--slow")
    first, count = (random.SystemRandom().randrange(10**6), 2000) if slow else (0, ALWAYS)
    outcomes = {seed: random_graphs.outcome(seed) for seed in range(first, first + count)}
    assert {
        seed: outcome for seed, outcome in outcomes.items() if outcome not in ("same", "refused", "not built")
    } == {}
    # Most have something that can be stored, or nothing would be shown.
    assert Counter(outcomes.values())["same"] > count / 3


def test_the_random_graphs_have_ops_of_every_kind():
    """Each of the kinds, alone: that none of them is refused by TensorFlow or by the step itself."""
    for kind in random_graphs.SIMPLE:
        with tf.Graph().as_default():
            builder = random_graphs.Builder(0)
            x = tf.placeholder(tf.float32, [None, 4, 4, 2])
            assert random_graphs.SIMPLE[kind](builder, x).shape.as_list()[1:] == [4, 4, 2], kind
