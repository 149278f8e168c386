"""The step of training, against numpy: what it changes, by how much, and that nothing else moves by a bit."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import layers
from tfxfer.models import heads

OPTIMIZERS = {
    "sgd": tf.train.GradientDescentOptimizer,
    "momentum": functools.partial(tf.train.MomentumOptimizer, momentum=0.9),
    "rmsprop": tf.train.RMSPropOptimizer,
    "adam": tf.train.AdamOptimizer,
}
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(12, 4, 4, 1)).astype(np.float32)
LABELS = RNG.permutation(np.repeat([0, 1, 2], [6, 5, 1]))


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def placeholders():
    return tf.placeholder(tf.float32, [None, 4, 4, 1]), tf.placeholder(tf.int64, [None])


def linear(**options):
    """Softmax regression of 3 classes: logits/kernel and logits/bias."""
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    return tx.train_step(images, labels, logits, **({"train": tx.select(".*")} | options))


def deep(*, dropout=0.0, **options):
    """conv1, conv2, fc1 and logits; `train` and `stages` are functions without arguments."""
    images, labels = placeholders()
    x = layers.conv2d(layers.conv2d(images, 3, 3, "conv1"), 4, 3, "conv2", strides=2)
    logits = heads.classifier(x, hidden=[8], classes=3, dropout=dropout)
    options = {key: value() if key in ("train", "stages") else value for key, value in options.items()}
    return tx.train_step(images, labels, logits, **options)


def fetch(sess):
    variables = tf.global_variables()
    return dict(zip([v.op.name for v in variables], sess.run(variables), strict=True))


def load(sess, name, value):
    (variable,) = tx.select(name, among=tf.global_variables())
    sess.run(variable.initializer, {variable.initializer.inputs[1]: value})


def feeds(step, stage=0, images=IMAGES, labels=LABELS):
    return {step.images: images, step.labels: labels} | dict(step.stages[stage].feeds)


def train(sess, step, steps=1, stage=0):
    for _ in range(steps):
        sess.run(step.stages[stage].apply, feeds(step, stage))


def moved(before, after):
    return {name for name, value in before.items() if value.tobytes() != after[name].tobytes()}


def softmax(logits):
    odds = np.exp(logits.astype(np.float64))
    return odds / odds.sum(axis=1, keepdims=True)


def gradients_at(kernel, bias):
    """The gradients of softmax regression's mean loss, by hand."""
    x = IMAGES.reshape(12, 16).astype(np.float64)
    error = (softmax(x @ kernel + bias) - np.eye(3)[LABELS]) / 12
    return x.T @ error, error.sum(axis=0)


def op_names(variables):
    return [variable.op.name for variable in variables]


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


def test_no_gradient_is_built_for_frozen_convolutions(graph):
    deep(train=lambda: tx.select("fc.*", "logits/.*"))
    assert not [op.name for op in graph.get_operations() if op.type.startswith("Conv2DBackprop")]


def test_a_variable_that_the_loss_does_not_depend_on_is_refused_by_name():
    images, labels = placeholders()
    logits = heads.classifier(images, classes=3)
    layers.dense(tf.zeros([1, 2]), 2, "aside")
    message = "the loss does not depend on aside/kernel, aside/bias; train only what it depends on"
    with pytest.raises(SelectionError, match=re.escape(message)):
        tx.train_step(images, labels, logits, train=tx.select(".*"))


def test_nothing_to_train_is_refused():
    with pytest.raises(SelectionError, match="a stage trains no variable; select at least one"):
        linear(train=[])


def test_the_same_variable_chosen_twice_is_refused():
    with pytest.raises(SelectionError, match=re.escape("fc1/bias, fc1/kernel: chosen twice; name each variable once")):
        deep(train=lambda: [*tx.select("fc1/.*"), *tx.select(".*")])
    with pytest.raises(SelectionError, match="fc1/bias: chosen twice; name each variable once, in its first stage"):
        tx.train_step(
            *placeholders(),
            tf.zeros([12, 3]),
            stages=[tx.Stage(0, tx.select("fc1/bias")), tx.Stage(1, tx.select("fc.*"))],
        )


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


@pytest.mark.parametrize("clip_norm", [0.01, 0.1, 100.0])
def test_gradients_are_scaled_down_together_to_the_norm_asked_for(clip_norm):
    step = linear(optimizer=OPTIMIZERS["sgd"], learning_rate=1.0, clip_norm=clip_norm)
    with tx.session() as sess:
        load(sess, "logits/kernel", np.zeros((16, 3)))
        train(sess, step)
        after = fetch(sess)
    gradients = gradients_at(np.zeros((16, 3)), np.zeros(3))
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    assert 0.1 < norm < 100
    scale = min(1, clip_norm / norm)
    np.testing.assert_allclose(after["logits/kernel"], -scale * gradients[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(after["logits/bias"], -scale * gradients[1], rtol=1e-5, atol=1e-7)


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


# Stages.


def staged(**options):
    def stages():
        return [
            tx.Stage(0, tx.select("logits/.*")),
            tx.Stage(2, tx.select("fc1/.*"), multiplier=0.1),
            tx.Stage(5, tx.select("conv2/.*")),
        ]

    return deep(stages=stages, **options)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_variables_of_a_later_stage_are_untouched_before_it(optimizer):
    step = staged(optimizer=OPTIMIZERS[optimizer], learning_rate=1e-2)
    trained, slots = set(), set(op_names(step.slots))
    with tx.session() as sess:
        for number, joins in enumerate(("logits", "fc1", "conv2")):
            before = fetch(sess)
            train(sess, step, 2, stage=number)
            after = fetch(sess)
            trained |= {f"{joins}/kernel", f"{joins}/bias"}
            assert moved(before, after) - slots == trained | {"global_step"}
            later = {name for name in slots if name.split("/")[0] in ("logits", "fc1", "conv2")}
            later -= {name for name in slots if name.rpartition("/")[0] in trained}
            assert not later & moved(before, after)
            assert after["global_step"] == 2 * (number + 1)


def test_each_stage_has_one_apply_op_and_trains_what_earlier_ones_did():
    step = staged()
    assert [stage.epoch for stage in step.stages] == [0, 2, 5]
    assert [op_names(stage.variables)[::2] for stage in step.stages] == [
        ["logits/kernel"],
        ["logits/kernel", "fc1/kernel"],
        ["logits/kernel", "fc1/kernel", "conv2/kernel"],
    ]
    assert len({stage.apply.name for stage in step.stages}) == 3
    assert all(isinstance(stage.apply, tf.Operation) for stage in step.stages)
    assert step.trained == step.stages[-1].variables


def test_an_epoch_belongs_to_the_last_stage_that_has_begun():
    step = staged()
    assert [step.stages.index(step.stage(epoch)) for epoch in (0, 1, 2, 3, 4, 5, 6, 100)] == [0, 0, 1, 1, 1, 2, 2, 2]


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


@pytest.mark.parametrize("epochs", [(1,), (0, 0), (0, 3, 2), ()])
def test_stages_must_begin_at_0_and_follow_each_other(epochs):
    images, labels = placeholders()
    logits = heads.classifier(images, hidden=[5, 4], classes=3)
    stages = [
        tx.Stage(epoch, tx.select(f"{name}/.*")) for epoch, name in zip(epochs, ("fc1", "fc2", "logits"), strict=False)
    ]
    message = f"stages must begin at epoch 0 and at later and later epochs, not at {list(epochs)}"
    with pytest.raises(GraphError, match=re.escape(message)):
        tx.train_step(images, labels, logits, stages=stages)


def test_train_or_stages_must_be_given_and_not_both():
    message = re.escape("say what is trained by train= or by stages=, and not by both")
    with pytest.raises(GraphError, match=message), tf.Graph().as_default():
        linear(train=None)
    with pytest.raises(GraphError, match=message):
        deep(train=lambda: tx.select("fc1/.*"), stages=lambda: [tx.Stage(0, tx.select("logits/.*"))])


# Switches.


def normalised(**options):
    images, labels = placeholders()
    x = layers.batch_norm(layers.conv2d(images, 2, 3, "conv", activation=None), "norm1")
    x = layers.batch_norm(tf.nn.relu(x), "norm2")
    logits = heads.classifier(x, hidden=[5], classes=3, dropout=0.2)
    options = {key: value() if key in ("train", "stages") else value for key, value in options.items()}
    return tx.train_step(images, labels, logits, **options)


def test_a_batch_norm_is_switched_on_in_those_stages_alone_that_train_its_gamma_or_beta():
    step = normalised(
        stages=lambda: [
            tx.Stage(0, tx.select("logits/.*", "conv/.*")),
            tx.Stage(1, tx.select("norm2/beta")),
            tx.Stage(2, tx.select("norm1/gamma")),
        ]
    )
    dropout = "HEAD/dropout1/switch"
    assert [sorted(switch.op.name for switch in stage.feeds) for stage in step.stages] == [
        [dropout],
        [dropout, "norm2/switch"],
        [dropout, "norm1/switch", "norm2/switch"],
    ]
    statistics = {"norm1/moving_mean", "norm1/moving_variance"}, {"norm2/moving_mean", "norm2/moving_variance"}
    assert [set(op_names(stage.written)) - set(op_names(stage.variables)) for stage in step.stages] == [
        set(),
        statistics[1],
        statistics[0] | statistics[1],
    ]
    with tx.session() as sess:
        for number, written in enumerate((set(), statistics[1], statistics[0] | statistics[1])):
            before = fetch(sess)
            train(sess, step, 2, stage=number)
            changed = {name for name in moved(before, fetch(sess)) if "moving" in name}
            assert changed == written


def test_where_gamma_is_trained_the_loss_is_that_of_the_batchs_statistics_and_the_moving_ones_follow():
    images, labels = placeholders()
    logits = layers.batch_norm(layers.flatten(images)[:, :3], "norm", momentum=0.8)
    step = tx.train_step(images, labels, logits, train=tx.select("norm/gamma"), optimizer=OPTIMIZERS["sgd"])
    x = IMAGES.reshape(12, 16)[:, :3].astype(np.float64)
    batch = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3)
    with tx.session() as sess:
        losses, _ = sess.run([step.metrics["loss"], step.stages[0].apply], feeds(step))
        after = fetch(sess)
        frozen = sess.run(step.metrics["loss"], {step.images: IMAGES, step.labels: LABELS})
    np.testing.assert_allclose(losses, -np.log(softmax(batch)[range(12), LABELS]), rtol=1e-5)
    np.testing.assert_allclose(after["norm/moving_mean"], 0.2 * x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(after["norm/moving_variance"], 0.8 + 0.2 * x.var(0), rtol=1e-5)
    assert not np.allclose(losses, frozen, rtol=1e-2)


def test_dropout_is_switched_on_in_every_stage():
    step = staged(dropout=0.5)
    assert [[switch.op.name for switch in stage.feeds] for stage in step.stages] == [["HEAD/dropout1/switch"]] * 3


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


def test_the_saver_keeps_every_variable_slots_and_global_step_included(tmp_path):
    step = staged()
    with tx.session() as sess:
        for number in range(6):
            step.saver.save(sess, str(tmp_path / f"model-{number}"), write_meta_graph=False)
    saved = tx.open_weights(tmp_path / "model-0")
    assert sorted(saved) == sorted(op_names(tf.global_variables()))
    # What is kept is the run directory's to say.
    assert len(list(tmp_path.glob("*.index"))) == 6
