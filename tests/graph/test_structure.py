"""The digest of what a graph computes: the same for the same, whatever it is called, and another for anything else."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tfxfer.graph.structure import Structure


def digest(build, *, before: int = 0, scope: str = "a") -> str:
    """Return the digest of what `build` makes of a placeholder, in a graph with some other ops in it."""
    with tf.Graph().as_default() as graph:
        for _ in range(before):
            tf.constant(1.0)
        with tf.name_scope(scope):
            x = tf.placeholder(tf.float32, [None, 4])
            fetches = build(x)
        return Structure(graph).digest(fetches if isinstance(fetches, list) else [fetches])


def in_function(factor):
    return tf.function(lambda x: tf.nn.relu(x) * factor)


def loop_of_two(rate):
    def build(x):
        control_v2 = tf.control_flow_v2_enabled()
        tf.disable_control_flow_v2()
        try:
            return list(
                tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * rate + tf.cast(i, tf.float32)), [0, x])
            )
        finally:
            if control_v2:
                tf.enable_control_flow_v2()

    return build


def updated(amount):
    def build(x):
        with tf.variable_scope("", reuse=tf.AUTO_REUSE):
            count = tf.get_variable("count", [], use_resource=True)
        with tf.control_dependencies([count.assign_add(amount).op]):
            return tf.no_op()

    return build


BUILDS = {
    "relu": lambda x: tf.nn.relu(x),
    "tanh": lambda x: tf.nn.tanh(x),
    "a constant": lambda x: x * 0.5,
    "another constant": lambda x: x * 0.25,
    "the other way round": lambda x: x - tf.nn.relu(x),
    "and back": lambda x: tf.nn.relu(x) - x,
    "a function": in_function(0.5),
    "a function of another constant": in_function(0.25),
    "a loop": loop_of_two(0.5),
    "a loop of another rate": loop_of_two(0.25),
    "an update that is only waited for": updated(1.0),
    "another update": updated(2.0),
    "a seed": lambda x: x + tf.random.stateless_uniform([4], [1, 2]),
    "another seed": lambda x: x + tf.random.stateless_uniform([4], [1, 3]),
    "one variable": lambda x: x + tf.get_variable("v", [4]),
    "a variable of another name": lambda x: x + tf.get_variable("w", [4]),
    "one output of two": lambda x: tf.split(x, 2, axis=1)[0],
    "the other output": lambda x: tf.split(x, 2, axis=1)[1],
}


def test_no_two_of_these_graphs_have_one_digest():
    digests = {name: digest(build) for name, build in BUILDS.items()}
    assert len(set(digests.values())) == len(digests)


@pytest.mark.parametrize("name", BUILDS)
def test_names_and_other_ops_of_the_graph_do_not_enter(name):
    assert digest(BUILDS[name], before=3, scope="elsewhere") == digest(BUILDS[name])


def test_what_computes_a_leaf_does_not_enter_and_what_is_made_of_it_does():
    def built(rate, factor):
        with tf.Graph().as_default() as graph:
            step = tf.placeholder(tf.float32, [])
            leaf = tf.identity(rate(step))
            made = leaf * factor
            return Structure(graph).digest([made], leaves=[leaf])

    one = built(lambda step: step * 2, 3.0)
    assert one == built(lambda step: tf.exp(step), 3.0)
    assert one != built(lambda step: step * 2, 4.0)


def test_values_of_variables_do_not_enter():
    def built(value):
        return digest(lambda x: x + tf.get_variable("v", initializer=np.full(4, value, np.float32)))

    assert built(1.0) == built(2.0)
