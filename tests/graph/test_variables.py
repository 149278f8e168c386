"""Which variables belong to a model, how they are chosen by name, and what they start from."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import layers
from tfxfer.graph.variables import aliases, global_step, glorot_uniform, model_variable, model_variables, seed_for
from tfxfer.models import autoencoder, heads

CLASSIFIER = [
    "conv1/kernel",
    "conv1/bias",
    "conv2/kernel",
    "conv2/bias",
    "fc1/kernel",
    "fc1/bias",
    "logits/kernel",
    "logits/bias",
]


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def classifier(**options):
    images = tf.placeholder(tf.uint8, [None, 28, 28, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[20], classes=10, **options)
    return images, labels, logits


def op_names(variables):
    return [variable.op.name for variable in variables]


def some(*names, use_resource=True):
    for name in names:
        tf.get_variable(name, [2], use_resource=use_resource)


# Choosing.


def test_a_pattern_matches_whole_names_in_the_order_in_which_variables_were_made():
    classifier()
    assert op_names(tx.select(".*")) == CLASSIFIER
    assert op_names(tx.select("conv.*")) == CLASSIFIER[:4]
    assert op_names(tx.select("logits/.*", ".*/bias")) == ["conv1/bias", "conv2/bias", "fc1/bias", *CLASSIFIER[6:]]
    assert op_names(tx.select("fc1/kernel")) == ["fc1/kernel"]
    with pytest.raises(SelectionError, match=r"'conv' +nearest: conv"):
        tx.select("conv")


@pytest.mark.parametrize("use_resource", [True, False])
def test_conv1_never_takes_conv10(use_resource):
    some("conv1/kernel", "conv10/kernel", "my_conv1/kernel", "conv1/kernel_norm", use_resource=use_resource)
    assert op_names(tx.select("conv1/.*")) == ["conv1/kernel", "conv1/kernel_norm"]
    assert op_names(tx.select("conv1/kernel")) == ["conv1/kernel"]


def test_a_pattern_does_not_see_the_output_number():
    some("w")
    with pytest.raises(SelectionError, match="nearest: w"):
        tx.select("w:0")


def test_exclude_takes_out_what_it_matches():
    classifier()
    assert op_names(tx.select(".*", exclude=".*/bias")) == CLASSIFIER[::2]
    assert op_names(tx.select(".*", exclude=[".*/bias", "conv.*"])) == ["fc1/kernel", "logits/kernel"]


def test_nothing_asked_for_is_nothing_chosen():
    classifier()
    assert tx.select() == []


def test_among_says_what_there_is_to_choose_from():
    images, labels, logits = classifier()
    step = tx.train_step(images, labels, logits, train=tx.select("fc1/.*"))
    assert op_names(tx.select("fc1/kernel/.*", among=step.slots)) == ["fc1/kernel/Adam", "fc1/kernel/Adam_1"]
    assert op_names(tx.select("global_step", among=tf.global_variables())) == ["global_step"]


def test_every_pattern_that_matches_nothing_is_named_with_the_nearest_names():
    classifier()
    message = (
        "2 of the patterns match none of the 8 variables:\n"
        "  'fc6/kernel'    nearest: fc1/kernel, conv2/kernel, conv1/kernel\n"
        "  'logit/bias'    nearest: logits/bias, conv2/bias, conv1/bias\n"
        "a pattern must match a whole name, as in 'conv1/.*' or '.*/kernel'"
    )
    with pytest.raises(SelectionError, match=re.escape(message)):
        tx.select("conv.*", "fc6/kernel", exclude="logit/bias")


def test_a_pattern_that_is_no_regular_expression_is_refused():
    classifier()
    with pytest.raises(SelectionError, match=re.escape("'conv(' is not a regular expression: missing )")):
        tx.select("conv(")


def test_exclude_that_leaves_nothing_is_refused():
    classifier()
    message = "`exclude` (.*) leaves nothing of the 4 names that conv.* matches"
    with pytest.raises(SelectionError, match=re.escape(message)):
        tx.select("conv.*", exclude=".*")


def test_a_graph_without_variables_says_so():
    with pytest.raises(SelectionError, match="matches nothing: the list of variables to choose from is empty"):
        tx.select("conv.*")


# What belongs to a model.


def test_slots_and_global_step_are_not_the_models(graph):
    images, labels, logits = classifier(dropout=0.5)
    step = tx.train_step(images, labels, logits, train=tx.select("logits/.*"), optimizer=tf.train.AdamOptimizer)
    assert op_names(step.slots) == [
        "beta1_power",
        "beta2_power",
        "logits/bias/Adam",
        "logits/bias/Adam_1",
        "logits/kernel/Adam",
        "logits/kernel/Adam_1",
    ]
    assert sorted(op_names(tf.global_variables())) == sorted([*CLASSIFIER, "global_step", *op_names(step.slots)])
    assert op_names(model_variables()) == CLASSIFIER
    assert op_names(tx.select(".*")) == CLASSIFIER
    with tf.Graph().as_default():
        assert op_names(model_variables(graph)) == CLASSIFIER


def test_moving_statistics_belong_to_the_model_though_nobody_trains_them():
    layers.batch_norm(tf.zeros([2, 3]), "norm")
    assert op_names(tx.select(".*")) == ["norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance"]
    assert op_names(tf.trainable_variables()) == ["norm/gamma", "norm/beta"]


def test_name_scopes_stay_out_of_variable_names_and_variable_scopes_enter_them():
    with tf.name_scope("ENCODER"):
        layers.dense(tf.zeros([1, 3]), 2, "fc1")
        with tf.variable_scope("student"):
            layers.dense(tf.zeros([1, 3]), 2, "fc1")
    assert op_names(model_variables()) == ["fc1/kernel", "fc1/bias", "student/fc1/kernel", "student/fc1/bias"]


@pytest.mark.parametrize("use_resource", [True, False])
def test_a_graph_of_raw_get_variable_can_be_chosen_from_and_trained(use_resource):
    images = tf.placeholder(tf.float32, [None, 2, 2, 1])
    labels = tf.placeholder(tf.int64, [None])
    with tf.variable_scope("conv", use_resource=use_resource):
        weights = tf.get_variable("weights", [4, 3])
        biases = tf.get_variable("biases", [3], initializer=tf.zeros_initializer())
        tf.get_variable("counter", [], tf.int64, tf.zeros_initializer(), trainable=False)
    logits = tf.matmul(tf.reshape(images, [-1, 4]), weights) + biases
    assert op_names(tx.select(".*")) == ["conv/weights", "conv/biases"]
    kinds = {type(variable).__name__ for variable in tx.select(".*")}
    assert kinds == ({"ResourceVariable"} if use_resource else {"RefVariable"})
    step = tx.train_step(images, labels, logits, train=tx.select(".*/biases"), learning_rate=0.1)
    with tx.session() as sess:
        before = sess.run([weights, biases])
        sess.run(step.stages[0].apply, {images: np.ones([5, 2, 2, 1]), labels: np.ones(5, np.int64)})
        after = sess.run([weights, biases])
    assert before[0].tobytes() == after[0].tobytes()
    np.testing.assert_allclose(np.abs(after[1]), 0.1, rtol=1e-4)


def test_variables_made_as_references_are_chosen_by_the_same_names():
    tf.disable_resource_variables()
    try:
        some("a/w", use_resource=None)
        tf.Variable([1.0], name="Variable")
        tf.Variable([1.0], name="Variable")
        assert {type(variable).__name__ for variable in tf.global_variables()} == {"RefVariable"}
        assert op_names(tx.select("Variable.*")) == ["Variable", "Variable_1"]
        assert op_names(tx.select(".*")) == ["a/w", "Variable", "Variable_1"]
        layers.dense(tf.zeros([1, 2]), 2, "fc")
        assert op_names(tx.select("fc/.*")) == ["fc/kernel", "fc/bias"]
    finally:
        tf.enable_resource_variables()


# The step of training.


def test_global_step_is_made_once():
    assert global_step() is global_step()
    assert global_step() is tf.train.get_global_step()
    assert op_names(tf.global_variables()) == ["global_step"]


@pytest.mark.parametrize("use_resource", [True, False])
def test_a_variable_of_the_users_own_named_global_step_counts_the_steps_and_is_not_the_models(use_resource):
    some("w")
    own = tf.Variable(0, name="global_step", use_resource=use_resource)
    assert global_step() is own
    assert op_names(tx.select(".*")) == ["w"]
    images = tf.placeholder(tf.float32, [None, 1, 1, 1])
    loss = tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)[0][0] * images[:, 0, 0, 0]
    step = tx.train_step(images, None, loss, loss=loss, train=tx.select("w"))
    assert step.global_step is own
    with tx.session() as sess:
        for _ in range(3):
            sess.run(step.stages[0].apply, {images: [[[[1.0]]]]})
        assert sess.run(own) == 3


# Initial values.


def values_of(build, seed=None):
    """Return what the variables of a graph of its own start from, by name."""
    with tf.Graph().as_default():
        if seed is not None:
            tf.set_random_seed(seed)
        build()
        with tx.session() as sess:
            return dict(zip(op_names(tf.global_variables()), sess.run(tf.global_variables()), strict=True))


def test_initial_values_depend_on_the_seed_and_the_name_alone():
    def alone():
        layers.conv2d(tf.zeros([1, 8, 8, 3]), 4, 3, "conv2")

    def amid_others():
        tf.get_variable("other", [3])
        x = layers.conv2d(tf.zeros([1, 8, 8, 3]), 3, 3, "conv1")
        with tf.name_scope("ENCODER"):
            layers.conv2d(layers.dropout(x, 0.5, "drop"), 4, 3, "conv2")

    def as_conv3():
        layers.conv2d(tf.zeros([1, 8, 8, 3]), 4, 3, "conv3")

    kernel = values_of(alone, seed=5)["conv2/kernel"]
    assert np.array_equal(values_of(alone, seed=5)["conv2/kernel"], kernel)
    assert np.array_equal(values_of(amid_others, seed=5)["conv2/kernel"], kernel)
    assert not np.isclose(values_of(alone, seed=6)["conv2/kernel"], kernel).any()
    assert not np.isclose(values_of(as_conv3, seed=5)["conv3/kernel"], kernel).any()


def test_a_graph_without_a_seed_has_seed_0():
    assert np.array_equal(values_of(classifier)["conv1/kernel"], values_of(classifier, seed=0)["conv1/kernel"])


def test_initial_values_stay_the_same_in_every_version():
    # What README and checkpoints/README.md state rests on these: never change them.
    golden = {
        (None, "conv1/kernel"): [0.0631634, 0.11743446, 0.030656904, 0.098445877],
        (None, "conv2/kernel"): [0.0010507032, -0.048659481, -0.0067673028, -0.015568677],
        (7, "conv1/kernel"): [-0.0054154471, 0.070574865, -0.10675725, 0.0062462091],
        (7, "conv2/kernel"): [0.030188218, 0.063820727, -0.053410057, 0.015385874],
    }
    for (seed, name), first in golden.items():
        values = values_of(classifier, seed=seed)
        np.testing.assert_allclose(values[name].ravel()[:4], first, rtol=1e-6)
        assert not values["conv1/bias"].any()


def test_the_key_of_a_name_is_the_graphs_seed_and_its_crc32():
    assert seed_for("123456789") == [0, 0xCBF43926]
    tf.set_random_seed(12)
    assert seed_for("123456789") == [12, 0xCBF43926]


@pytest.mark.parametrize(("shape", "fans"), [((300, 200), 500), ((5, 5, 16, 32), 25 * 48), ((3, 4, 8, 8), 12 * 16)])
def test_kernels_start_uniform_within_the_limits_of_glorot(shape, fans):
    def build():
        with tf.variable_scope("layer"):
            model_variable("kernel", shape, glorot_uniform)

    kernel = values_of(build)["layer/kernel"]
    limit = math.sqrt(6 / fans)
    assert kernel.dtype == np.float32
    assert kernel.shape == shape
    assert np.abs(kernel).max() <= limit
    assert np.abs(kernel).max() > 0.99 * limit
    assert abs(kernel.mean()) < 0.05 * limit
    assert kernel.var() == pytest.approx(limit**2 / 3, rel=0.1)


# What a network reads, whatever made it.


def normed(x, resource=True, fused=False, collections=None):
    """A batch normalisation of raw variables, as TensorFlow 1 code wrote it."""
    with tf.variable_scope("bn", use_resource=resource):
        shape = [x.shape[-1]]
        gamma = tf.get_variable("gamma", shape, initializer=tf.ones_initializer())
        beta = tf.get_variable("beta", shape, initializer=tf.zeros_initializer())
        mean, variance = (
            tf.get_variable(name, shape, initializer=start, trainable=False, collections=collections)
            for name, start in (("mean", tf.zeros_initializer()), ("variance", tf.ones_initializer()))
        )
    batch = tf.nn.moments(x, list(range(x.shape.rank - 1)))
    for moving, now in zip((mean, variance), batch, strict=True):
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.assign_sub(moving, 0.1 * (moving - now)))
    if fused:
        return tf.nn.fused_batch_norm(x, gamma, beta, mean, variance, is_training=False)[0]
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


BN = ["bn/gamma", "bn/beta", "bn/mean", "bn/variance"]


@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("optimizer", [tf.train.AdamOptimizer, tf.train.MomentumOptimizer, tf.train.RMSPropOptimizer])
def test_statistics_of_plain_tensorflow_belong_and_all_that_training_keeps_does_not(resource, optimizer):
    images, labels = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int64, [None])
    logits = normed(images, resource)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    step = tf.train.get_or_create_global_step()
    with tf.variable_scope("", use_resource=resource):
        rate = tf.get_variable("rate", [], trainable=False) * tf.train.exponential_decay(1.0, step, 10, 0.5)
    trained = {"momentum": 0.9} if optimizer is tf.train.MomentumOptimizer else {}
    with tf.control_dependencies([optimizer(rate, **trained).minimize(loss, global_step=step)]):
        tf.train.ExponentialMovingAverage(0.9, step, zero_debias=True).apply(tf.trainable_variables())
    tf.get_variable("rounds", [], tf.int32, tf.zeros_initializer(), use_resource=resource).assign_add(1)
    assert "rounds" in op_names(tf.trainable_variables())
    accuracy, _ = tf.metrics.accuracy(labels, tf.argmax(logits, 1))
    tf.summary.scalar("accuracy", accuracy)
    tf.summary.scalar("rate", rate)
    tf.train.Saver()
    assert len(tf.global_variables()) + len(tf.local_variables()) > 12
    assert op_names(tx.select(".*")) == BN


@pytest.mark.parametrize("collection", [tf.GraphKeys.LOCAL_VARIABLES, "mine", None])
@pytest.mark.parametrize("resource", [True, False])
def test_what_is_read_belongs_whatever_collection_lists_it_or_none_and_is_initialised(collection, resource):
    x = tf.placeholder(tf.float32, [None, 3])
    y = normed(x, resource, collections=[collection] if collection else [])
    assert op_names(tx.select(".*")) == BN
    with tx.session() as sess:
        np.testing.assert_allclose(sess.run(y, {x: [[1, 2, 3]]}), [[1, 2, 3]], rtol=1e-3)


def conditional(x, w):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: x * w, lambda: x)


def looped(x, w):
    return tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, y * w), [0, x])[1]


@pytest.mark.parametrize(
    "read",
    [
        conditional,
        looped,
        lambda x, w: tf.function(lambda x: x * w)(x),
        lambda x, w: tf.gather(w, tf.cast(x, tf.int32)),
        lambda x, w: x * tf.nn.l2_normalize(w),
    ],
)
@pytest.mark.parametrize("resource", [True, False])
@pytest.mark.parametrize("v2", [True, False])
def test_what_is_read_in_branches_loops_and_functions_belongs(read, resource, v2):
    (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
    try:
        w = tf.get_variable("w", [3], trainable=False, use_resource=resource)
        tf.get_variable("unread", [3], trainable=False, use_resource=resource)
        read(tf.placeholder(tf.float32, [None, 3]), w)
        assert op_names(tx.select(".*")) == ["w"]
    finally:
        tf.enable_control_flow_v2()


@pytest.mark.parametrize("v2", [True, False])
def test_slots_of_an_optimizer_within_a_branch_do_not_belong(v2):
    (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
    try:
        x = tf.placeholder(tf.float32, [None, 3])
        w = tf.get_variable("w", [3])
        loss = tf.reduce_mean(x * w)
        optimizer, (gradient,) = tf.train.AdamOptimizer(), tf.gradients(loss, [w])
        total = tf.get_variable("total", [3], trainable=False)
        total.assign_add(gradient)
        apply = lambda: tf.group(optimizer.apply_gradients([(total, w)])) and tf.constant(True)  # noqa: E731
        tf.cond(tf.placeholder(tf.bool, []), apply, lambda: tf.constant(False))
        assert len(tf.global_variables()) > 4
        assert op_names(tx.select(".*")) == ["w"]
    finally:
        tf.enable_control_flow_v2()


def test_an_average_that_a_network_computes_with_belongs():
    w = tf.get_variable("w", [3])
    average = tf.train.ExponentialMovingAverage(0.9)
    average.apply([w])
    assert op_names(tx.select(".*")) == ["w"]
    tf.placeholder(tf.float32, [None, 3]) * average.average(w)
    assert op_names(tx.select(".*")) == ["w", "w/ExponentialMovingAverage"]


def test_outputs_choose_among_what_they_read():
    x = tf.placeholder(tf.float32, [None, 3])
    y = normed(x)
    z = y * tf.get_variable("head", [3])
    assert op_names(tx.select(".*", outputs=[y])) == BN
    assert op_names(tx.select(".*", outputs=[z])) == [*BN, "head"]


@pytest.mark.parametrize("resource", [True, False])
def test_variables_of_an_imported_graph_without_collections_are_wrapped_and_can_be_restored(resource):
    with tf.Graph().as_default() as source:
        normed(tf.placeholder(tf.float32, [None, 3], "x"), resource)
        tf.train.AdamOptimizer().minimize(tf.reduce_sum(source.get_tensor_by_name("batchnorm/add_1:0"), name="sum"))
    tf.import_graph_def(source.as_graph_def(), name="")
    arrays = {name: np.full(3, number + 2, np.float32) for number, name in enumerate(BN)}
    graph = tf.get_default_graph()
    count = len(graph.get_operations())
    chosen = tx.select(".*", outputs=[graph.get_tensor_by_name("sum:0")])
    assert op_names(chosen) == BN
    assert [v.op.name for v in tx.select(".*")] == BN
    with tf.Session() as sess:
        for variable in chosen:
            sess.run(variable.initializer, {variable.initializer.inputs[1]: arrays[variable.op.name]})
        assert {v.op.name: sess.run(v).tolist() for v in chosen} == {n: a.tolist() for n, a in arrays.items()}
    assert len(graph.get_operations()) == count


def test_what_nothing_can_be_restored_to_is_refused_by_name():
    handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[3], shared_name="lost", name="lost")
    tf.placeholder(tf.float32, [3]) * tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
    with pytest.raises(GraphError, match=r"the network reads lost, which no collection of the graph lists and which"):
        tx.select(".*")


def test_without_a_graph_the_message_says_so():
    # What the default graph is, and whether there is one, each thread has for itself.
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(tx.select, ".*").exception()
    assert isinstance(error, SelectionError)
    assert "TensorFlow executes eagerly here and builds no graph: build the network, and choose" in str(error)


def test_what_is_not_a_pattern_is_refused():
    with pytest.raises(SelectionError, match=r"select wants regular expressions.* and got: list"):
        tx.select(["conv.*"])


def test_variables_of_one_memory_are_told_by_name():
    with tf.Graph().as_default() as source:
        tf.get_variable("w", [2], use_resource=True)
        tf.get_variable("v", [2], use_resource=True)
        meta = tf.train.export_meta_graph(graph=source)
    for scope in ("one", "two"):
        tf.train.import_meta_graph(meta, import_scope=scope)
    some("alone")
    assert aliases(variable.op for variable in tf.global_variables()) == {
        "one/w": ["two/w"],
        "two/w": ["one/w"],
        "one/v": ["two/v"],
        "two/v": ["one/v"],
    }
