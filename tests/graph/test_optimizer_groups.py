"""The optimizers of a step: their factors, their slots, and what a stage that begins later gets."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.graph.steps import OPTIMIZERS, deep, fetch, gradients_at, linear, load, op_names, placeholders, train
from tfxfer.errors import GraphError, SelectionError
from tfxfer.models import heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def first_update(optimizer, multipliers, name="logits/kernel", **options):
    """Return how far one step moves a variable that starts at zero, so that no rounding hides it."""
    with tf.Graph().as_default():
        step = linear(optimizer=OPTIMIZERS[optimizer], multipliers=multipliers, **options)
        with tx.session() as sess:
            load(sess, name, np.zeros_like(fetch(sess)[name]))
            train(sess, step)
            return fetch(sess)[name]


@pytest.mark.parametrize("factor", [1.0, 0.01, 3.0])
def test_the_first_step_under_adam_has_the_size_of_the_learning_rate_times_the_factor(factor):
    update = first_update("adam", {".*/kernel": factor}, learning_rate=1e-3)
    np.testing.assert_allclose(np.abs(update), 1e-3 * factor, rtol=1e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("factor", [0.01, 0.3, 7.0])
def test_a_factor_scales_the_first_update_and_that_of_no_other_variable(optimizer, factor):
    whole = first_update(optimizer, {}, learning_rate=1e-3)
    scaled = first_update(optimizer, {"logits/kernel": factor}, learning_rate=1e-3)
    np.testing.assert_allclose(scaled, np.float32(factor) * whole, rtol=1e-6)
    assert whole.all()
    # A group of its own takes another path through Adam's arithmetic, so up to rounding.
    others = [first_update(optimizer, m, "logits/bias", learning_rate=1e-3) for m in ({}, {".*/kernel": factor})]
    np.testing.assert_allclose(*others, rtol=1e-6)


def test_a_factor_of_a_stage_and_one_of_a_pattern_multiply(graph):
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    stages = [tx.Stage(0, tx.select(".*"), multiplier=0.1)]
    step = tx.train_step(images, labels, logits, stages=stages, multipliers={".*/bias": 0.5}, learning_rate=1e-2)
    with tx.session() as sess:
        for name, shape in (("logits/kernel", (16, 3)), ("logits/bias", (3,))):
            load(sess, name, np.zeros(shape))
        train(sess, step)
        after = fetch(sess)
    np.testing.assert_allclose(np.abs(after["logits/kernel"]), 1e-3, rtol=1e-3)
    np.testing.assert_allclose(np.abs(after["logits/bias"]), 5e-4, rtol=1e-3)


def test_two_patterns_that_match_one_variable_are_refused():
    message = "logits/bias: matched by two of the multipliers ['logits/.*', '.*/bias']"
    with pytest.raises(SelectionError, match=re.escape(message)):
        linear(multipliers={"logits/.*": 0.1, ".*/bias": 2})


def test_a_multiplier_that_matches_nothing_that_is_trained_is_refused():
    with pytest.raises(SelectionError, match=r"match none of the 2 variables:\n  'conv1/\.\*'    nearest: logits/"):
        deep(train=lambda: tx.select("logits/.*"), multipliers={"conv1/.*": 0.1})


def test_a_learning_rate_may_be_a_function_of_global_step():
    step = linear(
        optimizer=OPTIMIZERS["sgd"],
        learning_rate=lambda n: tf.train.piecewise_constant(n, [1, 2], [0.5, 0.25, 0.0]),
    )
    with tx.session() as sess:
        rates, sizes = [], []
        for _ in range(5):
            before = fetch(sess)
            kernel, bias = (before[f"logits/{name}"].astype(np.float64) for name in ("kernel", "bias"))
            gradient = gradients_at(kernel, bias)[0]
            rates.append(sess.run(step.learning_rate))
            train(sess, step)
            sizes.append(np.abs(fetch(sess)["logits/kernel"] - kernel).sum() / np.abs(gradient).sum())
    assert rates == [0.5, 0.5, 0.25, 0.0, 0.0]
    np.testing.assert_allclose(sizes, rates, rtol=1e-4, atol=1e-7)
    assert step.learning_rate.dtype == tf.float32


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        ("sgd", []),
        ("momentum", ["logits/bias/Momentum", "logits/kernel/Momentum"]),
        ("rmsprop", [f"logits/{name}/RMSProp{number}" for name in ("bias", "kernel") for number in ("", "_1")]),
        (
            "adam",
            ["beta1_power", "beta2_power"]
            + [f"logits/{name}/Adam{number}" for name in ("bias", "kernel") for number in ("", "_1")],
        ),
    ],
)
def test_no_slot_is_built_for_a_frozen_variable(optimizer, slots):
    step = deep(optimizer=OPTIMIZERS[optimizer], train=lambda: tx.select("logits/.*"))
    models = op_names(tx.select(".*"))
    assert sorted(op_names(step.slots)) == slots
    assert sorted(op_names(tf.global_variables())) == sorted([*models, "global_step", *slots])


def test_a_variable_that_joins_late_begins_under_adam_as_one_that_was_there_from_the_start():
    # Adam corrects its slots, which start at zero, by the steps of the optimizer: one that had made many steps already
    # would move a newcomer three times too far.
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    stages = [tx.Stage(0, tx.select("logits/bias")), tx.Stage(1, tx.select("logits/kernel"))]
    step = tx.train_step(images, labels, logits, stages=stages, learning_rate=1e-3)
    with tx.session() as sess:
        load(sess, "logits/kernel", np.zeros((16, 3)))
        train(sess, step, 50, stage=0)
        train(sess, step, 1, stage=1)
        np.testing.assert_allclose(np.abs(fetch(sess)["logits/kernel"]), 1e-3, rtol=1e-3)


class DecayWhileComputing(tf.train.GradientDescentOptimizer):
    def compute_gradients(self, *arguments, **options):
        return [(g + 100.0 * v, v) for g, v in super().compute_gradients(*arguments, **options)]


class DecayWhileMinimizing(tf.train.GradientDescentOptimizer):
    def minimize(self, loss, **options):
        return super().minimize(loss + 1.0, **options)


class DecayWhileApplying(tf.train.GradientDescentOptimizer):
    def apply_gradients(self, grads_and_vars, **options):
        return super().apply_gradients([(g + 100.0 * v, v) for g, v in grads_and_vars], **options)


def loss_scaled(learning_rate):
    return tf.train.experimental.MixedPrecisionLossScaleOptimizer(
        tf.train.GradientDescentOptimizer(learning_rate), "dynamic"
    )


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        (DecayWhileComputing, r"DecayWhileComputing has a compute_gradients of its own"),
        (lambda learning_rate: DecayWhileComputing(learning_rate), r"DecayWhileComputing has a compute_gradients"),
        (type("Derived", (DecayWhileComputing,), {}), r"Derived has a compute_gradients of its own"),
        (DecayWhileMinimizing, r"DecayWhileMinimizing has a minimize of its own"),
        (loss_scaled, r"MixedPrecisionLossScaleOptimizer has a compute_gradients of its own"),
    ],
)
def test_an_optimizer_with_a_way_of_its_own_to_gradients_is_refused(optimizer, told):
    with pytest.raises(GraphError, match=told + ".*Move what the method does to the gradients into apply_gradients"):
        linear(optimizer=optimizer)


def test_what_an_optimizer_does_in_apply_gradients_is_done():
    step = linear(optimizer=DecayWhileApplying, learning_rate=0.01)
    with tx.session() as sess:
        before = fetch(sess)
        train(sess, step)
        after = fetch(sess)["logits/kernel"]
    kernel, bias = (before[f"logits/{name}"].astype(np.float64) for name in ("kernel", "bias"))
    np.testing.assert_allclose(after, -0.01 * gradients_at(kernel, bias)[0], rtol=1e-4, atol=1e-6)
