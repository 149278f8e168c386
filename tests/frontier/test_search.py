"""The frontier: which tensors can be computed once for each picture, and that nothing else is taken for one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError
from tfxfer.frontier.search import find, frontier
from tfxfer.graph import layers
from tfxfer.models import autoencoder, heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def placeholders(dtype=tf.float32):
    return tf.placeholder(dtype, [None, 8, 8, 1], name="images"), tf.placeholder(tf.int64, [None])


def fed_behind(between, *trained):  # much quicker to build than a whole train_step
    """Return what feeds a step that trains a kernel on frozen `features`, with something between the two."""
    images = tf.placeholder(tf.float32, [None, 4, 4, 1], name="images")
    conv = tf.nn.conv2d(images, tf.get_variable("conv", [2, 2, 1, 2]), 2, "SAME")
    features = tf.reshape(tf.nn.relu(conv), [-1, 8], name="features")
    logits = tf.matmul(between(features), tf.get_variable("kernel", [8, 1]))
    chosen = [v for v in tf.global_variables() if v.op.name in ("kernel", *trained)]
    step = tf.train.GradientDescentOptimizer(1.0).minimize(tf.reduce_mean(logits), var_list=chosen)
    return [tensor.name for tensor in find(images, [step]).tensors]


def fed(step, stage=0):
    return [tensor.name for tensor in frontier(step, step.stages[stage]).tensors]


def kinds(found):
    return {op.type for op in found.frozen}


# Our own graphs.


def encoded():
    images, labels = placeholders(tf.uint8)
    return images, labels, autoencoder.encoder(images)


def test_the_head_of_a_classifier_is_fed_with_the_flat_output_of_its_convolutions():
    images, labels, ends = encoded()
    logits = heads.classifier(ends["flatten"], hidden=[5], classes=3, dropout=0.5)
    step = tx.train_step(images, labels, logits, train=tx.select("fc.*", "logits/.*"))
    found = frontier(step, step.stages[0])
    assert [tensor.name for tensor in found.tensors] == [ends["flatten"].name]
    assert {"Cast", "Conv2D", "BiasAdd", "Relu", "Reshape"} <= kinds(found)


def test_each_stage_has_its_own_frontier():
    images, labels, ends = encoded()
    logits = heads.classifier(ends["flatten"], classes=3)
    joining = ("logits/.*", "conv2/bias", "conv2/kernel", "conv1/.*")
    stages = [tx.Stage(epoch, tx.select(pattern)) for epoch, pattern in enumerate(joining)]
    step = tx.train_step(images, labels, logits, stages=stages)
    assert fed(step, 0) == [ends["flatten"].name]
    # The bias alone is trained: the convolution before it is still frozen.
    assert fed(step, 1) == [ends["conv2"].op.inputs[0].op.inputs[0].name]
    assert fed(step, 2) == [ends["conv1"].name]
    assert fed(step, 3) == ["images:0"]


def test_an_autoencoder_takes_the_images_themselves_for_its_loss():
    images, _ = placeholders(tf.uint8)
    ends = autoencoder.autoencoder(images)
    step = tx.train_step(images, None, ends["loss"], loss=ends["loss"], train=tx.select("fc.*", "latent/.*", "de.*"))
    assert fed(step) == ["images:0", ends["flatten"].name]


def test_a_mask_that_is_drawn_anew_each_step_leaves_nothing_frozen():
    images, _ = placeholders(tf.uint8)
    ends = autoencoder.autoencoder(images, mask=0.5)
    step = tx.train_step(images, None, ends["loss"], loss=ends["loss"], train=tx.select("fc.*", "latent/.*", "de.*"))
    assert fed(step) == ["images:0"]


def test_dropout_before_a_frozen_layer_is_run_in_each_step():
    images, labels = placeholders()
    x = layers.dropout(layers.conv2d(images, 2, 3, "conv1"), 0.5, "dropout")
    logits = heads.classifier(layers.conv2d(x, 2, 3, "conv2"), classes=3)
    step = tx.train_step(images, labels, logits, train=tx.select("logits/.*"))
    assert fed(step) == ["conv1/Relu:0"]


@pytest.mark.parametrize(
    ("trained", "expected"),
    [("logits/.*", "norm/batchnorm/add_1:0"), ("norm/gamma", "features:0"), ("norm/beta", "features:0")],
)
def test_a_batch_normalisation_is_run_in_each_step_only_where_its_statistics_move(trained, expected):
    images, labels = placeholders()
    features = tf.identity(layers.conv2d(images, 2, 3, "conv"), name="features")
    logits = heads.classifier(layers.conv2d(layers.batch_norm(features, "norm"), 2, 1, "after"), classes=3)
    chosen = tx.select("logits/.*", "after/.*", trained)
    assert fed(tx.train_step(images, labels, logits, train=chosen)) == [expected]


def test_what_depends_on_a_label_is_run_in_each_step():
    images, labels = placeholders()
    features = layers.flatten(layers.conv2d(images, 2, 3, "conv"))
    frozen = tf.nn.relu(features * tf.cast(labels, tf.float32)[:, None])
    step = tx.train_step(images, labels, heads.classifier(frozen, classes=3), train=tx.select("logits/.*"))
    assert fed(step) == ["flatten:0"]


def test_what_depends_on_another_placeholder_is_run_in_each_step():
    rate = tf.placeholder(tf.float32, [])
    assert fed_behind(lambda x: tf.nn.relu(x * rate)) == ["features:0"]


def test_a_placeholder_that_keeps_its_default_is_a_constant():
    rate = tf.placeholder_with_default(1.0, [])
    assert fed_behind(lambda x: tf.nn.relu(x * rate, name="scaled")) == ["scaled:0"]


# Shapes, and tensors that are not of single examples.


def test_the_shape_of_a_stored_tensor_is_left_to_the_step():
    assert fed_behind(lambda x: layers.dropout(x, 0.5, "dropout") + tf.ones([tf.shape(x)[0], 8])) == ["features:0"]


def test_the_shape_of_the_images_is_got_from_the_images():
    images, labels = placeholders()
    features = layers.flatten(layers.conv2d(images, 2, 3, "conv"))
    weight = tf.get_variable("weight", [1, 3])
    logits = heads.classifier(features, classes=3) + tf.tile(weight, [tf.shape(images)[0], 1])
    step = tx.train_step(images, labels, logits, train=tx.select("logits/.*", "weight"))
    assert fed(step) == ["images:0", "flatten:0"]


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: x - tf.reduce_mean(x, axis=0),
        lambda x: x / tf.reduce_max(x),
        lambda x: tf.nn.relu(x * x[0]),
        lambda x: tf.nn.batch_normalization(x, *tf.nn.moments(x, [0]), None, None, 1e-3),
        lambda x: tf.nn.fused_batch_norm(tf.nn.relu(x[:, None, None], "near"), tf.ones([8]), tf.ones([8]))[0][:, 0, 0],
    ],
    ids=["mean", "maximum", "first example", "moments", "fused"],
)
def test_what_depends_on_the_other_examples_of_a_batch_is_run_in_each_step(mixed):
    assert fed_behind(lambda x: tf.nn.relu(mixed(tf.nn.relu(x, "before")))) in (["before:0"], ["near:0"])


def test_a_fixed_batch_size_is_refused():
    images = tf.placeholder(tf.float32, [32, 4], name="images")
    message = r"images:0 has the shape \(32, 4\); its first dimension must be None, for any batch"
    with pytest.raises(GraphError, match=message):
        find(images, [tf.square(images).op])


def test_nothing_is_stored_that_can_be_got_from_what_is_stored_at_no_cost():
    assert fed_behind(lambda x: x * tf.get_variable("scale", [8]) + 2 * tf.reverse(x, [1]), "scale") == ["features:0"]


def test_a_control_dependency_on_the_frozen_part_is_refused_by_name():
    def between(x):
        with tf.control_dependencies([x]):
            return tf.nn.relu(tf.identity(x)) * tf.identity(tf.get_variable("scale", [8]), name="late")

    with pytest.raises(GraphError, match=r"  late/\w+ has a control dependency on features\n.*or train from images"):
        fed_behind(between, "scale")


# What changes from step to step.

UNSTABLE = {
    "uniform": lambda x: x + tf.random.uniform([8]),
    "uniform with a seed": lambda x: x + tf.random.uniform([8], seed=1),
    "normal": lambda x: x + tf.random.normal(tf.shape(x)),
    "shuffle": tf.random.shuffle,
    "stateless uniform": lambda x: x + tf.random.stateless_uniform([8], [1, 2]),
    "stateless normal": lambda x: x + tf.random.stateless_normal([8], [1, 2]),
    "stateless truncated normal": lambda x: x + tf.random.stateless_truncated_normal([8], [1, 2]),
    "stateless gamma": lambda x: x + tf.random.stateless_gamma([8], [1, 2], 1.0),
    "dropout": lambda x: tf.nn.dropout(x, rate=0.5),
    "brightness": lambda x: tf.image.random_brightness(x, 0.1),
    "py_function": lambda x: tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.float32), [None, 8]),
    "numpy_function": lambda x: tf.ensure_shape(tf.numpy_function(lambda y: y, [x], tf.float32), [None, 8]),
    "stateless numpy_function": lambda x: tf.ensure_shape(
        tf.numpy_function(lambda y: y, [x], tf.float32, stateful=False), [None, 8]
    ),
    "mapped": lambda x: tf.map_fn(tf.nn.relu, x),  # It gathers examples one by one, which is not proved.
    "Print": lambda x: tf.Print(x, [x]),
    "trained": lambda x: x + tf.reduce_mean(tf.get_variable("scale", [3])),
    "trained reference": lambda x: x + tf.reduce_mean(tf.get_variable("scale", [3], use_resource=False)),
    "gathered": lambda x: x + tf.gather(tf.get_variable("scale", [3], use_resource=True), 1),
}
STABLE = {
    "frozen": lambda x: x * tf.get_variable("frozen", [8]),
    "frozen reference": lambda x: x * tf.get_variable("frozen", [8], use_resource=False),
    "gathered": lambda x: x * tf.gather(tf.get_variable("frozen", [3]), 1),
    "fused batch norm": lambda x: tf.reshape(
        tf.nn.fused_batch_norm(x[:, None, None], *tf.unstack(tf.get_variable("frozen", [4, 8])), is_training=False)[0],
        [-1, 8],
    ),
    "checked": lambda x: tf.debugging.check_numerics(x, "not finite"),
    "chosen": lambda x: tf.cond(tf.placeholder_with_default(True, []), lambda: x * 2, lambda: x),
    "called": lambda x: tf.function(lambda y: y * 2, autograph=False)(x),
}


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("name", UNSTABLE)
def test_what_may_differ_from_step_to_step_is_run_in_each(control_flow, name):
    assert fed_behind(lambda x: tf.nn.relu(UNSTABLE[name](x)), "scale") == ["features:0"]


@pytest.mark.parametrize("name", STABLE)
def test_what_gives_the_same_each_time_is_computed_once(control_flow, name):
    assert fed_behind(lambda x: tf.identity(STABLE[name](x), "after")) == ["after:0"]


def test_what_waits_for_a_check_is_computed_once():
    def between(x):
        with tf.control_dependencies([tf.debugging.assert_less(x, 1e9)]):
            return tf.identity(x, "after")

    assert fed_behind(between) == ["after:0"]


def test_what_waits_for_something_to_be_printed_is_run_in_each_step():
    def between(x):
        with tf.control_dependencies([tf.print("here")]):
            return tf.nn.relu(tf.identity(x))

    assert fed_behind(between) == ["features:0"]


@pytest.mark.parametrize("use_resource", [True, False])
def test_a_variable_that_the_graph_itself_writes_counts_as_written(use_resource):
    """A batch normalisation of raw ops whose moving mean is assigned whenever its output is computed."""

    def between(x):
        moving = tf.get_variable("moving", [8], trainable=False, use_resource=use_resource)
        frozen = tf.nn.relu(x - moving.read_value())
        with tf.control_dependencies([tf.assign_sub(moving, 0.1 * (moving - tf.reduce_mean(x, axis=0)))]):
            return tf.nn.relu(frozen)

    assert fed_behind(between) == ["features:0"]


@pytest.mark.parametrize("use_resource", [True, False])
def test_what_waits_for_a_variable_to_be_written_is_run_in_each_step(use_resource):
    """Else the variable would not be written any more."""

    def between(x):
        calls = tf.get_variable("calls", [], trainable=False, use_resource=use_resource)
        with tf.control_dependencies([tf.group(tf.assign_add(calls, 1.0))]):
            return tf.nn.relu(tf.identity(x))

    assert fed_behind(between) == ["features:0"]


# Functions, conditionals and loops.


def chosen(x, branch):
    return tf.cond(tf.placeholder_with_default(True, []), lambda: branch(x), lambda: x)


def looped(x, body):
    return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, body(y)), [0, x])[1]


def called(x, body):
    return tf.function(body, autograph=False)(x)


AROUND = {
    "cond": chosen,
    "loop": looped,
    "function": called,
    "cond in cond": lambda x, f: chosen(x, lambda y: chosen(y, f)),
    "cond in loop": lambda x, f: looped(x, lambda y: chosen(y, f)),
    "loop in cond": lambda x, f: chosen(x, lambda y: looped(y, f)),
    "loop in loop": lambda x, f: looped(x, lambda y: looped(y, f)),
    "function in cond": lambda x, f: chosen(x, lambda y: called(y, f)),
    "switch_case": lambda x, f: tf.switch_case(tf.placeholder_with_default(0, []), [lambda: f(x), lambda: x]),
}


@pytest.mark.parametrize("inner", ["uniform", "stateless uniform", "numpy_function", "variable"])
@pytest.mark.parametrize("around", AROUND)
def test_functions_are_searched_for_what_may_differ(control_flow, around, inner):
    body, trained = UNSTABLE.get(inner), []
    if inner == "variable":
        scale = tf.get_variable("scale", [])
        body, trained = lambda x: x * scale, ["scale"]
    # What is frozen within cannot be fed, and is run with the rest.
    assert fed_behind(lambda x: AROUND[around](x, lambda y: body(tf.nn.relu(y))), *trained) == ["features:0"]


@pytest.mark.parametrize("around", AROUND)
def test_functions_in_which_nothing_differs_are_computed_once(control_flow, around):
    scale = tf.get_variable("scale", [])
    assert fed_behind(lambda x: tf.identity(AROUND[around](x, lambda y: tf.nn.relu(y) * scale), "after")) == ["after:0"]


def test_a_conditional_that_writes_a_variable_makes_all_its_readers_live(control_flow):
    def between(x):
        moving = tf.get_variable("moving", [8], trainable=False, use_resource=True)
        early = tf.nn.relu(x * moving)
        with tf.control_dependencies([chosen(x, lambda y: tf.assign(moving, y[0])[None])]):
            return early + tf.identity(x)

    assert fed_behind(between) == ["features:0"]


def test_a_function_of_the_old_kind_is_searched():
    from tensorflow.python.framework import function

    @function.Defun(tf.float32)
    def draws(x):
        return x + tf.random.uniform([])

    @function.Defun(tf.float32)
    def doubles(x):
        return x * 2

    def shaped(function):
        def apply(x):
            y = function(x)
            y.set_shape(x.shape)
            return tf.identity(y, "after")

        return apply

    assert fed_behind(shaped(draws)) == ["features:0"]
    with tf.Graph().as_default():
        assert fed_behind(shaped(doubles)) == ["after:0"]


def test_a_loop_without_its_context_is_still_not_fed_from_within(control_flow):
    """A GraphDef alone does not say which ops a loop of TensorFlow 1 consists of, as a MetaGraph does."""
    with tf.Graph().as_default() as source:
        x = tf.placeholder(tf.float32, [None, 8], name="x")
        chosen(
            looped(x, lambda y: tf.nn.relu(y) + tf.random.uniform([])), lambda y: tf.nn.relu(y) + tf.random.uniform([])
        )
        last = source.get_operations()[-1].outputs[0].name

    def between(x):
        (y,) = tf.import_graph_def(source.as_graph_def(), {"x:0": x}, [last])
        return tf.ensure_shape(y, [None, 8])

    assert fed_behind(between) == ["features:0"]


def test_any_ops_can_be_fetched():
    images = tf.placeholder(tf.float32, [None, 4])
    square = tf.square(images, name="square")
    found = find(images, [square.op])
    assert [tensor.name for tensor in found.tensors] == ["square:0"]
    assert kinds(found) == {"Square"}


V1 = """
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
import tfxfer as tx
from tfxfer.graph import layers
from tfxfer.frontier.search import frontier
from tfxfer.models import autoencoder, heads

for trained in ("logits/.*", "norm/.*"):
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 1])
        labels = tf.placeholder(tf.int64, [None])
        flat = tf.identity(autoencoder.encoder(images)["flatten"], "flat")
        x = layers.batch_norm(flat, "norm")
        x = tf.cond(tf.placeholder_with_default(True, []), lambda: x * 2, lambda: x)
        logits = heads.classifier(layers.dropout(x, 0.5, "drop"), hidden=[3], classes=2, dropout=0.5)
        own = tf.get_variable("own", [2])
        assert own.dtype != tf.float32
        step = tx.train_step(images, labels, logits + own, train=tx.select("fc1/.*", "own", trained))
        print(*(tensor.name for tensor in frontier(step, step.stages[0]).tensors))
"""


def test_all_is_the_same_with_the_behaviour_of_tensorflow_1():
    done = subprocess.run([sys.executable, "-c", V1], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["cond/Merge:0", "flat:0"]


# What belongs to one example.


def test_the_reason_why_the_frozen_part_ends_is_told():
    def reason(between):
        with tf.Graph().as_default():
            images = tf.placeholder(tf.float32, [None, 8])
            features = tf.nn.relu(images, name="features")
            kernel = tf.get_variable("kernel", [8])
            step = tf.train.GradientDescentOptimizer(1.0).minimize(between(features) * kernel)
            return find(images, [step]).reasons["features:0"]

    assert reason(lambda x: x) == "mul (Mul) depends on kernel, which is written in each step"
    mean = reason(lambda x: tf.nn.relu(x - tf.reduce_mean(x, 0, name="mean")))
    assert mean.startswith("mean (Mean) reduces over the batch: it is not proved that examples do not depend on each")
