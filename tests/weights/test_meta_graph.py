"""The order in which variables were made, out of the graph beside a checkpoint."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

from tests import fuzz
from tfxfer.weights import meta_graph, open_weights


@pytest.fixture
def prefix(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        for name in ("squeeze/kernel", "squeeze/bias", "expand/kernel", "mid/kernel", "conv10/kernel", "conv9/kernel"):
            tf.get_variable(name, [1], use_resource=name < "s")
        tf.train.create_global_step()
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(tmp_path / "m"))
    return tmp_path / "m"


def test_variables_come_in_the_order_in_which_they_were_made(prefix):
    weights = open_weights(prefix)
    assert list(weights) == sorted(weights)
    assert meta_graph.in_order(str(prefix), weights) == [
        "squeeze/kernel",
        "squeeze/bias",
        "expand/kernel",
        "mid/kernel",
        "conv10/kernel",
        "conv9/kernel",
        "global_step",
    ]


def test_what_the_graph_does_not_know_comes_last_and_without_it_nothing_moves(prefix):
    assert meta_graph.in_order(str(prefix), ["b", "a", "expand/kernel"]) == ["expand/kernel", "b", "a"]
    assert meta_graph.in_order(f"{prefix}x", ["b", "expand/kernel", "a"]) == ["b", "expand/kernel", "a"]


def test_a_broken_graph_costs_the_order_and_nothing_else(prefix, fuzz_cases):
    path = prefix.with_name("m.meta")
    good = path.read_bytes()
    for bad in fuzz.broken(good, min(fuzz_cases, 500)):
        path.write_bytes(bad)
        assert sorted(meta_graph.in_order(str(prefix), ["b", "expand/kernel", "a"])) == ["a", "b", "expand/kernel"]
