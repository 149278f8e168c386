"""Batch normalisation folded into convolutions: what is folded gives the same in float32, and all else stays."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.callables import compiled
from tfxfer.graph import layers
from tfxfer.graph.variables import inference
from tfxfer.store import precision
from tfxfer.store.compute import Network

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 9, 9, 4)).astype(np.float32)
NORMS = {"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "Mul", "Rsqrt", "Sub", "RealDiv", "Add", "AddV2"}


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def variable(name, shape, low=0.5, high=1.5, use_resource=True, **options):
    values = tf.random.stateless_uniform(shape, [len(name), sum(map(ord, name))], low, high)
    return tf.get_variable(name, initializer=values, use_resource=use_resource, **options)


def statistics(channels=8, **options):
    """Return gamma, beta, mean and variance."""
    return [
        variable(name, [channels], low, 1.5, **options)
        for name, low in (("gamma", -1.0), ("beta", -1.0), ("mean", -1.0), ("variance", 0.1))
    ]


def fused(x, *, training=False, form="NHWC", count=8, op=tf.raw_ops.FusedBatchNormV3, made=()):
    gamma, beta, mean, variance = map(tf.convert_to_tensor, made or statistics(count))
    return op(
        x=x, scale=gamma, offset=beta, mean=mean, variance=variance, is_training=training, data_format=form,
        epsilon=1e-3,
    )[0]  # fmt: skip


def normalised(x, count=8, **options):
    gamma, beta, mean, variance = statistics(count, **options)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


def convolved(x, channels=8, padding="SAME", stride=1, name="kernel", **options):
    return tf.nn.conv2d(x, variable(name, [3, 3, 4, channels], -1, 1, **options), stride, padding)


def depthwise(x, multiplier=2, **options):
    kernel = variable("kernel", [3, 3, 4, multiplier], -1, 1, **options)
    return tf.nn.depthwise_conv2d(x, kernel, [1, 2, 2, 1], "SAME")


def separable(x):
    return layers.batch_norm(layers.conv2d(x, 8, 3, name="conv", use_bias=False, activation=None), "conv_bn")


def for_inference(x):
    with inference():
        return separable(x)


def chosen(x, training):
    """Choose between statistics of the batch and moving ones as tf.layers does, with all reads within the branches."""
    y, made = convolved(x), statistics()
    return tf.cond(training, lambda: fused(y, training=True, made=made), lambda: fused(y, made=made))


def partitioned(x):
    with tf.variable_scope("split", partitioner=tf.fixed_size_partitioner(2, axis=3)):
        kernel = tf.get_variable("kernel", [3, 3, 4, 8], initializer=tf.initializers.random_normal(seed=1))
    return normalised(tf.nn.conv2d(x, kernel, 1, "SAME"))


def with_bias(x):
    return fused(tf.identity(tf.nn.bias_add(convolved(x), variable("bias", [8]))))


def dense(x):
    kernel = variable("kernel", [8, 324], -1, 1)
    return normalised(tf.matmul(tf.reshape(x, [-1, 324]), kernel, transpose_b=True))


def in_a_function(x):
    @tf.function
    def norm(y, gamma, beta, mean, variance):
        return tf.nn.fused_batch_norm(y, gamma, beta, mean, variance, is_training=False)[0]

    return norm(convolved(x), *map(tf.convert_to_tensor, statistics()))


FOLDED = {
    "FusedBatchNorm": lambda x: fused(convolved(x)),
    "FusedBatchNormV2": lambda x: fused(convolved(x), op=tf.raw_ops.FusedBatchNormV2),
    "tf.nn": lambda x: normalised(convolved(x)),
    "reference variables": lambda x: normalised(convolved(x, use_resource=False), use_resource=False),
    "partitioned kernel": partitioned,
    "stride and VALID": lambda x: normalised(convolved(x, padding="VALID", stride=2)),
    "explicit padding": lambda x: fused(convolved(x, padding=[[0, 0], [2, 1], [1, 0], [0, 0]])),
    "depthwise": lambda x: fused(depthwise(x)),
    "depthwise, tf.nn": lambda x: normalised(depthwise(x, 3), 12),
    "a bias between": with_bias,
    "a dense layer": dense,
    "our own layer, with its switch": separable,
    "our own layer, for inference": for_inference,
    "branches": lambda x: chosen(x, tf.placeholder_with_default(False, [])),
    "in a function": in_a_function,
    "a number": lambda x: 3.0 * convolved(x) / 2.0 - 1.0,
    "by channel": lambda x: convolved(x) * variable("scale", [1, 1, 1, 8]) + variable("shift", [8]),
}


def both(build, feeds=None):
    """Return what a network gives, what it gives folded, and the types of ops that the images go through there."""
    images = tf.placeholder(tf.float32, [None, 9, 9, 4])
    tensor = tf.nn.relu(build(images))
    with tx.session() as sess:
        network = Network(sess, images, [tensor], feeds or {})
        with precision.computing(network, "folded") as low:
            assert not low.feeds
            ((plain,), (folded,)) = (each.make_callable(4)(IMAGES) for each in (network, low))
            return plain, folded, through(low)


def through(network):
    kinds, stack, seen = set(), [network.images.op], set()
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            kinds.add(op.type)
            stack += [taker for tensor in op.outputs for taker in tensor.consumers()]
    return kinds


@pytest.mark.parametrize("build", FOLDED.values(), ids=FOLDED)
def test_what_scales_and_shifts_channels_is_in_the_kernel_and_the_bias(build):
    plain, folded, kinds = both(build)
    np.testing.assert_allclose(folded, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    assert "BiasAdd" in kinds
    assert not kinds & (NORMS | {"Switch", "Merge"})


def test_what_is_fed_in_evaluation_decides_too():
    training, keep = tf.placeholder(tf.bool, []), tf.placeholder(tf.float32, [])

    plain, folded, kinds = both(
        lambda x: tf.nn.dropout(chosen(x, training), keep_prob=keep), {training: np.array(False), keep: np.array(1.0)}
    )
    np.testing.assert_allclose(folded, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    assert "BiasAdd" in kinds
    assert not kinds & {*NORMS - {"Mul", "RealDiv"}, "Switch", "Merge"}


def taken_elsewhere(x):
    y = convolved(x)
    return fused(y) + 0.1 * y


def waited_for(x):
    y = convolved(x)
    with tf.control_dependencies([y]):
        other = tf.identity(x)
    return fused(y) + other[..., :1]


def written_while_it_runs(x):
    gamma, beta, mean, variance = statistics()
    with tf.control_dependencies([tf.assign_add(variance, tf.ones([8]))]):
        x = tf.identity(x)
    return tf.nn.batch_normalization(convolved(x), mean, variance, beta, gamma, 1e-3) * 0.0


def not_finite(x):
    return convolved(x) * tf.constant([0.0, 1, 1, 1, 1, 1, 1, 1]) / tf.constant([0.0, 1, 1, 1, 1, 1, 1, 1])


STAYS = {
    "the convolution is taken elsewhere": taken_elsewhere,
    "something waits for the convolution": waited_for,
    "statistics of the batch": lambda x: fused(convolved(x), training=True),
    "another number at each place": lambda x: convolved(x) * tf.constant(RNG.normal(size=(1, 9, 9, 8)), tf.float32),
    "another number in each row": lambda x: convolved(x, 9) * tf.constant(RNG.normal(size=(9, 1)), tf.float32),
    "more dimensions": lambda x: (convolved(x) * tf.ones([1, 1, 1, 1, 8]))[0],
    "by the images": lambda x: convolved(x) * tf.reduce_mean(x, [1, 2, 3], keepdims=True),
    "subtracted from": lambda x: 1.0 - convolved(x),
    "a bias alone": lambda x: tf.nn.bias_add(convolved(x), tf.ones([8])) + 1.0,
    "written while it runs": written_while_it_runs,
    "not finite": not_finite,
    "another activation between": lambda x: fused(tf.nn.relu(convolved(x))),
}


@pytest.mark.parametrize("build", STAYS.values(), ids=STAYS)
def test_what_is_not_certain_stays_as_it_is(build):
    images = tf.placeholder(tf.float32, [None, 9, 9, 4])
    tensor = build(images)
    with tx.session() as sess:
        network = Network(sess, images, [tensor])
        with precision.computing(network, "folded") as low:
            assert not [op.name for op in low.sess.graph.get_operations() if op.name.startswith("folded")]
            ((plain,), (same,)) = (
                (each.sess.run(list(each.tensors), {each.images: IMAGES})) for each in (network, low)
            )
            assert plain.tobytes() == same.tobytes()


FETCHED = {
    "a convolution and what follows": lambda y: [y, tf.nn.relu(fused(y))],
    "what is between": lambda y: [y * 2.0 + 1.0, y * 2.0],
    "what else takes a convolution": lambda y: [tf.nn.relu(fused(y)), tf.nn.tanh(y)],
    "a chain, and its end with its beginning": lambda y: (lambda z: [tf.nn.relu(z), z + 0.1 * y, z])(fused(y)),
    "the beginning twice": lambda y: (lambda z: [tf.nn.relu(z), tf.nn.elu(z) + y, tf.nn.tanh(z) * y])(fused(y)),
    "with a loop after it": lambda y: (
        lambda z: [*(tf.while_loop(lambda v: tf.reduce_sum(v) < 1e6, lambda v: [v * v + 1.0], [w])
                     for w in [tf.nn.relu(z)]), z + 0.1 * y]
    )(fused(y)),
}  # fmt: skip


@pytest.mark.parametrize("build", FETCHED.values(), ids=FETCHED)
def test_what_else_is_fetched_changes_no_bits(control_flow, build):
    images = tf.placeholder(tf.float32, [None, 9, 9, 4])
    tensors = build(convolved(images))

    def values(tensors):
        with precision.computing(Network(sess, images, tensors), "folded") as low:
            return low.make_callable(4)(IMAGES)

    with tx.session() as sess:
        alone = [values([tensor])[0] for tensor in tensors]
        for order in (1, -1):
            together = values(tensors[::order])[::order]
            assert [array.tobytes() for array in together] == [array.tobytes() for array in alone]


def test_a_fetched_convolution_stays_and_its_normalisation_does_not():
    images = tf.placeholder(tf.float32, [None, 9, 9, 4])
    y = convolved(images)
    z = fused(y)
    with tx.session() as sess:
        for tensors, count in (([y, z], 2), ([z], 1), ([y], 1)):
            with precision.computing(Network(sess, images, tensors), "folded") as low:
                kinds = [op.type for op in low.sess.graph.get_operations()]
                assert "FusedBatchNormV3" not in kinds
                assert kinds.count("Conv2D") == count


def test_memory_that_another_op_writes_is_not_taken_for_constant():
    images = tf.placeholder(tf.float32, [None, 9, 9, 4])
    handles = [tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[8], shared_name="scale", name=name) for name in "ab"]
    initial = tf.raw_ops.AssignVariableOp(resource=handles[0], value=tf.ones([8]))
    tf.raw_ops.ReadVariableOp(resource=handles[0], dtype=tf.float32)
    tf.raw_ops.ReadVariableOp(resource=handles[1], dtype=tf.float32)
    with tf.control_dependencies([tf.raw_ops.AssignVariableOp(resource=handles[1], value=tf.fill([8], 5.0))]):
        scale = tf.raw_ops.ReadVariableOp(resource=handles[0], dtype=tf.float32)
    tensor = convolved(images) * scale
    with tx.session() as sess:
        sess.run(initial)
        with precision.computing(Network(sess, images, [tensor]), "folded") as low:
            (values,) = low.make_callable(4)(IMAGES)
        assert values.tobytes() == sess.run(tensor, {images: IMAGES}).tobytes()


def test_new_variables_have_memory_of_their_own():
    images = tf.placeholder(tf.float32, [None, 9, 9, 4])
    handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[3, 3, 8, 4], shared_name="folded/0/kernel", name="other")
    initial = tf.raw_ops.AssignVariableOp(resource=handle, value=tf.fill([3, 3, 8, 4], 0.1))
    kernel = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
    tensor = tf.nn.conv2d(tf.nn.relu(normalised(convolved(images))), kernel, 1, "SAME")
    with tx.session() as sess:
        sess.run(initial)
        with precision.computing(Network(sess, images, [tensor]), "folded") as low:
            (values,) = low.make_callable(4)(IMAGES)
        np.testing.assert_allclose(values, sess.run(tensor, {images: IMAGES}), rtol=1e-4, atol=1e-3)


def test_a_convolution_in_a_loop_stays(control_flow):
    def build(x):
        kernel, scale = RNG.normal(size=(3, 3, 4, 4)).astype(np.float32), np.linspace(0.1, 0.3, 4, dtype=np.float32)
        return tf.while_loop(
            lambda i, v: i < 3, lambda i, v: (i + 1, tf.nn.conv2d(v, kernel, 1, "SAME") * scale + 0.1), [0, x]
        )[1]

    plain, folded, _ = both(build)
    assert plain.tobytes() == folded.tobytes()


def test_a_convolution_after_a_loop_is_folded(control_flow):
    plain, folded, kinds = both(
        lambda x: fused(convolved(tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 2.0), [0, x])[1]))
    )
    np.testing.assert_allclose(folded, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    assert "BiasAdd" in kinds


def test_one_kernel_of_two_convolutions_is_folded_for_each():
    def build(x):
        kernel = variable("kernel", [3, 3, 4, 4], -1, 1)
        with tf.variable_scope("first"):
            x = tf.nn.relu(fused(tf.nn.conv2d(x, kernel, 1, "SAME"), count=4))
        with tf.variable_scope("folded"):  # as the new variables are named where nothing else is
            return fused(tf.nn.conv2d(x, kernel, 1, "SAME"), count=4)

    plain, folded, kinds = both(build)
    np.testing.assert_allclose(folded, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    assert "FusedBatchNormV3" not in kinds


def test_channels_may_come_first():
    """Convolutions with the channels first cannot be run everywhere, so that the graph alone is looked at."""
    images = tf.placeholder(tf.float32, [None, 4, 9, 9])
    kernel = variable("kernel", [3, 3, 4, 9], -1, 1)
    y = tf.nn.conv2d(images, kernel, 1, "SAME", data_format="NCHW")
    z = tf.nn.conv2d(images, kernel, 1, "SAME", data_format="NCHW") * variable("by_column", [9])
    scale, shift, made = variable("scale", [9, 1, 1]), variable("shift", [1, 9, 1, 1]), statistics(9)
    x = fused(y * scale + shift, form="NCHW", made=made)
    with tx.session() as sess:
        with precision.computing(Network(sess, images, [x]), "folded") as low:
            assert not through(low) & NORMS
            (bias,) = (op for op in low.sess.graph.get_operations() if op.type == "BiasAdd")
            assert bias.get_attr("data_format") == b"NCHW"
            expected, scale, gamma, variance = sess.run([kernel, scale, made[0], made[3]])
            expected *= scale[:, 0, 0] * gamma / np.sqrt(variance + 1e-3)
            np.testing.assert_allclose(low.sess.run("folded/0/kernel/read:0"), expected, rtol=1e-5)
        with precision.computing(Network(sess, images, [z]), "folded") as low:
            assert "Mul" in through(low)


def test_what_follows_takes_the_folded_part_and_what_else_is_fed():
    images, training = tf.placeholder(tf.float32, [None, 9, 9, 4]), tf.placeholder(tf.bool, [])
    frozen = tf.nn.relu(chosen(images, training))
    end = tf.where(training, -frozen, frozen + 1.0)
    with tx.session() as sess:
        expected = sess.run(end, {images: IMAGES, training: False})
        with precision.divided(sess, images, [frozen], {training: np.array(False)}, "folded"):
            for feeds in ([training, images], [images, training]):
                arrays = [np.array(False) if feed is training else IMAGES for feed in feeds]
                (values,) = compiled(sess, [end], feeds)(*arrays)
                np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4 * expected.max())
            (values,) = compiled(sess, [end], [frozen, training])(expected - 1.0, np.array(False))
            assert values.tobytes() == (expected - 1.0 + 1.0).tobytes()
