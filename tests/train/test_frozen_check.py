"""Digests of variables that nobody trains, and what is told when one has moved."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.errors import FrozenError, RunError
from tfxfer.graph import layers
from tfxfer.train.frozen_check import check, digest, digests, frozen_variables


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def staged_step():
    """Train logits first, then norm as well; conv stays frozen throughout."""
    images = tf.placeholder(tf.float32, [None, 4, 4, 1])
    labels = tf.placeholder(tf.int64, [None])
    x = layers.batch_norm(layers.conv2d(images, 2, 3, "conv"), "norm")
    logits = layers.dense(layers.flatten(x), 2, "logits", activation=None)
    stages = [tx.Stage(0, tx.select("logits/.*")), tx.Stage(2, tx.select("norm/gamma"))]
    return tx.train_step(images, labels, logits, stages=stages)


def names_of(variables):
    return [variable.op.name for variable in variables]


def test_frozen_is_what_no_stage_so_far_writes():
    step = staged_step()
    tf.get_variable("mine", [2], trainable=False)
    first = ["conv/kernel", "conv/bias", "norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance", "mine"]
    assert names_of(frozen_variables(step, 0)) == names_of(frozen_variables(step, 1)) == first
    # Where gamma is trained, the moving statistics follow the batches; beta was not chosen.
    assert names_of(frozen_variables(step, 2)) == ["conv/kernel", "conv/bias", "norm/beta", "mine"]


def test_slots_and_global_step_are_never_frozen():
    step = staged_step()
    named = {variable.op.name for variable in tf.global_variables()}
    assert {"global_step", "logits/kernel/Adam", "norm/gamma/Adam_1", "beta1_power"} <= named
    written = named - set(names_of(frozen_variables(step, 0)))
    assert written == {"logits/kernel", "logits/bias", "global_step", *names_of(step.slots)}


def test_a_digest_is_the_sha256_of_dtype_shape_and_bytes():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert digest(array) == hashlib.sha256(b"<f4 (2, 3) " + array.tobytes()).hexdigest()
    # Run directories hold digests: never change these.
    assert digest(array) == "4fed0bbe2a904eab133fd772cb779bb1f07564156c21a036ab9cb9cd77547e5d"
    assert digest(np.int64(7)) == "b7f9feaefa8833069e245d9df6ef8bef160e8f3a9f1338b539456be870185ed6"


def test_a_digest_does_not_depend_on_how_the_array_lies_in_memory():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digest(np.asfortranarray(array)) == digest(array)
    assert digest(np.repeat(array, 2, axis=0)[::2]) == digest(array)


NAN, OTHER_NAN = (np.array([bits], np.uint32).view(np.float32) for bits in (0x7FC00000, 0x7FC00001))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(2, np.float32), np.zeros(2, np.int32)),
        (np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)),
        (np.zeros(1, np.float32), np.float32(0)),
        (np.zeros(1, np.float32), -np.zeros(1, np.float32)),
        (np.float32([1]), np.nextafter(np.float32([1]), np.float32(2))),
        (NAN, OTHER_NAN),
    ],
)
def test_digests_differ_where_a_bit_the_shape_or_the_dtype_does(one, other):
    assert digest(one) != digest(other)
    assert digest(one) == digest(one.copy())


def test_digests_are_those_of_the_values_in_the_session():
    for use_resource in (True, False):
        tf.get_variable(f"w{use_resource}", [3, 2], use_resource=use_resource)
    with tx.session() as sess:
        found = digests(sess, tf.global_variables())
        assert found == {v.op.name: digest(sess.run(v)) for v in tf.global_variables()}


def test_variables_that_did_not_move_pass():
    staged_step()
    with tx.session() as sess:
        before = digests(sess, tf.global_variables())
        check(sess, tf.global_variables(), before, "at the end")


def test_training_moves_nothing_that_is_frozen_and_all_that_is_trained():
    step = staged_step()
    frozen = frozen_variables(step, 0)
    feeds = {step.images: np.ones([3, 4, 4, 1]), step.labels: [0, 1, 1]}
    with tx.session() as sess:
        before = digests(sess, tf.global_variables())
        for _ in range(3):
            sess.run(step.stages[0].apply, feeds)
        check(sess, frozen, before, "at the end")
        with pytest.raises(FrozenError, match=r"^2 of 2 frozen variables have changed at the end:"):
            check(sess, step.stages[0].variables, before, "at the end")


def test_every_variable_that_moved_is_named_with_both_digests():
    variables = [tf.get_variable(name, initializer=np.float32([1, 2])) for name in ("a", "b", "c")]
    with tx.session() as sess:
        before = digests(sess, variables)
        for moved in variables[::2]:
            sess.run(moved.initializer, {moved.initializer.inputs[1]: np.float32([1, 3])})
        del before["c"]
        was, now = before["a"][:12], digest(np.float32([1, 3]))[:12]
        message = (
            "2 of 3 frozen variables have changed by the end of the run:\n"
            f"  a: was {was}, is {now}\n"
            f"  c: was absent, is {now}\n"
            "something other than the training step writes them"
        )
        with pytest.raises(FrozenError, match=re.escape(message)) as caught:
            check(sess, variables, before, "by the end of the run")
    assert isinstance(caught.value, RunError)
