"""Losses, class weights and L2, against numpy: what gradients are of, and that metrics stay plain."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError, SelectionError
from tfxfer.frontier.search import frontier
from tfxfer.graph import layers, losses
from tfxfer.models import autoencoder, heads

RNG = np.random.default_rng(5)
IMAGES = RNG.normal(size=(12, 4, 4, 1)).astype(np.float32)
LABELS = RNG.permutation(np.repeat([0, 1, 2], [6, 5, 1]))
WEIGHTS = [0.25, 2.0, 5.5]
SGD = tf.train.GradientDescentOptimizer


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def placeholders():
    return tf.placeholder(tf.float32, [None, 4, 4, 1]), tf.placeholder(tf.int64, [None])


def linear(**options):
    """Softmax regression of 3 classes by plain gradient descent: logits/kernel and logits/bias."""
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    options = {"train": tx.select(".*"), "optimizer": SGD, "learning_rate": 1.0} | options
    return tx.train_step(images, labels, logits, **options)


def values(sess):
    variables = tx.select(".*")
    return dict(zip([v.op.name for v in variables], sess.run(variables), strict=True))


def change(sess, step, stage=0, labels=LABELS):
    """Return how one step changes each variable: at a rate of 1, minus the gradient."""
    before = values(sess)
    feeds = {step.images: IMAGES, step.labels: labels} | dict(step.stages[stage].feeds)
    sess.run(step.stages[stage].apply, feeds)
    after = values(sess)
    return before, {name: after[name].astype(np.float64) - before[name] for name in before}


def softmax_gradients(kernel, bias, weights=(1, 1, 1)):
    """The gradients of softmax regression's sum(weight * loss) / batch, by hand."""
    x = IMAGES.reshape(12, 16).astype(np.float64)
    odds = np.exp(x @ kernel + bias)
    error = odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[LABELS]
    error *= np.asarray(weights, np.float64)[LABELS][:, None] / 12
    return x.T @ error, error.sum(axis=0)


# L2.


@pytest.mark.parametrize("l2", [1e-3, 0.5])
def test_the_gradient_of_a_kernel_is_that_of_the_loss_plus_l2_times_the_kernel_and_a_biass_is_plain(l2):
    step = linear(l2=l2)
    with tx.session() as sess:
        before, moved = change(sess, step)
    by_kernel, by_bias = softmax_gradients(before["logits/kernel"], before["logits/bias"])
    np.testing.assert_allclose(moved["logits/kernel"], -(by_kernel + l2 * before["logits/kernel"]), atol=2e-6)
    np.testing.assert_allclose(moved["logits/bias"], -by_bias, atol=1e-6)
    assert np.abs(l2 * before["logits/kernel"]).max() > 1e-4


def test_l2_is_the_gradient_of_half_the_sum_of_squares():
    kernel = tf.get_variable("kernel", [3, 2], initializer=tf.ones_initializer())
    by_hand = tf.gradients(0.3 * tf.reduce_sum(tf.square(kernel)) / 2, [kernel])
    ours = losses.with_l2([tf.zeros([3, 2])], [kernel], 0.3)
    with tx.session() as sess:
        np.testing.assert_allclose(*sess.run([by_hand[0], ours[0]]), rtol=1e-6)


def norms_and_convolutions(**options):
    images, labels = placeholders()
    x = layers.batch_norm(layers.conv2d(images, 2, 3, "conv1"), "norm")
    logits = heads.classifier(layers.conv2d(x, 2, 3, "conv2"), classes=3)
    options = {key: value() if key in ("train", "stages") else value for key, value in options.items()}
    return tx.train_step(images, labels, logits, optimizer=SGD, learning_rate=1.0, **options)


def test_each_stage_pulls_the_kernels_that_it_trains_and_no_bias_no_norm_and_nothing_frozen():
    def stages():
        joining = (["logits/.*", "norm/gamma", "norm/beta"], ["conv2/.*"])
        return [tx.Stage(epoch, tx.select(*patterns)) for epoch, patterns in enumerate(joining)]

    pulled = []
    for stage in (0, 1):
        moves = []
        for l2 in (0.0, 0.25):
            with tf.Graph().as_default():
                step = norms_and_convolutions(stages=stages, l2=l2)
                with tx.session() as sess:
                    before, moved = change(sess, step, stage)
                    moves.append(moved)
        differ = {name for name in before if not np.array_equal(moves[0][name], moves[1][name])}
        for name in differ:
            np.testing.assert_allclose(moves[1][name] - moves[0][name], -0.25 * before[name], atol=1e-6)
        pulled.append(differ)
    assert pulled == [{"logits/kernel"}, {"logits/kernel", "conv2/kernel"}]


def test_the_loss_that_is_shown_stays_the_plain_one():
    feeds, shown = None, []
    for options in ({}, {"l2": 3.0}, {"class_weights": WEIGHTS}):
        with tf.Graph().as_default():
            step = linear(**options)
            feeds = {step.images: IMAGES, step.labels: LABELS}
            with tx.session() as sess:
                metrics, loss = sess.run([step.metrics, step.loss], feeds)
                summary = tf.Summary.FromString(sess.run(step.summary, feeds))
        scalars = {value.tag: value.simple_value for value in summary.value if value.HasField("simple_value")}
        assert set(metrics) == {"loss", "accuracy"}
        shown.append((metrics["loss"].tobytes(), metrics["accuracy"].tobytes(), loss, scalars["loss"]))
    assert shown[0] == shown[1] == shown[2]


def test_without_l2_and_weights_the_graph_is_the_same_to_the_op(graph):
    linear()
    plain = graph.as_graph_def()
    with tf.Graph().as_default() as other:
        linear(l2=0.0, class_weights=None)
    assert plain == other.as_graph_def()


def test_clipping_counts_l2_in():
    step = linear(l2=0.5, clip_norm=0.01)
    with tx.session() as sess:
        _, moved = change(sess, step)
    norm = np.sqrt(sum((change**2).sum() for change in moved.values()))
    assert norm == pytest.approx(0.01, rel=1e-4)


def test_a_gradient_of_a_few_rows_gets_the_pull_of_all():
    table = tf.get_variable("table", [4, 3])
    images, labels = placeholders()
    logits = tf.gather(table, labels) + 0 * layers.flatten(images)[:, :3]
    step = tx.train_step(images, labels, logits, train=[table], optimizer=SGD, learning_rate=1.0, l2=0.5)
    with tx.session() as sess:
        before = sess.run(table)
        sess.run(step.stages[0].apply, {step.images: IMAGES, step.labels: LABELS})
        np.testing.assert_allclose(sess.run(table)[3], 0.5 * before[3], rtol=1e-6)


def test_a_variable_that_the_loss_does_not_depend_on_is_still_refused():
    images, labels = placeholders()
    layers.dense(tf.zeros([1, 2]), 2, "aside")
    logits = heads.classifier(images, classes=3)
    with pytest.raises(SelectionError, match="the loss does not depend on aside/kernel, aside/bias"):
        tx.train_step(images, labels, logits, train=tx.select(".*"), l2=0.1)


@pytest.mark.parametrize("l2", [-1e-4, float("nan"), float("inf")])
def test_a_strength_that_makes_no_sense_is_refused(l2):
    with pytest.raises(GraphError, match=re.escape(f"`l2={l2}`: give a number from 0 on")):
        linear(l2=l2)


def test_l2_with_nothing_to_act_on_is_refused():
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    with pytest.raises(GraphError, match=r"`l2=0.1` has nothing to act on: no variable of rank 2 or more is trained"):
        tx.train_step(images, labels, logits, train=tx.select(".*/bias"), l2=0.1)


# Class weights.


def test_the_gradient_is_that_of_the_sum_of_weighted_losses_over_the_batch():
    step = linear(class_weights=WEIGHTS)
    assert step.class_weights == tuple(WEIGHTS)
    with tx.session() as sess:
        before, moved = change(sess, step)
    by_kernel, by_bias = softmax_gradients(before["logits/kernel"], before["logits/bias"], WEIGHTS)
    np.testing.assert_allclose(moved["logits/kernel"], -by_kernel, atol=2e-6)
    np.testing.assert_allclose(moved["logits/bias"], -by_bias, atol=2e-6)


def test_equal_weights_of_one_change_nothing():
    moves = []
    for weights in (None, np.ones(3)):
        with tf.Graph().as_default():
            step = linear(class_weights=weights)
            with tx.session() as sess:
                moves.append(change(sess, step)[1])
    for name, moved in moves[0].items():
        np.testing.assert_allclose(moves[1][name], moved, atol=1e-7)


def test_what_is_made_small_is_what_keras_makes_small():
    """Keras 3, by its own loss with sample weights, of the same outputs."""
    import keras

    step = linear(class_weights=WEIGHTS)
    kernel, bias = RNG.normal(size=(16, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    with tx.session() as sess:
        for variable, value in zip(tx.select(".*"), (kernel, bias), strict=True):
            sess.run(variable.initializer, {variable.initializer.inputs[1]: value})
        objective = step.images.graph.get_tensor_by_name("LOSS/weighted_loss:0")
        found = sess.run(objective, {step.images: IMAGES, step.labels: LABELS})
    with tf.Graph().as_default(), tf.Session() as sess:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        logits = IMAGES.reshape(12, 16) @ kernel + bias
        wanted = sess.run(loss(LABELS, logits, sample_weight=np.float32(WEIGHTS)[LABELS]))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_two_classes_under_sigmoid_take_two_weights():
    images, labels = placeholders()
    logits = heads.classifier(images, classes=2, loss="sigmoid")
    step = tx.train_step(
        *(images, labels, logits),
        train=tx.select(".*"), loss="sigmoid", class_weights=[3, 0.5], optimizer=SGD, learning_rate=1.0,
    )  # fmt: skip
    truth = LABELS % 2
    with tx.session() as sess:
        before, moved = change(sess, step, labels=truth)
    x = IMAGES.reshape(12, 16).astype(np.float64)
    second = 1 / (1 + np.exp(-(x @ before["logits/kernel"] + before["logits/bias"])[:, 0]))
    error = (second - truth) * np.where(truth == 1, 0.5, 3) / 12
    np.testing.assert_allclose(moved["logits/kernel"][:, 0], -(x.T @ error), atol=1e-6)


def test_a_class_that_weighs_nothing_teaches_nothing():
    step = linear(class_weights=[0, 0, 1])
    with tx.session() as sess:
        _, moved = change(sess, step, labels=np.zeros(12, np.int64))
    assert not any(values.any() for values in moved.values())


def test_a_loss_of_the_users_own_is_weighted_too():
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    own = tf.reduce_sum(tf.square(logits), axis=1)
    step = tx.train_step(
        images, labels, logits, loss=own, train=tx.select(".*"), class_weights=WEIGHTS, optimizer=SGD, learning_rate=1.0
    )
    with tx.session() as sess:
        before, moved = change(sess, step)
    x = IMAGES.reshape(12, 16).astype(np.float64)
    by_logits = 2 * (x @ before["logits/kernel"]) * np.array(WEIGHTS)[LABELS][:, None] / 12
    np.testing.assert_allclose(moved["logits/kernel"], -(x.T @ by_logits), atol=2e-5)


@pytest.mark.parametrize(("weights", "told"), [
    ([1, 2], "`class_weights` has 2 numbers, and there are 3 classes; give one a class"),
    ([1, 2, 3, 4], "`class_weights` has 4 numbers, and there are 3 classes"),
    ([], "`class_weights` has 0 numbers"),
    ([1, -2, float("nan")], "`class_weights`: -2 of class 1, nan of class 2; give numbers from 0 on"),
    ([1, 1, float("inf")], "inf of class 2"),
    ([0, 0.0, 0], "`class_weights` are all 0, so that nothing would be learnt"),
])  # fmt: skip
def test_weights_that_make_no_sense_are_refused(weights, told):
    with pytest.raises(GraphError, match=re.escape(told)):
        linear(class_weights=weights)


def test_weights_need_labels():
    images, _ = placeholders()
    x = layers.flatten(images)
    own = tf.reduce_sum(layers.dense(x, 3, "fc"), axis=1)
    with pytest.raises(GraphError, match="`class_weights` need labels; without them, put weights into the loss"):
        tx.train_step(images, None, x, loss=own, train=tx.select(".*"), class_weights=[1])


# The frontier.


def test_neither_l2_nor_weights_move_the_frontier():
    def fed(**options):
        with tf.Graph().as_default():
            images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
            labels = tf.placeholder(tf.int64, [None], name="labels")
            logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[5], classes=3, dropout=0.5)
            joining = ("logits/.*", "fc1/.*", "conv2/.*")
            stages = [tx.Stage(epoch, tx.select(pattern)) for epoch, pattern in enumerate(joining)]
            step = tx.train_step(images, labels, logits, stages=stages, **options)
            found = [frontier(step, stage) for stage in step.stages]
            return [([t.name for t in one.tensors], {op.name for op in one.frozen}) for one in found]

    plain = fed()
    assert plain[0][0] != plain[2][0]
    assert fed(l2=0.1, class_weights=WEIGHTS) == plain
