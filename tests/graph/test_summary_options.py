"""The names of what a run shows: which are chosen, and what is said of others."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

from tfxfer.errors import GraphError
from tfxfer.graph.summary_options import DEFAULT, SHOWN, chosen


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def images():
    return tf.placeholder(tf.uint8, [None, 4, 4, 1])


def test_the_default_is_what_costs_next_to_nothing(images):
    assert chosen(None, {}, labelled=True) == DEFAULT
    assert not {"confusion", "projector", "trace", "activations"} & set(DEFAULT)


def test_names_come_in_one_order_whatever_the_order_given(images):
    assert chosen(["trace", "graph"], {}, labelled=True) == ("graph", "trace")
    assert chosen([], {}, labelled=True) == ()


def test_what_needs_labels_is_left_out_without_them(images):
    given = {"conv1": tf.cast(images, tf.float32)}
    everything = chosen(list(SHOWN), given, labelled=True)
    assert everything == tuple(SHOWN)
    assert set(everything) - set(chosen(list(SHOWN), given, labelled=False)) == {
        "confusion",
        "mistakes",
        "pr_curves",
    }


def test_endpoints_that_are_given_are_shown_unless_they_are_for_the_projector(images):
    given = {"conv1": tf.cast(images, tf.float32)}
    assert "activations" in chosen(None, given, labelled=True)
    assert chosen(["projector"], given, labelled=True) == ("projector",)


@pytest.mark.parametrize(("given", "message"), [
    (["norm"], r"(?s)not norm; there are\n  graph: .*norms: norms of gradients"),
    ("graph", "a list of names, not 'graph'"),
    (["activations", "projector"], "activations, projector need endpoints: activations="),
])  # fmt: skip
def test_what_cannot_be_shown_is_refused_with_what_can(images, given, message):
    with pytest.raises(GraphError, match=message):
        chosen(given, {}, labelled=True)


def test_the_names_are_known_without_tensorflow():
    code = "import sys, tfxfer.graph.summary_options; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
