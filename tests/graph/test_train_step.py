"""The step of training, against numpy: what it changes, by how much, and that nothing else moves by a bit."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.graph.steps import (
    IMAGES,
    LABELS,
    OPTIMIZERS,
    deep,
    feeds,
    fetch,
    gradients_at,
    linear,
    load,
    moved,
    normalised,
    op_names,
    placeholders,
    softmax,
    train,
)
from tfxfer.errors import GraphError
from tfxfer.graph import layers
from tfxfer.models import heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


# What is trained and what is not.


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("patterns", [("fc.*", "logits/.*"), ("conv2/kernel",)])
def test_only_the_chosen_variables_change_and_the_others_keep_every_bit(optimizer, patterns):
    step = deep(optimizer=OPTIMIZERS[optimizer], train=lambda: tx.select(*patterns), dropout=0.3)
    chosen = set(op_names(tx.select(*patterns)))
    assert set(op_names(step.trained)) == chosen
    with tx.session() as sess:
        before = fetch(sess)
        train(sess, step, 5)
        after = fetch(sess)
    assert moved(before, after) - set(op_names(step.slots)) == chosen | {"global_step"}
    assert after["global_step"] == 5


# By how much.


def test_gradient_descent_follows_numpy_step_by_step():
    step = linear(optimizer=OPTIMIZERS["sgd"], learning_rate=0.5)
    with tx.session() as sess:
        values = fetch(sess)
        kernel, bias = values["logits/kernel"].astype(np.float64), values["logits/bias"].astype(np.float64)
        for _ in range(10):
            by_kernel, by_bias = gradients_at(kernel, bias)
            kernel, bias = kernel - 0.5 * by_kernel, bias - 0.5 * by_bias
        train(sess, step, 10)
        values = fetch(sess)
    np.testing.assert_allclose(values["logits/kernel"], kernel, atol=1e-5)
    np.testing.assert_allclose(values["logits/bias"], bias, atol=1e-5)


def test_adam_follows_numpy_step_by_step():
    step = linear(optimizer=OPTIMIZERS["adam"], learning_rate=0.01, multipliers={".*/bias": 10})
    with tx.session() as sess:
        values = fetch(sess)
        now = [values["logits/kernel"].astype(np.float64), values["logits/bias"].astype(np.float64)]
        first, second = [0.0, 0.0], [0.0, 0.0]
        for t in range(1, 11):
            gradients = gradients_at(*now)
            for k, (rate, gradient) in enumerate(zip((0.01, 0.1), gradients, strict=True)):
                first[k] = 0.9 * first[k] + 0.1 * gradient
                second[k] = 0.999 * second[k] + 0.001 * gradient**2
                now[k] = now[k] - rate * (first[k] / (1 - 0.9**t)) / (np.sqrt(second[k] / (1 - 0.999**t)) + 1e-8)
        train(sess, step, 10)
        values = fetch(sess)
    np.testing.assert_allclose(values["logits/kernel"], now[0], atol=1e-4)
    np.testing.assert_allclose(values["logits/bias"], now[1], atol=1e-3)


# Losses and metrics.


def test_softmax_loss_accuracy_and_probabilities_equal_numpys():
    step = linear()
    with tx.session() as sess:
        values = fetch(sess)
        fetches = [step.metrics, step.probabilities, step.loss, step.outputs]
        metrics, probabilities, loss, outputs = sess.run(fetches, feeds(step))
    wanted = softmax(IMAGES.reshape(12, 16) @ values["logits/kernel"] + values["logits/bias"])
    losses = -np.log(wanted[range(12), LABELS])
    np.testing.assert_allclose(probabilities, wanted, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    assert np.array_equal(metrics["accuracy"], (wanted.argmax(axis=1) == LABELS).astype(np.float32))
    assert 0 < metrics["accuracy"].mean() < 1
    assert loss == pytest.approx(losses.mean(), rel=1e-5)
    assert outputs.shape == (12, 3)
    assert {name: (values.shape, values.dtype) for name, values in metrics.items()} == {
        "loss": ((12,), np.float32),
        "accuracy": ((12,), np.float32),
    }


def test_sigmoid_loss_accuracy_and_probabilities_equal_numpys():
    images, labels = placeholders()
    logits = heads.classifier(images, classes=2, loss="sigmoid")
    step = tx.train_step(images, labels, logits, train=tx.select(".*"), loss="sigmoid")
    truth = LABELS % 2
    with tx.session() as sess:
        metrics, probabilities, outputs = sess.run(
            [step.metrics, step.probabilities, step.outputs], feeds(step, labels=truth)
        )
    second = 1 / (1 + np.exp(-outputs[:, 0].astype(np.float64)))
    np.testing.assert_allclose(probabilities, np.stack([1 - second, second], axis=1), atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], -np.log(np.where(truth == 1, second, 1 - second)), rtol=1e-5)
    assert np.array_equal(metrics["accuracy"], ((second > 0.5) == truth).astype(np.float32))


def test_a_loss_may_be_a_tensor_of_one_number_an_example_and_needs_no_labels():
    images, _ = placeholders()
    x = layers.flatten(images)
    losses = tf.reduce_sum(tf.square(layers.dense(x, 16, "fc", activation=None) - x), axis=1)
    step = tx.train_step(images, None, x, loss=losses, train=tx.select(".*"), learning_rate=1e-2)
    assert step.labels is None
    assert step.probabilities is None
    assert list(step.metrics) == ["loss"]
    with tx.session() as sess:
        first = sess.run(step.metrics["loss"], {images: IMAGES})
        assert first.shape == (12,)
        assert sess.run(step.loss, {images: IMAGES}) == pytest.approx(first.mean(), rel=1e-5)
        for _ in range(30):
            sess.run(step.stages[0].apply, {images: IMAGES})
        assert sess.run(step.loss, {images: IMAGES}) < 0.8 * first.mean()


def test_with_labels_a_tensor_of_losses_comes_with_an_accuracy():
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    own = tf.reduce_sum(tf.square(tf.nn.softmax(logits) - tf.one_hot(labels, 3)), axis=1)
    step = tx.train_step(images, labels, logits, loss=own, train=tx.select(".*"))
    with tx.session() as sess:
        metrics, wanted, probabilities = sess.run([step.metrics, own, step.probabilities], feeds(step))
    assert np.array_equal(metrics["loss"], wanted)
    assert np.array_equal(metrics["accuracy"], probabilities.argmax(axis=1) == LABELS)


@pytest.mark.parametrize(
    ("outputs", "options", "told"),
    [
        ([None, 3], {"loss": "hinge"}, "loss is 'softmax', 'sigmoid' or a tensor [batch], not 'hinge'"),
        ([None, 1], {}, "`loss='softmax'` takes outputs [batch, classes], of two classes or more, not (None, 1)"),
        ([None], {}, "`loss='softmax'` takes outputs [batch, classes], of two classes or more, not (None,)"),
        ([None, 3], {"loss": "sigmoid"}, "`loss='sigmoid'` takes outputs [batch, 1], not (None, 3)"),
        ([None, 2, 1], {"loss": "sigmoid"}, "`loss='sigmoid'` takes outputs [batch, 1], not (None, 2, 1)"),
    ],
)
def test_a_loss_that_does_not_go_with_the_outputs_is_refused(outputs, options, told):
    images, labels = placeholders()
    variable = tf.get_variable("w", [])
    with pytest.raises(GraphError, match=re.escape(told)):
        tx.train_step(images, labels, variable * tf.placeholder(tf.float32, outputs), train=[variable], **options)


def test_softmax_needs_labels():
    images, _ = placeholders()
    logits = heads.classifier(images, classes=3)
    with pytest.raises(GraphError, match="`loss='softmax'` needs labels; without them, loss is a tensor"):
        tx.train_step(images, None, logits, train=tx.select(".*"))


@pytest.mark.parametrize("shape", [(), (12, 3)])
def test_a_tensor_of_losses_must_be_one_number_an_example(shape):
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    own = tf.reduce_mean(logits) if shape == () else logits
    told = re.escape(
        f"loss is a tensor [batch], one number an example, not of shape {own.shape}; train_step takes the mean"
    )
    with pytest.raises(GraphError, match=told):
        tx.train_step(images, labels, logits, loss=own, train=tx.select(".*"))


@pytest.mark.parametrize("added", [False, True])
def test_regularization_losses_that_training_does_not_follow_are_told(caplog, added):
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])

    def penalty(variable):
        return tf.reduce_sum(tf.square(variable), name="penalty")

    frozen, kernel = (tf.get_variable(name, [4, 4], regularizer=penalty) for name in ("frozen", "kernel"))
    logits = tf.matmul(tf.matmul(images, frozen), kernel)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if added:
        loss += tf.losses.get_regularization_loss()
    tx.train_step(images, labels, logits, train="kernel", loss=loss)
    told = [record.getMessage() for record in caplog.records if "regularization losses" in record.getMessage()]
    assert len(told) == (not added)
    assert all("kernel/" in line and "frozen" not in line for line in told)


def test_finite_tells_whether_every_trained_variable_is():
    step = deep(train=lambda: tx.select("fc.*", "logits/.*"))
    with tx.session() as sess:
        assert sess.run(step.finite)
        load(sess, "conv1/bias", np.full(3, np.nan))
        assert sess.run(step.finite)
        load(sess, "fc1/bias", np.float32([1, 2, 3, 4, 5, 6, 7, np.inf]))
        assert not sess.run(step.finite)


# The same bits again.


def run_20_steps(path=None, *, stop=None):
    """Train 20 steps with dropout and batch norm; or stop on the way, save, and go on in another graph and session."""

    def build():
        tf.set_random_seed(4)
        return normalised(
            train=lambda: tx.select(".*", exclude=".*moving.*"), multipliers={"conv/.*": 0.1}, clip_norm=1.0
        )

    with tf.Graph().as_default():
        step = build()
        with tx.session() as sess:
            train(sess, step, stop or 20)
            if not stop:
                return fetch(sess)
            step.saver.save(sess, str(path), write_meta_graph=False)
    with tf.Graph().as_default():
        step = build()
        with tx.session() as sess:
            step.saver.restore(sess, str(path))
            train(sess, step, 20 - stop)
            return fetch(sess)


def test_two_builds_with_one_seed_have_the_same_bits_after_20_steps_with_dropout():
    first, second = run_20_steps(), run_20_steps()
    assert first["global_step"] == 20
    assert moved(first, second) == set()


def test_a_run_that_stops_and_goes_on_has_the_bits_of_one_that_did_not(tmp_path):
    assert moved(run_20_steps(), run_20_steps(tmp_path / "model", stop=7)) == set()


# Variables that are one in memory.


def test_two_variables_of_one_memory_are_not_trained_apart_and_the_cure_cures(tmp_path):
    with tf.Graph().as_default() as other:
        tf.matmul(tf.placeholder(tf.float32, [None, 16], "x"), tf.get_variable("w", [16, 3]), name="y")
        tf.train.export_meta_graph(str(tmp_path / "model.meta"), graph=other)

    def step_of_student(import_meta_graph):
        images, labels = placeholders()
        for scope in ("teacher", "student"):
            import_meta_graph(str(tmp_path / "model.meta"), scope, {"x:0": layers.flatten(images)})
        logits = tf.get_default_graph().get_tensor_by_name("student/y:0")
        return tx.train_step(images, labels, logits, train="student/w")

    told = r"(?s)student/w and teacher/w.*by tfxfer\.import_meta_graph\(path, scope\)"
    with tf.Graph().as_default(), pytest.raises(GraphError, match=told):
        step_of_student(
            lambda path, scope, inputs: tf.train.import_meta_graph(path, import_scope=scope, input_map=inputs)
        )
    step = step_of_student(lambda path, scope, inputs: tx.import_meta_graph(path, scope, input_map=inputs))
    with tx.session() as sess:
        before = fetch(sess)
        train(sess, step)
        changed = moved(before, fetch(sess))
    assert "student/w" in changed
    assert "teacher/w" not in changed
