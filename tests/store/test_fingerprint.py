"""Addresses: the same for what computes the same, whatever it is called, and another for anything that differs.

That they are the same in every process is shown by the stores of `test_run_extraction.py`.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError
from tfxfer.models import autoencoder
from tfxfer.store.fingerprint import addresses

KERNEL = np.arange(36, dtype=np.float32).reshape(3, 3, 1, 4)


def address_of(build, conditions=None, *, config=None):
    """Return the address of what `build` makes of a placeholder, in a graph of its own."""
    with tf.Graph().as_default(), tf.Session(config=config) as sess:
        images = tf.placeholder(tf.float32, [None, 8, 8, 1])
        tensor = build(images)
        sess.run(tf.global_variables_initializer())
        tf.get_default_graph().finalize()
        (address,) = addresses(sess, [tensor], images, conditions or {})
        return address


def convolved(
    images, *, kernel=KERNEL, stride=2, padding="SAME", bias=0.5, scope="", activation=tf.nn.relu, use_resource=True
):
    with tf.variable_scope(scope or "net"):
        initial = tf.constant_initializer(kernel)
        weights = tf.get_variable("kernel", kernel.shape, kernel.dtype, initial, use_resource=use_resource)
        return activation(tf.nn.conv2d(images, weights, stride, padding) + bias)


DIFFERENT = {
    "one weight": {"kernel": KERNEL + np.eye(1, 36, 7, dtype=np.float32).reshape(KERNEL.shape) * 1e-3},
    "minus zero": {"kernel": np.where(KERNEL == 0, np.float32(-0.0), KERNEL)},
    "stride": {"stride": 4},
    "padding": {"padding": "VALID"},
    "constant": {"bias": np.nextafter(np.float32(0.5), np.float32(1))},
    "op": {"activation": tf.nn.relu6},
}


def test_names_and_scopes_do_not_enter_an_address():
    with_scope = address_of(lambda x: convolved(x, scope="quite/another"))
    assert with_scope == address_of(convolved)
    assert re.fullmatch("[0-9a-f]{64}", with_scope)


@pytest.mark.parametrize("use_resource", [True, False])
@pytest.mark.parametrize("what", DIFFERENT)
def test_whatever_is_computed_otherwise_has_another_address(what, use_resource):
    options = {"use_resource": use_resource}
    plain = address_of(lambda x: convolved(x, **options))
    assert address_of(lambda x: convolved(x, **options, **DIFFERENT[what])) != plain


@pytest.mark.parametrize("conditions", [{"batch_size": 32}, {"batch_size": 64}, {"dtype": "float16"}])
def test_conditions_are_part_of_an_address(conditions):
    others = [{}, {"batch_size": 32, "dtype": "float16"}]
    assert address_of(convolved, conditions) not in [address_of(convolved, other) for other in others]
    assert address_of(convolved, conditions) == address_of(convolved, dict(conditions))


def test_a_session_that_rewrites_graphs_has_addresses_of_its_own():
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    assert address_of(convolved, config=config) != address_of(convolved)
    threads = tf.ConfigProto(intra_op_parallelism_threads=1)
    assert address_of(convolved, config=threads) == address_of(convolved)


def test_which_input_and_which_output_is_taken_is_part_of_an_address():
    assert address_of(lambda x: tf.subtract(x, x * 2)) != address_of(lambda x: tf.subtract(x * 2, x))
    for after in (lambda x: x, tf.nn.relu):
        first, second = (lambda x, k=k, f=after: f(tf.unstack(x, axis=1)[k]) for k in (0, 1))
        assert address_of(first) != address_of(second)


def test_the_value_counts_and_not_the_initializer():
    def built(initial):
        return lambda x: x * tf.get_variable("w", initializer=tf.constant(initial), use_resource=True)

    def restored(x):
        initial = tf.placeholder_with_default(np.float32(1), [], "initial")
        return x * tf.get_variable("w", initializer=initial, use_resource=True)

    assert address_of(built(1.0)) == address_of(restored)
    assert address_of(built(1.0)) != address_of(built(2.0))


def test_a_variable_in_no_collection_is_read_all_the_same():
    def address(value):
        with tf.Graph().as_default(), tf.Session() as sess:
            images = tf.placeholder(tf.float32, [None])
            variable = tf.Variable(value, collections=[], use_resource=True)
            sess.run(variable.initializer)
            return addresses(sess, [images * variable], images, {})

    assert address(1.0) == address(1.0) != address(2.0)


def test_a_variable_that_nothing_reads_as_a_whole_is_refused():
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.int32, [None], name="images")
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[3], shared_name="w", name="w")
        gathered = tf.raw_ops.ResourceGather(resource=handle, indices=images, dtype=tf.float32)
        with pytest.raises(
            GraphError, match="nothing reads w as a whole, so that its value cannot be part of an address"
        ):
            addresses(sess, [gathered], images, {})


def test_a_variable_is_not_read_where_that_writes_it():
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [None], name="images")
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="w", name="w")
        with tf.control_dependencies([tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(1.0))]):
            after = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
        with pytest.raises(GraphError, match="nothing reads w as a whole"):
            addresses(sess, [images * after], images, {})


def test_a_tensor_that_needs_more_than_the_images_is_refused():
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [None], name="images")
        tensor = images * tf.placeholder(tf.float32, [], name="keep_prob")
        with pytest.raises(GraphError, match="keep_prob must be fed, and only images is; compute what does not depend"):
            addresses(sess, [tensor], images, {})


def test_the_address_of_a_tensor_does_not_depend_on_what_else_is_asked_for():
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 1])
        ends = autoencoder.encoder(images)
        with tx.session() as sess:
            both = addresses(sess, [ends["conv1"], ends["flatten"]], images, {})
            assert both[0] != both[1]
            assert addresses(sess, [ends["flatten"]], images, {}) == both[1:]


# Functions and loops.


def chosen(x, first=1.0, second=2.0):
    return tf.cond(tf.placeholder_with_default(True, []), lambda: tf.nn.relu(x) * first, lambda: x * second)


def swapped(x, *, swap=True, times=3):
    """A loop that carries two values, and may exchange them."""

    def body(i, a, b):
        a, b = tf.nn.relu(a), b * 2
        return (i + 1, b, a) if swap else (i + 1, a, b)

    return tf.while_loop(lambda i, *_: i < times, body, [0, x, x + 1])[1]


def carried(last):
    """A loop that carries three values, of which the last is made of the second or of itself."""

    def build(x):
        def body(i, a, b, c):
            return i + 1, b + 1, c + 1, tf.nn.relu((b, c)[last])

        return tf.while_loop(lambda i, *_: i < 3, body, [0, x, x, x])[1]

    return build


def deep(x):
    for _ in range(400):
        x = x + 1
    return x


def scoped(build):
    def scope(x):
        with tf.name_scope("elsewhere"):
            tf.cond(tf.constant(True), lambda: x, lambda: x + 1)  # so that functions get other names as well
            return build(x)

    return scope


@pytest.mark.parametrize("build", [chosen, swapped])
def test_a_conditional_or_loop_under_another_name_has_the_same_address(control_flow, build):
    assert address_of(scoped(build)) == address_of(build)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: chosen(x, first=1.5),
        lambda x: chosen(x, second=1.0),
        lambda x: tf.cond(tf.placeholder_with_default(True, []), lambda: x * 2.0, lambda: tf.nn.relu(x) * 1.0),
        lambda x: tf.cond(tf.placeholder_with_default(False, []), lambda: tf.nn.relu(x) * 1.0, lambda: x * 2.0),
    ],
)
def test_another_branch_gives_another_address(control_flow, other):
    assert address_of(other) != address_of(chosen)


@pytest.mark.parametrize("options", [{"swap": False}, {"times": 4}])
def test_another_loop_gives_another_address(control_flow, options):
    assert address_of(lambda x: swapped(x, **options)) != address_of(swapped)


def test_which_value_a_loop_goes_on_with_is_part_of_an_address(control_flow):
    assert address_of(carried(0)) == address_of(scoped(carried(0)))
    assert address_of(carried(0)) != address_of(carried(1))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda a, b: a - b, lambda a, b: b - a),
        (lambda a, b: tf.nn.relu(tf.unstack(a, axis=1)[0]), lambda a, b: tf.nn.relu(tf.unstack(a, axis=1)[1])),
        (lambda a, b: tf.unstack(a, axis=1)[0], lambda a, b: tf.unstack(a, axis=1)[1]),
    ],
)
def test_which_argument_and_which_output_a_function_takes_is_part_of_an_address(first, second):
    one, another = (address_of(lambda x, f=f: tf.function(f, autograph=False)(x, x * 2)) for f in (first, second))
    assert one != another


def test_a_variable_in_a_branch_counts_with_its_value(control_flow):
    def built(value):
        def build(x):
            variable = tf.get_variable("w", [], initializer=tf.constant_initializer(value), use_resource=True)
            return tf.cond(tf.placeholder_with_default(True, []), lambda: x * variable, lambda: x)

        return build

    assert address_of(built(1.0)) == address_of(scoped(built(1.0)))
    assert address_of(built(1.0)) != address_of(built(2.0))


def test_deep_functions_and_functions_in_functions_have_addresses():
    def built(body):
        return lambda x: tf.function(lambda y: tf.function(body, autograph=False)(y) * 2, autograph=False)(x)

    assert address_of(built(deep)) == address_of(scoped(built(deep)))
    assert address_of(built(deep)) != address_of(built(lambda x: deep(x) + 1))


def test_functions_of_the_old_kind_enter_by_what_they_do_and_not_by_name():
    from tensorflow.python.framework import function

    def built(factor, name):
        def build(x):
            @function.Defun(tf.float32, func_name=name)
            def scaled(y):
                return y * factor

            return scaled(x)

        return build

    assert address_of(built(2.0, "one")) == address_of(built(2.0, "another"))
    assert address_of(built(2.0, "one")) != address_of(built(3.0, "one"))


def test_a_variable_within_a_function_is_refused_by_name():
    with tf.Graph().as_default(), tf.Session() as sess:
        images = tf.placeholder(tf.float32, [None], name="images")
        tf.get_variable("w", initializer=2.0, use_resource=True)

        @tf.function(autograph=False)
        def inner(x):
            handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="w")
            return x * tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)

        tensor = tf.function(lambda x: inner(x) + 1.0, autograph=False)(images)
        with pytest.raises(GraphError, match=r"w \(in .*inner.*called by .*\): a variable.*make the variable outside"):
            addresses(sess, [tensor], images, {})


def constants(flag, nested=False):
    """Choose between constants, which take no input, by a variable."""

    def build(x):
        chooses = tf.get_variable("flag", initializer=flag, use_resource=True, trainable=False)
        y = tf.cond(chooses, lambda: tf.constant(1.0), lambda: tf.constant(3.0))
        return x * (tf.cond(tf.reduce_sum(x) > 0, lambda: tf.identity(y), lambda: y * 2.0) if nested else y)

    return build


@pytest.mark.parametrize("nested", [False, True])
def test_what_chooses_between_constants_counts(control_flow, nested):
    assert address_of(constants(True, nested)) == address_of(scoped(constants(True, nested)))
    assert address_of(constants(True, nested)) != address_of(constants(False, nested))


def test_what_chooses_between_constants_in_a_branch_counts(control_flow):
    def built(flag):
        def build(x):
            chooses = tf.get_variable("flag", initializer=flag, use_resource=True, trainable=False)
            return tf.cond(
                tf.reduce_sum(x) > 0,
                lambda: x * tf.cond(chooses, lambda: tf.constant(1.0), lambda: tf.constant(3.0)),
                lambda: x,
            )

        return build

    assert address_of(built(True)) != address_of(built(False))


def test_what_is_fed_to_choose_between_constants_counts(control_flow):
    with tf.Graph().as_default(), tf.Session() as sess:
        images, flag = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.bool, [])
        tensor = images * tf.cond(flag, lambda: tf.constant(1.0), lambda: tf.constant(3.0))
        one, other = (addresses(sess, [tensor], images, {}, feeds={flag: np.array(value)}) for value in (True, False))
        assert one != other
