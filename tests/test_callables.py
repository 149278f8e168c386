"""Callables of a session: the bits of `Session.run`, and its errors in one line."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.graph import steps
from tfxfer.callables import Quickest, compiled, message


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


def behind_branches_and_loops(*, v2):
    """A network with reference variables, a branch, a loop and a moving average of its weights."""
    (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
    images, labels = steps.placeholders()
    x = tf.reshape(images, [-1, 16])
    with tf.variable_scope("plain", use_resource=v2):
        kernel = tf.get_variable("kernel", [16, 16])
        x = tf.while_loop(lambda x: tf.reduce_sum(x) < 10, lambda x: x + tf.abs(tf.matmul(x, kernel)), [x])
        x = tf.cond(tf.reduce_sum(x) > 20, lambda: tf.nn.relu(x), lambda: tf.nn.relu(-x))
        logits = tf.matmul(x, tf.get_variable("last", [16, 3]))
    average = tf.train.ExponentialMovingAverage(0.9).apply(tf.trainable_variables())
    return tx.train_step(images, labels, logits, train=[".*kernel", ".*last"], updates=[average], clip_norm=1.0)


BUILDERS = {
    "branches and loops, v1": lambda: behind_branches_and_loops(v2=False),
    "branches and loops, v2": lambda: behind_branches_and_loops(v2=True),
    "batch normalisation": lambda: steps.normalised(train=lambda: [".*"]),
    "schedule": lambda: steps.staged(learning_rate=lambda step: tf.train.exponential_decay(0.1, step, 2, 0.5)),
    **{
        name: lambda optimizer=optimizer: steps.deep(
            optimizer=optimizer, train=lambda: [".*"], l2=1e-2, clip_norm=0.5, dropout=0.3
        )
        for name, optimizer in steps.OPTIMIZERS.items()
    },
}


@pytest.fixture
def control_flow():
    before = tf.control_flow_v2_enabled()
    yield
    (tf.enable_control_flow_v2 if before else tf.disable_control_flow_v2)()


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.usefixtures("control_flow")
def test_steps_have_the_same_bits_in_the_threads_of_the_session_and_in_the_calling_one(name):
    tf.set_random_seed(3)
    step = BUILDERS[name]()
    results = []
    first: dict[str, np.ndarray] = {}
    for in_caller in (False, True):
        with tx.session() as sess:
            for variable, value in first.items():
                steps.load(sess, variable, value)
            first = first or steps.fetch(sess)
            for stage in step.stages:
                fed = {step.images: steps.IMAGES, step.labels: steps.LABELS, **stage.feeds}
                call = compiled(sess, list(step.metrics.values()), list(fed), [stage.apply], in_caller=in_caller)
                metrics = [call(*fed.values()) for _ in range(4)]
            results.append({**steps.fetch(sess), "metrics": np.array(metrics)})
    assert steps.moved(first, results[0])
    assert not steps.moved(*results)


def test_of_functions_that_do_the_same_the_quickest_is_called_in_the_end():
    now, calls = [0], []

    def taking(time):
        def call(value):
            now[0] += time
            calls.append(time)
            return -value

        return call

    quickest = Quickest([taking(5), taking(2), taking(3)], tries=2, clock=lambda: now[0])
    assert [quickest(value) for value in range(10)] == [-value for value in range(10)]
    assert calls == [5, 2, 3, 5, 2, 3, 2, 2, 2, 2]
    assert Quickest([taking(9)])(1) == -1
