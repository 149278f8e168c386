"""Which variables join in which stage, and which stages are refused."""

from __future__ import annotations

import re

import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.graph.steps import deep, linear, placeholders, staged
from tfxfer.errors import GraphError, SelectionError
from tfxfer.models import heads


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


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


def test_an_epoch_belongs_to_the_last_stage_that_has_begun():
    step = staged()
    assert [step.stages.index(step.stage(epoch)) for epoch in (0, 1, 2, 3, 4, 5, 6, 100)] == [0, 0, 1, 1, 1, 2, 2, 2]
