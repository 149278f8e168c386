"""What each stage runs: gradients, clipping, and the switches of dropout and batch normalisations."""

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
    staged,
    train,
)
from tfxfer.errors import GraphError, SelectionError
from tfxfer.graph import layers
from tfxfer.models import heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


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


def without_gradient(kind, name="CustomGradient-of-another-process"):
    """A network of two layers with an op between them that has no gradient."""
    images, labels = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int64, [None])
    x = tf.matmul(images, tf.get_variable("base", [3, 3], use_resource=True))
    if kind == "imported":  # as tf.custom_gradient leaves it in a MetaGraph of another process
        x = tf.raw_ops.IdentityN(input=[x], name="odd")[0]
        x.op._set_attr("_gradient_op_type", tf.AttrValue(s=name.encode()))
    elif kind == "function":
        x = tf.function(lambda x: tf.image.adjust_hue(x[:, None, None, :], 0.1)[:, 0, 0, :], autograph=False)(x)
    else:
        x = tf.image.adjust_hue(x[:, None, None, :], 0.1)[:, 0, 0, :]
    return images, labels, tf.matmul(x, tf.get_variable("head", [3, 3], use_resource=True))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("op", r"no gradient of adjust_hue/AdjustHue \(AdjustHue\).* and base; .*RegisterGradient\('AdjustHue'\)"),
        ("imported", r"no gradient of odd \(CustomGradient-of.*\).* and base; .*Gradient\('CustomGradient-of-another-"),
        ("function", r"no gradient of .*\(AdjustHue\), which lies between the loss and base"),
    ],
)
def test_an_op_without_a_gradient_is_named_with_what_lies_behind_it(kind, told):
    images, labels, logits = without_gradient(kind)
    with pytest.raises(GraphError, match=told):
        tx.train_step(images, labels, logits, train=".*", summaries=())
    assert tx.train_step(images, labels, tf.identity(logits), train="head", summaries=()).trained


def test_a_gradient_that_is_registered_for_a_custom_one_of_another_process_is_used():
    images, labels, logits = without_gradient("imported", "CustomGradient-registered")
    tf.RegisterGradient("CustomGradient-registered")(lambda op, *gradients: gradients)
    assert tx.train_step(images, labels, logits, train=".*", summaries=()).trained
