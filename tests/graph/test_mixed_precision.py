"""Training in bfloat16: what is computed so, what stays float32, and which graphs are refused."""

from __future__ import annotations

import ml_dtypes
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
    linear,
    load,
    normalised,
    placeholders,
    softmax,
    train,
)
from tfxfer import processor
from tfxfer.data import Data, Split
from tfxfer.errors import GraphError, RunError
from tfxfer.frontier.search import frontier
from tfxfer.graph import layers, traversal
from tfxfer.models import heads

LOW = {"train_precision": "bfloat16"}
KERNEL = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def graph(monkeypatch):
    # Without units, TensorFlow computes the same, but slower.
    monkeypatch.setattr(processor, "features", lambda: {"amx_bf16"})
    with tf.Graph().as_default() as graph:
        yield graph


def low(values):
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def products(step, kind):
    """The products that a step of training runs, of one dtype."""
    run = traversal.needed([step.stages[-1].apply, *(tensor.op for tensor in step.train_metrics.values())])
    return [op.name for op in run if op.type == "MatMul" and op.get_attr("T") == kind]


def test_products_and_gradients_are_those_of_bfloat16_by_numpy():
    step = linear(optimizer=OPTIMIZERS["sgd"], learning_rate=1.0, **LOW)
    with tx.session() as sess:
        load(sess, "logits/kernel", KERNEL)
        trained, plain = sess.run([step.train_metrics["loss"], step.metrics["loss"]], feeds(step))
        train(sess, step)
        after = fetch(sess)
    x, rows = low(IMAGES.reshape(12, 16)), np.arange(12)
    odds = softmax(low(x @ low(KERNEL)))
    np.testing.assert_allclose(trained, -np.log(odds[rows, LABELS]), atol=0.02)
    gradient = low(x.T @ low(((odds - np.eye(3)[LABELS]) / 12).astype(np.float32)))
    np.testing.assert_allclose(KERNEL - after["logits/kernel"], gradient, atol=2e-3)
    exact = softmax(IMAGES.reshape(12, 16) @ KERNEL)
    np.testing.assert_allclose(plain, -np.log(exact[rows, LABELS]), rtol=1e-5)
    assert np.abs(trained - plain).max() > 1e-4
    assert {value.dtype for name, value in after.items() if name != "global_step"} == {np.dtype(np.float32)}


def test_a_gradient_has_the_bits_of_bfloat16_and_the_variable_those_of_float32():
    step = linear(optimizer=OPTIMIZERS["sgd"], learning_rate=1.0, **LOW)
    with tx.session() as sess:
        load(sess, "logits/kernel", np.zeros((16, 3)))
        train(sess, step)
        first = fetch(sess)["logits/kernel"]
        train(sess, step)
        second = fetch(sess)["logits/kernel"]
    np.testing.assert_array_equal(first, low(first))
    assert (second != low(second)).any()


def test_evaluation_has_the_bits_of_a_step_in_float32():
    shown = []
    for options in ({}, LOW):
        with tf.Graph().as_default():
            step = deep(train=lambda: tx.select("fc.*", "logits/.*"), **options)
            with tx.session() as sess:
                shown.append(sess.run([step.probabilities, *step.metrics.values()], feeds(step)))
    for float32, bfloat16 in zip(*shown, strict=True):
        assert float32.tobytes() == bfloat16.tobytes()


def test_only_products_of_trained_layers_are_in_bfloat16_and_none_is_computed_twice():
    step = deep(train=lambda: tx.select("logits/.*"), **LOW)
    assert len(products(step, tf.bfloat16)) == 2  # forwards, and the gradient of the kernel
    assert len(products(step, tf.float32)) == 1  # of the frozen layer
    assert [tensor.name for tensor in frontier(step).tensors] == ["HEAD/fc1/Relu:0"]


def by_tensorflow(images, *, use_resource):
    x = tf.reshape(images, [-1, 16])
    with tf.variable_scope("plain", use_resource=use_resource):
        kernel = tf.get_variable("kernel", [3, 16])
        return tf.matmul(tf.nn.dropout(x, rate=0.2, seed=3), kernel, transpose_b=True)


def split(images):
    with tf.variable_scope("plain", partitioner=tf.fixed_size_partitioner(2)):
        return tf.matmul(tf.reshape(images, [-1, 16]), tf.get_variable("kernel", [16, 3]))


def normed(images):
    kernel = tf.get_variable("plain/kernel", [16, 3])
    return tf.matmul(tf.reshape(images, [-1, 16]), kernel / tf.norm(kernel, axis=0))


def behind_a_branch(images):
    x = layers.dense(tf.reshape(images, [-1, 16]), 8, "fc")
    x = tf.cond(tf.reduce_sum(images) > 1e9, lambda: x * 2, lambda: x)
    return layers.dense(layers.dropout(x, 0.2, "dropout"), 3, "logits", activation=None)


BUILDERS = {
    "resource": lambda images: by_tensorflow(images, use_resource=True),
    "reference": lambda images: by_tensorflow(images, use_resource=False),
    "split": split,
    "normed": normed,
    "branch": behind_a_branch,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_plain_graph_learns_in_bfloat16_alone_as_it_does_in_float32(name):
    losses = []
    for options in ({}, LOW):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            images, labels = placeholders()
            step = tx.train_step(images, labels, BUILDERS[name](images), train=[".*"], learning_rate=0.05, **options)
            assert bool(products(step, tf.float32)) != bool(options)
            with tx.session() as sess:
                before = sess.run(step.metrics["loss"], feeds(step)).mean()
                train(sess, step, 20)
                losses.append(sess.run(step.metrics["loss"], feeds(step)).mean())
    assert losses[0] < 0.8 * before
    assert abs(losses[0] - losses[1]) < 0.1


def within_a_loop(images):
    kernel = tf.get_variable("kernel", [16, 16])
    x = tf.reshape(images, [-1, 16])
    x = tf.while_loop(lambda x: tf.reduce_sum(x) < 0, lambda x: tf.matmul(x, kernel), [x], maximum_iterations=2)
    return x[:, :3]


def test_a_graph_without_such_a_product_is_refused():
    images, labels = placeholders()
    for build in (within_a_loop, lambda images: tf.reduce_mean(layers.conv2d(images, 3, 3, "conv"), axis=[1, 2])):
        outputs = build(images)
        with pytest.raises(GraphError, match=r"no product \(MatMul\).* train with `train_precision='float32'`"):
            tx.train_step(images, labels, outputs, train=[".*"], **LOW)
    tx.train_step(images, labels, outputs, train=["conv/.*"], train_precision="float32")


def test_what_cannot_be_made_anew_is_named_all_at_once():
    images, labels = placeholders()
    x = layers.dense(tf.reshape(images, [-1, 16]), 8, "fc")
    x = layers.batch_norm(x, "norm")
    counter = tf.get_variable("counter", [], trainable=False, initializer=tf.zeros_initializer())
    with tf.control_dependencies([counter.assign_add(tf.reduce_sum(x)).op]):
        logits = layers.dense(tf.identity(x), 3, "logits")
    with pytest.raises(GraphError) as caught:
        tx.train_step(images, labels, logits, train=[".*"], **LOW)
    message = str(caught.value)
    assert "writes a variable" in message
    assert "the update op norm/" in message
    assert "train with `train_precision='float32'`" in message


def test_the_update_ops_before_a_trained_product_run_as_ever():
    step = normalised(train=lambda: [".*"], **LOW)
    with tx.session() as sess:
        before = fetch(sess)
        train(sess, step)
        after = fetch(sess)
    assert (before["norm2/moving_mean"] != after["norm2/moving_mean"]).any()


def test_another_precision_and_a_processor_without_units_are_refused(monkeypatch):
    with pytest.raises(GraphError, match="`train_precision='float16'` must be one of float32, bfloat16"):
        linear(train_precision="float16")
    monkeypatch.setattr(processor, "features", lambda: {"avx2"})
    with (
        tf.Graph().as_default(),
        pytest.raises(GraphError, match=r"none of amx_bf16, avx512_bf16.*`train_precision='float32'`"),
    ):
        linear(**LOW)
    with tf.Graph().as_default():
        linear(train_precision="float32")


def run(logdir, epochs, **options):
    split = Split(IMAGES, LABELS)
    with tf.Graph().as_default():
        tf.set_random_seed(5)
        images, labels = placeholders()
        logits = heads.classifier(images, hidden=[8], classes=3, dropout=0.2)
        step = tx.train_step(images, labels, logits, train=["fc1/.*", "logits/.*"], summaries=[], **options)
        with tx.session() as sess:
            tx.fit(sess, step, Data(split, split, split, ("a", "b", "c")), epochs=epochs, batch_size=5, logdir=logdir)
            return fetch(sess)


def test_a_run_goes_on_with_the_same_bits_and_not_in_another_precision(tmp_path):
    whole = run(tmp_path / "whole", 4, **LOW)
    run(tmp_path / "parts", 2, **LOW)
    with pytest.raises(RunError, match=r"train_precision.*bfloat16"):
        run(tmp_path / "parts", 4)
    parts = run(tmp_path / "parts", 4, **LOW)
    assert {name: value.tobytes() for name, value in whole.items()} == {
        name: value.tobytes() for name, value in parts.items()
    }
