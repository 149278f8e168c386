"""What tfxfer takes of TensorFlow by private names still does what the library needs."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

from tfxfer import tf_private


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_a_type_of_ops_has_a_definition_and_a_function_has_none():
    assert [arg.name for arg in tf_private.op_definition("MatMul").input_arg] == ["a", "b"]
    assert tf_private.op_definition("AssignVariableOp").is_stateful
    assert tf_private.op_definition("a_function_12") is None


def test_ops_are_numbered_in_the_order_in_which_they_are_made(graph):
    for number in range(3):
        tf.constant(number)
    numbers = [tf_private.creation_number(op) for op in graph.get_operations()]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("use_resource", [True, False])
def test_a_part_knows_its_whole_and_a_whole_variable_none(use_resource):
    with tf.variable_scope("fc", partitioner=tf.fixed_size_partitioner(2)):
        first, second = tf.get_variable("kernel", [4, 3], use_resource=use_resource)
    info = tf_private.slice_info(second)
    assert (info.full_name, list(info.full_shape), list(info.var_offset)) == ("fc/kernel", [4, 3], [2, 0])
    assert list(tf_private.slice_info(first).var_shape) == [2, 3]
    assert tf_private.slice_info(tf.get_variable("bias", [3], use_resource=use_resource)) is None


def test_a_session_tells_what_it_was_opened_with_and_anything_else_nothing():
    with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=3)) as sess:
        assert tf_private.session_config(sess).intra_op_parallelism_threads == 3
    assert tf_private.session_config(object()) == tf.ConfigProto()
