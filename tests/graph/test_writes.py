"""Which ops write which variables, through references, handles, functions, branches and loops."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

from tfxfer.graph.traversal import needed
from tfxfer.graph.writes import written


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def names_written(fetch):
    found = written(needed([getattr(fetch, "op", fetch)]))
    return {variable.name for variables in found.values() for variable in variables}


@pytest.mark.parametrize("use_resource", [True, False])
def test_what_is_assigned_is_written_and_what_is_read_is_not(use_resource):
    target, other = (tf.get_variable(name, [], use_resource=use_resource) for name in ("target", "other"))
    assert names_written(target + other) == set()
    assert names_written(target.assign(other)) == {"target"}
    assert names_written(target.assign_add(other + 1)) == {"target"}
    assert names_written(tf.group(target.assign(1.0), other.assign(2.0))) == {"target", "other"}


@pytest.mark.parametrize(("use_resource", "v2"), [(True, True), (True, False), (False, False)])
def test_branches_and_loops_are_looked_into(use_resource, v2):
    target, other = (tf.get_variable(name, [], use_resource=use_resource) for name in ("target", "other"))
    was = tf.control_flow_v2_enabled()
    (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
    try:
        taken = tf.placeholder(tf.bool, [])
        branch = tf.cond(taken, lambda: tf.identity(target.assign_add(1.0)), lambda: tf.identity(other))
        assert names_written(branch) == {"target"}
        assert names_written(tf.cond(taken, lambda: other + 1, lambda: target + 1)) == set()
        loop = tf.while_loop(lambda i: i < 3.0, lambda i: [i + tf.identity(target.assign_add(other))], [0.0])
        assert names_written(loop) == {"target"}
    finally:
        (tf.enable_control_flow_v2 if was else tf.disable_control_flow_v2)()


def test_functions_are_looked_into_old_ones_too():
    target, other = (tf.get_variable(name, [], use_resource=True) for name in ("target", "other"))

    @tf.function
    def add():
        return target.assign_add(other)

    @function.Defun(tf.resource, tf.resource)
    def add_by_handles(first, second):
        value = tf.raw_ops.ReadVariableOp(resource=second, dtype=tf.float32)
        with tf.control_dependencies([tf.raw_ops.AssignAddVariableOp(resource=first, value=value)]):
            return tf.identity(value)

    assert names_written(add()) == {"target"}
    assert names_written(add_by_handles(target.handle, other.handle)) == {"target"}
