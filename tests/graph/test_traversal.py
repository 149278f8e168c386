"""Walks over the ops of graphs of plain TensorFlow."""

import gc
import weakref

import pytest
import tensorflow.compat.v1 as tf

from tfxfer.graph import traversal


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def variable(name, resource=True):
    return tf.get_variable(name, [3], initializer=tf.zeros_initializer(), use_resource=resource, trainable=False)


@pytest.mark.parametrize("resource", [True, False])
def test_variables_are_found_whatever_collection_lists_them_and_by_way_of_branches(resource):
    x = tf.placeholder(tf.float32, [None, 3])
    a, b, c, unread = (variable(name, resource) for name in "abcd")
    with tf.control_dependencies([unread.assign_add([1.0, 1, 1])]):
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: x * a, lambda: x + b) + c
    assert [op.name for op in traversal.variables_read([y])] == ["a", "b", "c"]
    assert unread.op in traversal.needed([y.op])


def test_a_variable_that_only_a_function_reads_is_found():
    x = tf.placeholder(tf.float32, [None, 3])
    a = variable("a")
    f = tf.function(lambda x: x * a)
    assert [op.name for op in traversal.variables_read([f(x)])] == ["a"]


def test_placeholders_are_found_with_and_without_a_default():
    x, unused = tf.placeholder(tf.float32, [3], "x"), tf.placeholder(tf.float32, [3], "unused")
    keep = tf.placeholder_with_default(1.0, [], "keep")
    found = traversal.placeholders([(x * keep).op])
    assert [op.name for op in found] == ["x", "keep"]
    assert unused.op not in found


def test_a_reference_leads_to_its_variable_through_a_loop():
    a = variable("a", resource=False)
    result = tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s + tf.identity(a)), [0, tf.zeros([3])])
    assert traversal.variables_read([result[1]]) == [a.op]
    assert traversal.variables_of([a.op.outputs[0]]) == {a.op}


def test_two_variables_of_one_shared_name_have_one_memory():
    first = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[3], shared_name="w", name="one/w")
    second = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[3], shared_name="w", name="two/w")
    memories = [traversal.memory_of(tensor.op) for tensor in (first, second)]
    assert memories == [("", "w"), ("", "w")]


def test_without_a_shared_name_references_are_apart_and_resources_are_one_as_a_session_shows():
    references = [variable(name, resource=False) for name in ("a", "b")]
    handles = [tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], name=name) for name in ("c", "d")]
    write = tf.raw_ops.AssignVariableOp(resource=handles[0], value=7.0)
    read = tf.raw_ops.ReadVariableOp(resource=handles[1], dtype=tf.float32)
    with tf.Session() as sess:
        sess.run(write)
        assert sess.run(read) == 7
        sess.run(references[0].initializer)
        assert not sess.run(tf.is_variable_initialized(references[1]))
    assert [traversal.memory_of(v.op) for v in references] == [("", "a"), ("", "b")]
    assert [traversal.memory_of(handle.op) for handle in handles] == [("", "")] * 2


def by_metric(labels, logits):
    tf.metrics.accuracy(labels, tf.argmax(logits, 1))


def by_own_local_variable(labels, logits):
    right = tf.get_variable("right", [3], collections=[tf.GraphKeys.LOCAL_VARIABLES], trainable=False)
    right.assign(right + tf.reduce_sum(logits, 0))


def by_own_number(labels, logits):
    right = tf.get_variable("right", [], trainable=False)
    right.assign_add(tf.reduce_mean(tf.cast(tf.equal(labels, tf.argmax(logits, 1)), tf.float32)))


def by_own_average(labels, logits):
    right = tf.get_variable("right", [], trainable=False)
    right.assign(0.9 * right + 0.1 * tf.reduce_mean(logits))


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("told", [by_metric, by_own_local_variable, by_own_number, by_own_average])
def test_a_network_whose_outputs_are_only_counted_up_in_variables_is_read_all_the_same(resource, told):
    x, labels = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int64, [None])
    with tf.variable_scope("", use_resource=resource):
        told(labels, x * variable("moving", resource))
    assert [op.name for op in traversal.forward_variables(tf.get_default_graph())] == ["moving"]


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("sparse", [True, False])
def test_what_an_optimizer_keeps_and_takes_is_not_read_by_the_network_that_a_metric_tells_of(resource, sparse):
    x, labels = tf.placeholder(tf.int64, [None]), tf.placeholder(tf.int64, [None])
    with tf.variable_scope("", use_resource=resource):
        table, rate = tf.get_variable("table", [9, 3]), tf.get_variable("rate", [], trainable=False)
        logits = tf.gather(table, x) if sparse else tf.matmul(tf.one_hot(x, 9), table)
        tf.metrics.mean(tf.losses.sparse_softmax_cross_entropy(labels, logits))
        tf.train.AdamOptimizer(rate).minimize(tf.losses.get_losses()[0])
        rate.assign(rate * 0.5)
    tf.train.Saver()
    read = {op.name for op in traversal.forward_variables(tf.get_default_graph())}
    assert read - {"mean/total", "mean/count"} == {"table"}


def test_what_is_remembered_of_a_graph_does_not_keep_it_alive():
    with tf.Graph().as_default() as graph:
        tf.placeholder(tf.float32, [3]) * variable("a")
        assert [op.name for op in traversal.forward_variables(graph)] == ["a"]
        tf.placeholder(tf.float32, [3]) * variable("b")
        assert [op.name for op in traversal.forward_variables(graph)] == ["a", "b"]
    gone = weakref.ref(graph)
    del graph
    gc.collect()
    assert gone() is None
