"""Which ops keep a state that is in no variable, and which variables are a generator's."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

from tfxfer.graph.own_state import generators, holders, variables_of_step


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def dropped(x):
    return tf.nn.dropout(x, rate=0.5, seed=3)


@pytest.mark.parametrize(("build", "kinds"), [
    (tf.square, set()),
    (lambda x: x + tf.random.stateless_normal([2], [1, 2]), set()),
    (lambda x: tf.debugging.check_numerics(x, "x"), set()),
    (dropped, {"RandomUniform"}),
    (tf.function(dropped), {"RandomUniform"}),
    (lambda x: tf.cond(x[0] > 0, lambda: dropped(x), lambda: x), {"RandomUniform"}),
    (lambda x: tf.py_func(lambda y: y, [x], tf.float32), {"PyFunc"}),
    (lambda x: x + tf.FIFOQueue(2, tf.float32).dequeue(), {"FIFOQueueV2"}),
])  # fmt: skip
def test_ops_that_keep_a_state_are_named_also_in_functions_and_branches(build, kinds):
    assert set(holders([build(tf.ones([2])).op], []).values()) == kinds


@pytest.mark.parametrize("use_resource", [True, False])
def test_a_variable_that_is_written_and_not_saved_is_one(use_resource):
    kept, lost, read = (tf.get_variable(name, [2], use_resource=use_resource) for name in ("kept", "lost", "read"))
    ops = [kept.assign_add([1, 1]).op, lost.assign_add(read).op]
    kind = "VarHandleOp" if use_resource else "VariableV2"
    assert holders(ops, [kept]) == {"lost": kind}
    assert variables_of_step(ops[1:], [kept, lost, read]) == [lost, read]


def test_a_variable_that_a_function_writes_is_one_and_one_that_it_reads_is_not():
    written, read = (tf.get_variable(name, [], use_resource=True) for name in ("written", "read"))

    @tf.function
    def add():
        return written.assign_add(read)

    assert holders([add().op], []) == {"written": "VarHandleOp"}


def test_the_state_of_a_generator_that_draws_is_told_from_other_variables():
    generator, idle = (tf.random.Generator.from_seed(seed) for seed in (1, 2))
    drawn = generator.normal([2]) * tf.get_variable("w", [2])
    assert generators([drawn.op], tf.global_variables()) == [generator.state]
    assert idle.state in tf.global_variables()
    assert generators([], tf.global_variables()) == []
