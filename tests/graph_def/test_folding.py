"""What follows from bound placeholders, against what TensorFlow computes where they are fed."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import example, given
from hypothesis import strategies as st

from tfxfer.graph_def.folding import fold
from tfxfer.graph_def.inlining import calls, inline
from tfxfer.graph_def.nodes import Nodes

IMAGES = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)


def build(make):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 6], "x")
        flags = {
            "training": tf.placeholder(tf.bool, [], "training"),
            "keep": tf.placeholder(tf.float32, [], "keep"),
            "rate": tf.placeholder(tf.float32, [], "rate"),
        }
        tf.identity(make(x, flags), "y")
    return graph.as_graph_def()


def run(graph_def, feeds):
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        with tf.Session() as sess:
            there = {op.name for op in graph.get_operations() if op.type == "Placeholder"}
            return sess.run("y:0", {f"{name}:0": value for name, value in feeds.items() if name in there})


def folded(graph_def, feeds):
    result = fold(graph_def, {f"{name}:0": np.asarray(value, dtype) for name, (value, dtype) in feeds.items()})
    while calls(result):
        result = fold(inline(result), {})
    return result


MAKES = {
    "cond": lambda x, f: tf.cond(f["training"], lambda: x - tf.reduce_mean(x, 0), lambda: x * 3.0),
    "cond of not": lambda x, f: tf.cond(
        tf.logical_not(f["training"]), lambda: x * 3.0, lambda: x - tf.reduce_mean(x, 0)
    ),
    "cond within cond": lambda x, f: tf.cond(
        f["training"],
        lambda: x - tf.reduce_mean(x, 0),
        lambda: tf.cond(tf.logical_and(f["training"], True), lambda: x - tf.reduce_mean(x, 0), lambda: x + 2.0),
    ),
    "cond of constants": lambda x, f: tf.cond(f["training"], lambda: x - tf.reduce_mean(x, 0), lambda: x * 0 + 7.0),
    "dropout by rate": lambda x, f: tf.nn.dropout(x, rate=f["rate"]),
    "dropout by keep": lambda x, f: tf.nn.dropout(x, rate=1 - f["keep"]),
    "dropout of old": lambda x, f: x / f["keep"] * tf.floor(f["keep"] + tf.random_uniform(tf.shape(x))),
    "dropout by cast": lambda x, f: x * tf.cast(tf.random_uniform(tf.shape(x)) >= f["rate"], tf.float32),
}
FEEDS = {"training": (False, bool), "keep": (1.0, np.float32), "rate": (0.0, np.float32)}


@pytest.mark.parametrize("name", MAKES)
def test_nothing_of_training_is_left_and_no_value_changes(name, control_flow):
    graph_def = build(MAKES[name])
    expected = run(graph_def, {"x": IMAGES, **{key: value for key, (value, _) in FEEDS.items()}})
    result = folded(graph_def, FEEDS)
    kinds = {node.op for node in Nodes(result).needed(["y:0"]).nodes}
    assert not kinds & {"Mean", "RandomUniform", "If", "StatelessIf", "Switch", "Merge", "PartitionedCall"}
    np.testing.assert_array_equal(run(result, {"x": IMAGES}), expected)


@pytest.mark.parametrize("name", MAKES)
def test_where_training_is_on_it_stays_as_it_is(name, control_flow):
    feeds = {"training": (True, bool), "keep": (0.5, np.float32), "rate": (0.5, np.float32)}
    result = folded(build(MAKES[name]), feeds)
    kinds = {node.op for node in Nodes(result).needed(["y:0"]).nodes}
    assert kinds & {"Mean", "RandomUniform"}


def test_without_a_value_nothing_is_taken_for_decided(control_flow):
    for name in ("cond", "dropout by keep"):
        graph_def = build(MAKES[name])
        assert fold(graph_def, {}) == graph_def


def test_a_loop_stays_and_computes_the_same(control_flow):
    def make(x, f):
        n = tf.cond(f["training"], lambda: tf.constant(5), lambda: tf.constant(2))
        return tf.while_loop(lambda i, v: i < n, lambda i, v: (i + 1, v * 2), [tf.constant(0), x])[1]

    result = folded(build(make), FEEDS)
    np.testing.assert_array_equal(run(result, {"x": IMAGES}), IMAGES * 4)


def test_a_loop_in_a_branch_that_is_not_taken_goes_with_it(control_flow):
    def loop(x):
        def inner(v):
            return tf.while_loop(lambda j, w: j < 2, lambda j, w: (j + 1, w + 1.0), [tf.constant(0), v])[1]

        return tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, inner(v) * 1.5), [tf.constant(0), x])[1]

    graph_def = build(lambda x, f: tf.cond(f["training"], lambda: loop(x), lambda: x * 3.0) + loop(x))
    result = folded(graph_def, FEEDS)
    expected = run(graph_def, {"x": IMAGES, "training": False})
    np.testing.assert_array_equal(run(result, {"x": IMAGES}), expected)


def test_a_mask_that_decides_a_shape_is_left():
    graph_def = build(lambda x, f: tf.cast(tf.random_uniform(tf.shape(x)) >= f["rate"], tf.float32))
    result = folded(graph_def, FEEDS)
    assert run(result, {"x": IMAGES}).shape == (4, 6)


def drawn(x, rate, shape=None):
    return tf.random_uniform(tf.shape(x) if shape is None else shape) >= rate


SHAPED = {
    "product with a number": lambda x, f: (
        x / tf.reduce_sum(tf.reshape(2.0 * tf.cast(drawn(x, f["rate"]), tf.float32), [-1]))
    ),
    "numbers selected": lambda x, f: x / tf.reduce_sum(tf.reshape(tf.where_v2(drawn(x, f["rate"]), 1.0, 0.0), [-1])),
    "product of masks": lambda x, f: (
        tf.cast(drawn(x, f["rate"]), tf.float32) * tf.floor(f["keep"] + tf.random_uniform(tf.shape(x)))
    ),
    "mask selected": lambda x, f: tf.where_v2(tf.constant(True), tf.cast(drawn(x, f["rate"]), tf.float32), 0.0),
    "another shape": lambda x, f: x[:1] * tf.cast(drawn(x, f["rate"]), tf.float32),
    "another shape selected": lambda x, f: tf.where_v2(drawn(x, f["rate"]), x[:1], 0.0),
    "shape that is given": lambda x, f: x[:1] * tf.cast(drawn(x, f["rate"], [4, 6]), tf.float32),
    "dropout of given shape": lambda x, f: tf.nn.dropout(tf.ensure_shape(x, [4, 6]), rate=f["rate"]),
    "dropout of columns": lambda x, f: tf.nn.dropout(x, rate=f["rate"], noise_shape=[1, 6]),
}


@pytest.mark.parametrize("name", SHAPED)
def test_a_mask_keeps_its_shape_where_nothing_else_has_it(name, control_flow):
    graph_def = build(SHAPED[name])
    expected = run(graph_def, {"x": IMAGES, "keep": 1.0, "rate": 0.0})
    result = folded(graph_def, FEEDS)
    np.testing.assert_array_equal(run(result, {"x": IMAGES}), expected, strict=True)
    if "given" in name or "columns" in name:
        assert not {"RandomUniform"} & {node.op for node in Nodes(result).needed(["y:0"]).nodes}


def test_the_bound_graph_is_a_copy():
    graph_def = build(MAKES["cond"])
    before = graph_def.SerializeToString(deterministic=True)
    folded(graph_def, FEEDS)
    assert graph_def.SerializeToString(deterministic=True) == before


DTYPES = ("bool", "int8", "uint8", "int32", "int64", "int16", "half", "bfloat16", "float32", "float64", "complex64")
NUMBERS = st.sampled_from(
    (
        *(0, -0.0, 0.1, 0.2, 0.3, 0.5, 1, 1.5, 2, 255, 256, 300, 2049, 65504, 2**24 + 1, 2**31 - 1, 2**40, 1e-6, 1e30),
        *(1e-40, 1e-310, float("inf"), float("nan"), -0.5, -1, -1.5, -300, 1 + 2**-11, 1 + 2**-11 + 2**-40, 0.99999999),
    )
)
BINARY = {
    "Add": lambda a, b: tf.raw_ops.Add(x=a, y=b),
    "AddV2": lambda a, b: tf.raw_ops.AddV2(x=a, y=b),
    "Sub": tf.subtract,
    "Mul": tf.multiply,
}
COMPARE = {"Greater": tf.greater, "GreaterEqual": tf.greater_equal, "Less": tf.less, "LessEqual": tf.less_equal}


def branched(decide):
    """Return a graph with a branch that a placeholder, `p`, decides."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [], "x")
        p = tf.placeholder(tf.float64, [], "p")
        tf.identity(tf.cond(decide(p), lambda: x * 2.0, lambda: x * 3.0), "y")
    return graph.as_graph_def()


def same_branch(decide, value):
    graph_def = branched(decide)
    bound = folded(graph_def, {"p": (value, np.float64)})
    assert run(bound, {"x": 1.0}) == run(graph_def, {"x": 1.0, "p": value})


@given(
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.lists(st.sampled_from(DTYPES), min_size=1, max_size=3),
    st.sampled_from(sorted(BINARY)),
    st.sampled_from(sorted(COMPARE)),
)
@example(0.5, 0, 0, ["int32"], "Add", "Greater")
@example(256, 0, 0, ["int32", "uint8"], "Add", "Greater")
@example(0.1, 0.2, 0.3, ["float32"], "Add", "GreaterEqual")
@example(1e-40, 0, 0, ["float32"], "Add", "Greater")
@example(1, 0, 0, ["complex64", "float32"], "Add", "Greater")
@example(1 + 2**-11 + 2**-40, 0, 1, ["half"], "Add", "Greater")
def test_a_branch_is_decided_as_tensorflow_computes_it(first, second, third, dtypes, binary, compare):
    def decide(p):
        def cast(value):
            for dtype in dtypes:
                value = tf.raw_ops.Cast(x=value, DstT=tf.as_dtype(dtype))
            return value

        a, b, c = cast(p), cast(tf.constant(second, tf.float64)), cast(tf.constant(third, tf.float64))
        if dtypes[-1] in ("bool", "complex64"):
            return tf.logical_or(tf.cast(a, tf.bool), tf.logical_not(tf.cast(b, tf.bool)))
        return COMPARE[compare](BINARY[binary](a, b), c)

    same_branch(decide, first)


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("start", [0.0, 1.0, 2.0, 7.0])
def test_what_is_drawn_is_floored_only_where_no_draw_gives_another_number(dtype, start):
    dtype = tf.as_dtype(dtype)

    def make(x, f):
        drawn = tf.random_uniform([1 << 14], dtype=dtype, seed=1)
        mask = tf.floor(tf.constant(start, dtype) + drawn)
        return tf.zeros([1 << 14], dtype) + mask * tf.ones([1 << 14], dtype)

    graph_def = build(make)
    np.testing.assert_array_equal(run(folded(graph_def, {}), {}), run(graph_def, {}))


def test_complex_constants_decide_nothing(control_flow):
    def make(x, f):
        turned = tf.constant(1j) * tf.constant(2 + 1j)
        return tf.cond(tf.cast(tf.raw_ops.Cast(x=turned, DstT=tf.float32), tf.bool), lambda: x * 2.0, lambda: x)

    graph_def = build(make)
    np.testing.assert_array_equal(run(folded(graph_def, {}), {"x": IMAGES}), run(graph_def, {"x": IMAGES}))
