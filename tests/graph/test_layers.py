"""Layers, against numpy: values, shapes, names, what they draw at random and what their switches do."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError
from tfxfer.graph import layers, variables
from tfxfer.graph.variables import global_step


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def load(sess, **values):
    """Give variables values by name, with __ for /."""
    for variable in tf.global_variables():
        value = values.pop(variable.op.name.replace("/", "__"), None)
        if value is not None:
            sess.run(variable.initializer, {variable.initializer.inputs[1]: value})
    assert not values


def names_and_shapes():
    return {variable.op.name: tuple(variable.shape.as_list()) for variable in tf.global_variables()}


def convolve(x, kernel, stride, padding):
    """Convolve in float64 by the definition, as TensorFlow pads: the odd pixel goes below and to the right."""
    size = kernel.shape[0]
    sides = [-(-side // stride) if padding == "SAME" else (side - size) // stride + 1 for side in x.shape[1:3]]
    if padding == "SAME":
        spare = [max((out - 1) * stride + size - side, 0) for out, side in zip(sides, x.shape[1:3], strict=True)]
        x = np.pad(x, [(0, 0), *((total // 2, total - total // 2) for total in spare), (0, 0)])
    y = np.zeros((len(x), *sides, kernel.shape[3]))
    for row in range(sides[0]):
        for column in range(sides[1]):
            window = x[:, row * stride : row * stride + size, column * stride : column * stride + size]
            y[:, row, column] = np.einsum("nabc,abcf->nf", window.astype(np.float64), kernel)
    return y


def convolve_backwards(x, kernel, stride, padding):
    """Add each value's kernel at its place; under SAME cut that to x times the stride."""
    n, height, width, _ = x.shape
    size, filters = kernel.shape[0], kernel.shape[2]
    reach = [(side - 1) * stride + max(size, stride) for side in (height, width)]
    y = np.zeros((n, *reach, filters))
    for row in range(height):
        for column in range(width):
            stamp = np.einsum("nc,abfc->nabf", x[:, row, column].astype(np.float64), kernel)
            y[:, row * stride : row * stride + size, column * stride : column * stride + size] += stamp
    if padding == "SAME":
        start = max(size - stride, 0) // 2
        y = y[:, start : start + height * stride, start : start + width * stride]
    return y


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (5, 2), (4, 2), (2, 3), (6, 1)])
def test_conv2d_convolves_as_numpy_does(padding, size, stride):
    x = normal(2, 8, 7, 3)
    y = layers.conv2d(tf.constant(x), 4, size, "conv", strides=stride, padding=padding, activation=None)
    kernel, bias = normal(size, size, 3, 4, seed=1), normal(4, seed=2)
    with tx.session() as sess:
        load(sess, conv__kernel=kernel, conv__bias=bias)
        got = sess.run(y)
    assert y.shape == got.shape
    np.testing.assert_allclose(got, convolve(x, kernel, stride, padding) + bias, atol=2e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (5, 2), (4, 2), (2, 3), (3, 3)])
def test_conv2d_transpose_convolves_backwards_as_numpy_does(padding, size, stride):
    x = normal(2, 4, 3, 5)
    y = layers.conv2d_transpose(tf.constant(x), 3, size, "deconv", strides=stride, padding=padding, activation=None)
    kernel, bias = normal(size, size, 3, 5, seed=1), normal(3, seed=2)
    with tx.session() as sess:
        load(sess, deconv__kernel=kernel, deconv__bias=bias)
        got = sess.run(y)
    wanted = convolve_backwards(x, kernel, stride, padding) + bias
    assert y.shape == got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_conv2d_transpose_knows_its_shape_but_for_the_batch_and_takes_any_batch():
    images = tf.placeholder(tf.float32, [None, 7, 7, 2])
    y = layers.conv2d_transpose(images, 3, 5, "deconv", strides=2)
    assert y.shape.as_list() == [None, 14, 14, 3]
    with tx.session() as sess:
        assert [sess.run(y, {images: normal(n, 7, 7, 2)}).shape for n in (0, 1, 5)] == [
            (0, 14, 14, 3),
            (1, 14, 14, 3),
            (5, 14, 14, 3),
        ]


def test_conv2d_transpose_is_the_gradient_of_conv2d():
    x, y = tf.constant(normal(1, 6, 6, 3)), tf.constant(normal(1, 3, 3, 4, seed=1))
    forwards = layers.conv2d(x, 4, 5, "conv", strides=2, activation=None)
    backwards = layers.conv2d_transpose(y, 3, 5, "deconv", strides=2, activation=None)
    (gradient,) = tf.gradients(forwards, x, grad_ys=y)
    kernel = normal(5, 5, 3, 4, seed=2)
    with tx.session() as sess:
        load(sess, conv__kernel=kernel, deconv__kernel=kernel)
        wanted, got = sess.run([gradient, backwards])
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "stride", "multiplier"), [(1, 1, 1), (3, 1, 2), (5, 2, 1), (4, 2, 3), (2, 3, 1)])
def test_depthwise_conv2d_convolves_each_channel_alone(padding, size, stride, multiplier):
    x = normal(2, 8, 7, 3)
    y = layers.depthwise_conv2d(
        tf.constant(x), size, "conv", strides=stride, padding=padding, depth_multiplier=multiplier, activation=None
    )
    kernel, bias = normal(size, size, 3, multiplier, seed=1), normal(3 * multiplier, seed=2)
    assert names_and_shapes() == {"conv/depthwise_kernel": kernel.shape, "conv/bias": bias.shape}
    with tx.session() as sess:
        load(sess, conv__depthwise_kernel=kernel, conv__bias=bias)
        got = sess.run(y)
    wanted = [convolve(x[..., k : k + 1], kernel[:, :, k : k + 1], stride, padding) for k in range(3)]
    assert y.shape == got.shape
    np.testing.assert_allclose(got, np.concatenate(wanted, axis=-1) + bias, atol=2e-5)


def test_a_dilated_depthwise_convolution_meets_every_other_pixel():
    x, kernel = normal(2, 7, 8, 3), normal(3, 2, 3, 1, seed=1)
    y = layers.depthwise_conv2d(
        tf.constant(x), (3, 2), "conv", padding="VALID", dilation_rate=2, activation=None, use_bias=False
    )
    with tx.session() as sess:
        load(sess, conv__depthwise_kernel=kernel)
        got = sess.run(y)
    windows = [
        x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 6] * kernel[row, column, :, 0]
        for row in range(3)
        for column in range(2)
    ]
    np.testing.assert_allclose(got, np.sum(windows, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": (1, 2)}, "conv: `strides=[1, 2]` must be the same for rows and columns"),
        ({"depth_multiplier": 0}, "conv: `depth_multiplier=0` must be one integer from 1 on"),
        ({"padding": "full"}, "conv: `padding` is 'SAME' or 'VALID', not 'full'"),
        ({"strides": 2, "dilation_rate": 2}, "conv: `strides=[2, 2]` and `dilation_rate=[2, 2]` cannot both be above"),
    ],
)
def test_depthwise_conv2d_refuses_options_that_it_cannot_follow(options, message):
    with pytest.raises(GraphError, match=re.escape(message)):
        layers.depthwise_conv2d(tf.zeros([1, 8, 8, 3]), 3, "conv", **options)


def test_dense_multiplies_and_adds_its_bias():
    x = normal(5, 7)
    y = layers.dense(tf.constant(x), 3, "fc", activation=None)
    kernel, bias = normal(7, 3, seed=1), normal(3, seed=2)
    with tx.session() as sess:
        load(sess, fc__kernel=kernel, fc__bias=bias)
        np.testing.assert_allclose(sess.run(y), x.astype(np.float64) @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x, **options: layers.conv2d(x, 4, 3, "layer", **options),
        lambda x, **options: layers.conv2d_transpose(x, 4, 3, "layer", **options),
        lambda x, **options: layers.depthwise_conv2d(x, 3, "layer", depth_multiplier=2, **options),
        lambda x, **options: layers.dense(layers.flatten(x), 9, "layer", **options),
    ],
)
def test_the_activation_is_relu_by_default(layer):
    x = tf.constant(normal(2, 4, 4, 3))
    plain = layer(x, activation=None)
    with tf.variable_scope("", reuse=True):
        relu, bent = layer(x), layer(x, activation=tf.tanh)
    with tx.session() as sess:
        plain, relu, bent = sess.run([plain, relu, bent])
    assert plain.min() < 0
    assert np.array_equal(relu, np.maximum(plain, 0))
    np.testing.assert_allclose(bent, np.tanh(plain), atol=1e-6)


# Options, by the names of tf.layers.

LAYERS = {
    "conv2d": lambda x, **options: layers.conv2d(x, 4, 3, "layer", activation=None, **options),
    "conv2d_transpose": lambda x, **options: layers.conv2d_transpose(x, 4, 3, "layer", activation=None, **options),
    "dense": lambda x, **options: layers.dense(layers.flatten(x), 4, "layer", activation=None, **options),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_without_a_bias_has_the_kernel_alone(layer):
    x = tf.constant(normal(2, 4, 4, 3))
    plain = LAYERS[layer](x, use_bias=False)
    assert list(names_and_shapes()) == ["layer/kernel"]
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        biased = LAYERS[layer](x)
    with tx.session() as sess:
        load(sess, layer__bias=np.float32([1, 2, 3, 4]))
        plain, biased = sess.run([plain, biased])
    np.testing.assert_allclose(biased, plain + np.arange(1, 5), atol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
def test_kernel_and_bias_start_from_what_their_initializers_say(layer):
    x = tf.constant(normal(2, 4, 4, 3))
    LAYERS[layer](x, kernel_initializer=tf.initializers.ones(), bias_initializer=tf.initializers.constant(0.5))
    with tx.session() as sess:
        kernel, bias = sess.run(tf.global_variables())
    assert (kernel == 1).all()
    assert bias.tolist() == [0.5] * 4


def test_what_a_layer_starts_from_stays_the_same_in_every_version():
    # A run of the same seed must start as it did before: never change these.
    tf.set_random_seed(3)
    x = tf.zeros([1, 4, 4, 2])
    layers.conv2d(x, 3, 3, "conv")
    layers.conv2d_transpose(x, 3, 2, "up")
    layers.dense(tf.zeros([1, 5]), 3, "fc")
    with tx.session() as sess:
        values = {variable.op.name: sess.run(variable) for variable in tf.global_variables()}
    first = {name: value.ravel()[:2].tolist() for name, value in values.items()}
    assert first == {
        "conv/kernel": [-0.027638792991638184, -0.20470906794071198],
        "conv/bias": [0, 0],
        "up/kernel": [0.16340667009353638, -0.20965376496315002],
        "up/bias": [0, 0],
        "fc/kernel": [0.33017414808273315, 0.3947274088859558],
        "fc/bias": [0, 0],
    }


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("rate", [1, 2, (2, 3)])
def test_a_dilated_convolution_is_tensorflows_and_has_its_gradients(padding, rate):
    x, kernel = normal(2, 9, 10, 3), normal(3, 3, 3, 4, seed=1)
    images = tf.placeholder(tf.float32, [None, 9, 10, 3])
    y = layers.conv2d(images, 4, 3, "conv", padding=padding, dilation_rate=rate, activation=None)
    (variable,) = tx.select("conv/kernel")
    rows, columns = rate if isinstance(rate, tuple) else (rate, rate)
    spread = tf.reshape(
        tf.pad(variable[:, None, :, None], [[0, 0], [0, rows - 1], [0, 0], [0, columns - 1]] + [[0, 0]] * 2),
        [3 * rows, 3 * columns, 3, 4],
    )
    wanted = tf.nn.conv2d(images, spread[: 2 * rows + 1, : 2 * columns + 1], 1, padding)  # zeros between its weights
    gradients = [tf.gradients(tf.reduce_sum(tf.square(result)), [images, variable]) for result in (y, wanted)]
    assert y.shape.as_list() == wanted.shape.as_list()
    with tx.session() as sess:
        load(sess, conv__kernel=kernel)
        (got, *slopes), (expected, *expected_slopes) = sess.run(
            [[y, *gradients[0]], [wanted, *gradients[1]]], {images: x}
        )
    np.testing.assert_allclose(got, expected, atol=1e-4)
    for slope, expected_slope in zip(slopes, expected_slopes, strict=True):
        np.testing.assert_allclose(slope, expected_slope, rtol=1e-3, atol=1e-2)


def test_sizes_and_strides_may_differ_by_rows_and_columns_and_padding_is_written_in_either_case():
    x = tf.constant(normal(2, 8, 9, 3))
    conv = layers.conv2d(x, 4, (1, 5), "conv", strides=(2, 3), padding="valid", activation=None)
    up = layers.conv2d_transpose(x, 4, (3, 2), "up", strides=[2, 1], padding="valid", activation=None)
    pool = layers.max_pool2d(x, (2, 3), "pool", strides=(1, 2), padding="same")
    kernels = {variable.op.name: variable for variable in tx.select(".*/kernel")}
    wanted = [
        tf.nn.conv2d(x, kernels["conv/kernel"], (2, 3), "VALID"),
        tf.nn.conv2d_transpose(x, kernels["up/kernel"], [2, 17, 10, 4], (2, 1), "VALID"),
        tf.nn.max_pool2d(x, (2, 3), (1, 2), "SAME"),
    ]
    with tx.session() as sess:
        for got, expected in zip(*sess.run([[conv, up, pool], wanted]), strict=True):
            assert np.array_equal(got, expected)


def test_sizes_may_be_integers_of_numpy():
    x = layers.conv2d(tf.zeros([1, 8, 8, 3]), 4, np.int64(3), "conv", strides=np.int64(2))
    assert layers.max_pool2d(x, np.int32(2), "pool").shape.as_list() == [1, 2, 2, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "full"}, "conv: `padding` is 'SAME' or 'VALID', not 'full'"),
        ({"strides": 0}, "conv: `strides=0` must be one integer from 1 on, or two: of rows and columns"),
        ({"padding": [[0, 0], [1, 1]]}, "conv: `padding` is 'SAME' or 'VALID', not [[0, 0], [1, 1]]"),
        ({"strides": 1.5}, "conv: `strides=1.5` must be one integer from 1 on, or two: of rows and columns"),
        ({"strides": (1.5, 2)}, "conv: `strides=(1.5, 2)` must be one integer from 1 on, or two: of rows and columns"),
        ({"strides": "22"}, "conv: `strides=22` must be one integer from 1 on, or two: of rows and columns"),
        ({"dilation_rate": (1, 2, 3)}, "conv: `dilation_rate=(1, 2, 3)` must be one integer from 1 on, or two"),
        (
            {"strides": 2, "dilation_rate": 2},
            "conv: `strides=[2, 2]` and `dilation_rate=[2, 2]` cannot both be above 1",
        ),
    ],
)
def test_conv2d_refuses_options_that_it_cannot_follow(options, message):
    with pytest.raises(GraphError, match=re.escape(message)):
        layers.conv2d(tf.zeros([1, 8, 8, 3]), 4, 3, "conv", **options)


@pytest.mark.parametrize(
    ("options", "own"),
    [({"scale": False}, ["beta"]), ({"center": False}, ["gamma"]), ({"scale": False, "center": False}, [])],
)
def test_batch_norm_without_scale_has_no_gamma_and_without_center_no_beta(options, own):
    x = normal(50, 3)
    y = layers.batch_norm(tf.constant(x), "norm", **options)
    assert list(names_and_shapes()) == [f"norm/{name}" for name in [*own, "moving_mean", "moving_variance"]]
    mean, variance = STATISTICS["norm__moving_mean"], STATISTICS["norm__moving_variance"]
    with tx.session() as sess:
        load(sess, norm__moving_mean=mean, norm__moving_variance=variance)
        np.testing.assert_allclose(sess.run(y), (x - mean) / np.sqrt(variance + 1e-3), atol=1e-5)


def test_flatten_keeps_the_order_row_column_channel():
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    images = tf.placeholder(tf.float32, [None, 3, 4, 5])
    y = layers.flatten(images)
    assert y.shape.as_list() == [None, 60]
    with tx.session() as sess:
        assert np.array_equal(sess.run(y, {images: x}), x.reshape(2, 60))


def test_flatten_refuses_a_size_that_is_not_known():
    images = tf.placeholder(tf.float32, [None, None, 28, 1])
    message = "flatten 'flatten': all but the first dimension of (None, None, 28, 1) must be known"
    with pytest.raises(GraphError, match=re.escape(message)):
        layers.flatten(images)


@pytest.mark.parametrize(("options", "side"), [({}, 3), ({"strides": 1}, 6), ({"padding": "SAME"}, 4)])
def test_max_pool2d_takes_the_largest_of_each_window(options, side):
    x = normal(2, 7, 7, 3)
    y = layers.max_pool2d(tf.constant(x), 2, "pool", **options)
    padded = np.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=-np.inf)
    stride = options.get("strides", 2)
    wanted = np.zeros((2, side, side, 3), np.float32)
    for row in range(side):
        for column in range(side):
            window = padded[:, row * stride : row * stride + 2, column * stride : column * stride + 2]
            wanted[:, row, column] = window.max(axis=(1, 2))
    with tx.session() as sess:
        assert np.array_equal(sess.run(y), wanted)


def test_variables_are_named_by_layer_and_have_these_shapes():
    x = tf.zeros([1, 8, 8, 3])
    with tf.name_scope("ENCODER"):
        x = layers.batch_norm(layers.conv2d(x, 4, 5, "conv1"), "norm1")
        with tf.variable_scope("block"):
            x = layers.conv2d_transpose(x, 6, 3, "up")
    layers.dense(layers.flatten(layers.max_pool2d(x, 2, "pool")), 7, "fc")
    assert names_and_shapes() == {
        "conv1/kernel": (5, 5, 3, 4),
        "conv1/bias": (4,),
        "norm1/gamma": (4,),
        "norm1/beta": (4,),
        "norm1/moving_mean": (4,),
        "norm1/moving_variance": (4,),
        "block/up/kernel": (3, 3, 6, 4),
        "block/up/bias": (6,),
        "fc/kernel": (96, 7),
        "fc/bias": (7,),
    }
    assert [v.op.name for v in tf.global_variables() if v not in tf.trainable_variables()] == [
        "norm1/moving_mean",
        "norm1/moving_variance",
    ]


def test_a_layer_of_the_same_name_is_refused_and_shared_where_the_scope_says_so():
    x = tf.zeros([1, 3])
    first = layers.dense(x, 2, "fc")
    with pytest.raises(GraphError, match=r"fc/kernel is in the graph already: .* share its variables, .*reuse=True"):
        layers.dense(x, 2, "fc")
    with tf.variable_scope("", reuse=True):
        second = layers.dense(x, 2, "fc")
    assert first is not second
    assert list(names_and_shapes()) == ["fc/kernel", "fc/bias"]


def test_a_layer_of_the_name_of_an_imported_one_is_refused_and_does_not_become_another(tmp_path):
    with tf.Graph().as_default():
        layers.dense(tf.zeros([1, 3]), 2, "fc")
        tf.train.export_meta_graph(str(tmp_path / "model.meta"))
    tf.train.import_meta_graph(str(tmp_path / "model.meta"))
    with pytest.raises(GraphError, match=r"fc/kernel is in the graph already: .*`with tf\.Graph\(\)\.as_default"):
        layers.dense(tf.zeros([1, 3]), 2, "fc")
    with tf.variable_scope("head"):
        layers.dense(tf.zeros([1, 3]), 2, "fc")
    assert [name for name in names_and_shapes() if name.startswith("head/")] == ["head/fc/kernel", "head/fc/bias"]
    with tf.Graph().as_default():
        layers.dense(tf.zeros([1, 3]), 2, "fc")
        assert list(names_and_shapes()) == ["fc/kernel", "fc/bias"]


# Dropout.


def dropout_of_ones(rate, *, name="drop", shape=(4, 1000), seed=0):
    tf.set_random_seed(seed)
    y = layers.dropout(tf.ones(shape), rate, name)
    (switch,) = tf.get_collection(layers.DROPOUTS)
    step = global_step()
    return y, switch, step.assign(tf.placeholder_with_default(tf.constant(1, step.dtype), [], "to"), read_value=False)


def masks(rate=0.5, *, steps=(0,), **options):
    """Return what dropout makes of ones at these steps, in a graph and session of its own."""
    with tf.Graph().as_default() as graph:
        y, switch, move = dropout_of_ones(rate, **options)
        with tx.session() as sess:
            made = []
            for step in steps:
                sess.run(move, {graph.get_tensor_by_name("to:0"): step})
                made.append(sess.run(y, {switch: True}))
            return made


def test_dropout_leaves_every_bit_unless_it_is_switched_on():
    x = normal(50, 40)
    y = layers.dropout(tf.constant(x), 0.7, "drop")
    with tx.session() as sess:
        assert sess.run(y).tobytes() == x.tobytes()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_the_others(rate):
    (got,) = masks(rate, shape=(100, 1000))
    assert np.allclose(got[got != 0], 1 / (1 - rate), rtol=1e-6)
    assert (got == 0).mean() == pytest.approx(rate, abs=0.01)
    assert got.mean() == pytest.approx(1, abs=0.02)
    # Neither whole rows nor whole columns go together.
    assert np.ptp((got == 0).mean(axis=1)) < 0.1
    assert np.ptp((got == 0).mean(axis=0)) < 0.5


def test_dropout_at_rate_0_drops_nothing():
    (got,) = masks(0.0)
    assert np.array_equal(got, np.ones((4, 1000)))


def test_what_dropout_drops_is_keyed_by_seed_name_and_step_alone():
    first, again, second = masks(steps=(7, 7, 8))
    assert np.array_equal(first, again)
    assert np.array_equal(first, masks(steps=(3, 7))[1])
    others = [second, *masks(steps=(7,), seed=1), *masks(steps=(7,), name="drop2")]
    for other in others:
        assert 0.4 < (first == other).mean() < 0.6


def test_what_dropout_drops_does_not_depend_on_what_else_the_graph_holds():
    (alone,) = masks(steps=(5,))
    tf.random.uniform([3])
    layers.dropout(layers.dense(tf.ones([1, 3]), 4, "fc"), 0.5, "drop0")
    tf.get_collection_ref(layers.DROPOUTS).clear()
    y, switch, move = dropout_of_ones(0.5)
    with tx.session() as sess:
        sess.run(move, {"to:0": 5})
        assert np.array_equal(sess.run(y, {switch: True}), alone)


def test_what_dropout_drops_stays_the_same_in_every_version():
    # A run that is resumed after an upgrade must drop what it would have dropped: never change these.
    first, second = masks(steps=(0, 1000), shape=(16,), seed=3)
    assert (first == 0).astype(int).tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0]
    assert (second == 0).astype(int).tolist() == [1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1]


def test_dropout_takes_a_global_step_of_32_bits():
    tf.Variable(0, name="global_step")
    y, switch, move = dropout_of_ones(0.5)
    with tx.session() as sess:
        sess.run(move, {"to:0": 7})
        assert np.array_equal(sess.run(y, {switch: True}), masks(steps=(7,))[0])


@pytest.mark.parametrize("rate", [-0.1, 1.0, 50])
def test_dropout_refuses_a_rate_that_is_no_share(rate):
    with pytest.raises(GraphError, match=re.escape(f"dropout 'drop': rate={rate} is not in [0, 1)")):
        layers.dropout(tf.ones([3]), rate, "drop")


# Batch normalisation.


@pytest.fixture(params=["control flow v2", "control flow v1"])
def control_flow(request):
    """As it is by default, and as `tf.disable_v2_behavior()` leaves it."""
    if request.param == "control flow v2":
        yield
        return
    tf.disable_control_flow_v2()
    yield
    tf.enable_control_flow_v2()


STATISTICS = {
    "norm__gamma": normal(3, seed=1) + 2,
    "norm__beta": normal(3, seed=2),
    "norm__moving_mean": normal(3, seed=3),
    "norm__moving_variance": np.square(normal(3, seed=4)) + 0.5,
}


def normalise(x, mean, variance, epsilon=1e-3):
    gamma, beta = STATISTICS["norm__gamma"], STATISTICS["norm__beta"]
    return gamma * (x.astype(np.float64) - mean) / np.sqrt(variance + epsilon) + beta


def test_batch_norm_begins_as_the_identity_but_for_epsilon():
    x = normal(8, 4, 4, 3)
    y = layers.batch_norm(tf.constant(x), "norm", epsilon=0.5)
    with tx.session() as sess:
        np.testing.assert_allclose(sess.run(y), x / np.sqrt(1.5), atol=1e-6)


@pytest.mark.usefixtures("control_flow")
@pytest.mark.parametrize("shape", [(8, 4, 4, 3), (16, 3)])
def test_batch_norm_uses_the_moving_statistics_unless_it_is_switched_on(shape):
    x = normal(*shape) * 3 + 1
    y = layers.batch_norm(tf.constant(x), "norm")
    (norm,) = layers.batch_norms()
    with tx.session() as sess:
        load(sess, **STATISTICS)
        frozen, trained = sess.run(y), sess.run(y, {norm.switch: True})
    axes = tuple(range(x.ndim - 1))
    moving = STATISTICS["norm__moving_mean"], STATISTICS["norm__moving_variance"]
    np.testing.assert_allclose(frozen, normalise(x, *moving), atol=1e-5)
    np.testing.assert_allclose(trained, normalise(x, x.mean(axes), x.var(axes)), atol=1e-5)


@pytest.mark.usefixtures("control_flow")
def test_switched_on_the_moving_statistics_follow_those_of_the_batch_by_1_minus_momentum():
    x = normal(32, 2, 2, 3) * 3 + 1
    layers.batch_norm(tf.constant(x), "norm", momentum=0.9)
    (norm,) = layers.batch_norms()
    mean, variance = STATISTICS["norm__moving_mean"], STATISTICS["norm__moving_variance"]
    with tx.session() as sess:
        load(sess, **STATISTICS)
        for _ in range(3):
            sess.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS), {norm.switch: True})
            mean = 0.9 * mean + 0.1 * x.mean((0, 1, 2))
            variance = 0.9 * variance + 0.1 * x.var((0, 1, 2))
        got = sess.run(tf.global_variables())
    np.testing.assert_allclose(got[2], mean, rtol=1e-5)
    np.testing.assert_allclose(got[3], variance, rtol=1e-5)
    assert np.array_equal(got[0], STATISTICS["norm__gamma"])
    assert np.array_equal(got[1], STATISTICS["norm__beta"])


@pytest.mark.usefixtures("control_flow")
def test_running_all_update_ops_changes_no_bit_where_batch_norm_is_frozen():
    layers.batch_norm(tf.constant(normal(8, 4, 4, 4) * 100), "norm")
    odd = np.array([-0.0, 1e-45, 3.4e38, 0.1], np.float32)
    with tx.session() as sess:
        load(sess, norm__moving_mean=odd, norm__moving_variance=odd[::-1].copy())
        before = [value.tobytes() for value in sess.run(tf.global_variables())]
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        assert updates
        for _ in range(5):
            sess.run(updates)
        assert [value.tobytes() for value in sess.run(tf.global_variables())] == before


@pytest.mark.usefixtures("control_flow")
@pytest.mark.parametrize("on", [False, True])
def test_the_gradient_of_batch_norm_is_right_with_and_without_its_switch(on):
    x, weights = normal(6, 2, 2, 3), normal(6, 2, 2, 3, seed=9)
    images = tf.constant(x)
    y = layers.batch_norm(images, "norm")
    gamma, beta = tf.trainable_variables()
    gradients = tf.gradients(tf.reduce_sum(y * weights), [images, gamma, beta])
    (norm,) = layers.batch_norms()
    with tx.session() as sess:
        load(sess, **STATISTICS)
        got = sess.run(gradients, {norm.switch: on})
    axes = (0, 1, 2)
    mean = x.mean(axes, np.float64) if on else STATISTICS["norm__moving_mean"]
    variance = x.astype(np.float64).var(axes) if on else STATISTICS["norm__moving_variance"]
    deviation = np.sqrt(variance + 1e-3)
    unit = (x - mean) / deviation
    by_x = weights * STATISTICS["norm__gamma"] / deviation
    if on:
        by_x -= by_x.mean(axes) + unit * (by_x * unit).mean(axes)
    np.testing.assert_allclose(got[0], by_x, atol=1e-5)
    np.testing.assert_allclose(got[1], (weights * unit).sum(axes), atol=1e-5)
    np.testing.assert_allclose(got[2], weights.sum(axes), atol=1e-5)


def test_frozen_batch_norm_treats_each_example_alone():
    images = tf.placeholder(tf.float32, [None, 2, 2, 3])
    y = layers.batch_norm(images, "norm")
    x = normal(5, 2, 2, 3)
    with tx.session() as sess:
        load(sess, **STATISTICS)
        whole = sess.run(y, {images: x})
        assert np.array_equal(whole, np.concatenate([sess.run(y, {images: x[k : k + 1]}) for k in range(5)]))


def test_each_batch_norm_has_a_switch_of_its_own():
    x = normal(8, 3) * 5
    a, b = (layers.batch_norm(tf.constant(x), name) for name in "ab")
    switches = [norm.switch for norm in layers.batch_norms()]
    with tx.session() as sess:
        off = sess.run([a, b])
        first_on = sess.run([a, b], {switches[0]: True})
    assert not np.allclose(off[0], first_on[0])
    assert np.array_equal(off[1], first_on[1])


def test_what_batch_norm_records_of_itself_is_carried_by_a_meta_graph():
    with tf.name_scope("ENCODER"):
        layers.batch_norm(tf.zeros([2, 3]), "norm")
    wanted = [
        layers.BatchNorm(
            switch="ENCODER/norm/switch:0",
            trained=["norm/gamma", "norm/beta"],
            statistics=["norm/moving_mean", "norm/moving_variance"],
            updates=["ENCODER/norm/follow/Identity"],
        )
    ]
    assert layers.batch_norms() == wanted
    meta = tf.train.export_meta_graph()
    with tf.Graph().as_default() as other:
        tf.train.import_meta_graph(meta)
        with tx.session() as sess:
            sess.run(other.get_collection(tf.GraphKeys.UPDATE_OPS), {wanted[0].switch: True})
            assert np.allclose(sess.run("norm/moving_variance/Read/ReadVariableOp:0"), 0.99)
    assert layers.batch_norms(other) == wanted
    assert [op.name for op in other.get_collection(tf.GraphKeys.UPDATE_OPS)] == wanted[0].updates


def test_what_is_built_for_inference_gives_the_same_bits_without_switches_and_random_numbers(tmp_path):
    def build():
        x = tf.placeholder(tf.float32, [None, 6, 6, 3], "x")
        return x, layers.batch_norm(layers.conv2d(x, 4, 3, "conv"), "conv_bn")

    generator = np.random.default_rng(0)
    images = generator.normal(size=(5, 6, 6, 3)).astype(np.float32)
    outputs = []
    for context in (contextlib.nullcontext(), variables.inference()):
        with tf.Graph().as_default() as graph:
            with context:
                x, y = build()
            names = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
            if not outputs:
                np.savez(tmp_path / "w.npz", **{n: generator.random(s, np.float32) + 0.1 for n, s in names.items()})
            with tx.session(tx.plan(".*", str(tmp_path / "w.npz"))) as sess:
                outputs.append(sess.run(y, {x: images}))
    np.testing.assert_array_equal(*outputs)
    assert set(names) == {"conv/kernel", "conv/bias"} | {
        f"conv_bn/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    assert not {"If", "StatelessIf", "Switch", "StatelessRandomUniformV2"} & {op.type for op in graph.get_operations()}
    assert layers.batch_norms(graph) == []
    assert not variables.is_for_inference()
