"""The order in which variables were made, out of the graph beside a checkpoint."""

from __future__ import annotations

import tracemalloc

import pytest
import tensorflow.compat.v1 as tf

from tests import fuzz, tables
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


def entry(*definitions: bytes, key: bytes = b"variables") -> bytes:
    """Return a collection of a MetaGraph."""
    listed = b"".join(tables.field(1, definition) for definition in definitions)
    return tables.field(4, tables.field(1, key) + tables.field(2, tables.field(2, listed)))


def test_only_the_collection_of_the_variables_counts(tmp_path):
    a, b = (tables.field(1, f"{name}:0".encode()) for name in "ab")
    graph = entry(a, key=b"trainable_variables") + entry(b, a) + entry(a, b, key=b"variables2")
    (tmp_path / "m.meta").write_bytes(graph)
    assert meta_graph.in_order(str(tmp_path / "m"), ["a", "x", "b"]) == ["b", "a", "x"]


COUNT = 30_000
HOSTILE = {
    "fields beside the key": tables.field(4, b"\x08\0" * COUNT),
    "keys": tables.field(4, b"\x0a\0" * COUNT),
    "collections": b"\x22\0" * COUNT,
    "lists": tables.field(4, tables.field(1, b"variables") + b"\x12\0" * COUNT),
    "variables": entry(*[b""] * COUNT),
    "names": entry(*(b"\x0a\3%03x" % (i % 4096) for i in range(COUNT))),
    "names of one": entry(b"\x0a\0" * COUNT),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_graph_takes_little_memory(tmp_path, kind):
    (tmp_path / "m.meta").write_bytes(HOSTILE[kind])
    tracemalloc.start()
    assert meta_graph.in_order(str(tmp_path / "m"), ["b", "a"]) == ["b", "a"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
