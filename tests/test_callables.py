"""Callables of a session: the bits of `Session.run`, and its errors in one line."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.callables import compiled, message


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def adding():
    """Return a placeholder and a switch, what they give, and an op that counts how often it ran."""
    x, switch = tf.placeholder(tf.float32, [None, 3], "x"), tf.placeholder(tf.bool, [], "switch")
    sums = tf.reduce_sum(x, axis=1) + tf.cast(switch, tf.float32)
    count = tf.get_variable("count", [], tf.int64, tf.zeros_initializer())
    return [x, switch], sums, count, count.assign_add(1).op


def test_what_is_compiled_gives_what_run_gives_and_runs_the_ops(adding):
    feeds, sums, count, op = adding
    with tx.session() as sess:
        call = compiled(sess, [sums, count.initial_value, sums], feeds, [op])
        for rows in (2, 5):
            x = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
            expected = sess.run([sums, count.initial_value, sums], dict(zip(feeds, [x, True], strict=True)))
            assert [value.tobytes() for value in call(x, True)] == [value.tobytes() for value in expected]
        assert sess.run(count) == 2
        assert call(np.ones([1, 3], np.int32), False)[0] == 3, "cast to what the placeholder holds"


def test_what_is_compiled_works_in_a_session_on_a_server_too(adding):
    feeds, sums, count, op = adding
    server = tf.distribute.Server.create_local_server()
    with tf.Session(server.target) as sess:
        sess.run(count.initializer)
        call = compiled(sess, [sums], feeds, [op])
        assert call(np.ones([2, 3], np.float32), True)[0].tolist() == [4, 4]
        assert sess.run(count) == 1


def test_an_error_in_what_is_compiled_is_one_of_tensorflows():
    x = tf.placeholder(tf.float32, [None])
    checked = tf.debugging.check_numerics(x, "broken")
    with tx.session() as sess, pytest.raises(tf.errors.InvalidArgumentError, match="broken") as raised:
        compiled(sess, [checked], [x])(np.float32([np.nan]))
    assert message(raised.value).startswith("broken")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("one line"), "one line"),
        (ValueError("first\nsecond"), "first"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (tf.errors.NotFoundError(None, None, "x; No such file\n\t [[{{node save}}]]"), "x; No such file"),
        (
            tf.errors.DataLossError(
                None,
                None,
                "Graph execution error:\n\nDetected at node 'save/RestoreV2' defined at (most recent call last):\n"
                "    File \"x.py\", line 1, in <module>\nNode: 'save/RestoreV2'\nChecksum does not match: 1 vs. 2\n"
                "\t [[{{node save/RestoreV2}}]]\n\nOriginal stack trace for 'save/RestoreV2':\n  File",
            ),
            "Checksum does not match: 1 vs. 2",
        ),
    ],
)
def test_of_an_error_the_line_that_says_what_happened_is_told(error, told):
    assert message(error) == told
