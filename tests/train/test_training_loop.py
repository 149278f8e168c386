"""The steps of a run: what they see and add up, when they end early, and what a signal leaves."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import signal
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.killing import Watched
from tests.train.test_fit import Small, tensors, two_classes
from tfxfer import callables
from tfxfer.data import Data, Split
from tfxfer.errors import DivergedError, GraphError, RunError
from tfxfer.train import training, training_loop


def test_fit_counts_every_example_once_an_epoch_the_short_last_batch_included(tmp_path):
    seen = []

    class Recording(Watched):
        def __getitem__(self, indices):
            seen.append(indices)
            return super().__getitem__(indices)

    data = two_classes(train=50)
    recorded = dataclasses.replace(data, train=Split(Recording(data.train.images, int), data.train.labels))
    Small().fit(recorded, tmp_path / "run", epochs=2)
    epochs = np.concatenate(seen[:7]), np.concatenate(seen[7:])
    assert [len(indices) for indices in seen] == [8, 8, 8, 8, 8, 8, 2] * 2
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert list(epochs[0]) != list(epochs[1])


def test_epoch_means_weigh_each_example_the_same(tmp_path):
    """With nothing to learn (rate 0), the epoch's mean must be that of one pass over all examples."""
    small, data = Small(learning_rate=0.0), two_classes(train=50)
    fitted = small.fit(data, tmp_path / "run", epochs=1)
    with small.graph.as_default(), tf.Session() as sess:
        small.step.saver.restore(sess, fitted.last)
        expected = tx.evaluate(sess, small.step, data.train).metrics
    assert fitted.history[0]["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert fitted.history[0]["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-12)


def test_a_loss_of_another_length_than_the_batch_is_refused(tmp_path):
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
        logits = tx.graph.layers.dense(images, 2, "logits", activation=None)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        step = tx.train_step(images, labels, logits, train="logits/.*", loss=tf.concat([loss] * 3, 0))
        examples = (np.zeros((16, 4), np.float32), np.arange(16) % 2)
        data = Data(examples, examples, examples, class_names=("a", "b"))
        said = "a batch of 8 examples must have a value of each metric for each, and loss has 24"
        with tx.session() as sess, pytest.raises(GraphError, match=said):
            tx.fit(sess, step, data, epochs=1, batch_size=8, logdir=tmp_path / "run")


@pytest.fixture
def ways(monkeypatch) -> set[bool]:
    """Whether steps ran in the calling thread; a few count as many."""
    monkeypatch.setattr(training_loop, "MANY", 1)
    ways = set()

    def recorded(*arguments, in_caller=False):
        call = callables.compiled(*arguments, in_caller=in_caller)

        def made(*arrays):
            ways.add(in_caller)
            return call(*arrays)

        return made

    monkeypatch.setattr(training_loop, "compiled", recorded)
    return ways


def test_steps_in_the_calling_thread_leave_the_same_bits(tmp_path, ways, monkeypatch):
    in_turn = Small().fit(two_classes(), tmp_path / "in_turn", epochs=3)
    assert ways == {False, True}
    monkeypatch.setattr(training_loop, "MANY", 10**9)
    as_ever = Small().fit(two_classes(), tmp_path / "as_ever", epochs=3)
    assert tensors(in_turn.last).keys() == tensors(as_ever.last).keys()
    assert all(np.array_equal(values, tensors(as_ever.last)[name]) for name, values in tensors(in_turn.last).items())


def test_ops_that_wait_for_each_other_have_the_threads_of_the_session(tmp_path, ways):
    with tf.Graph().as_default():
        images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
        logits = tx.graph.layers.dense(images, 2, "fc")
        taken = tf.raw_ops.Unstage(dtypes=[tf.float32], shared_name="area")  # first: alone it would wait for ever
        put = tf.raw_ops.Stage(values=[images], shared_name="area")
        step = tx.train_step(images, labels, logits, train=[".*"], updates=[put, taken[0].op])
        rows = Split(np.eye(4, dtype=np.float32).repeat(4, axis=0), np.arange(16) % 2)
        with tx.session() as sess:
            assert tx.fit(sess, step, Data(rows, rows, rows, ("a", "b")), epochs=2, logdir=tmp_path / "run").steps > 1
    assert ways == {False}


def test_early_stopping_counts_validations_that_were_not_better(tmp_path):
    fitted = Small(learning_rate=0.0).fit(two_classes(), tmp_path / "run", epochs=9, patience=2)
    assert (fitted.steps, fitted.stopped_early) == (21, True)
    assert fitted.best.endswith("best/model.ckpt-7")
    again = Small(learning_rate=0.0).fit(two_classes(), tmp_path / "run", epochs=9, patience=2)
    assert again == fitted


def test_nan_stops_the_run_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    data = two_classes()
    small = Small(learning_rate=lambda step: tf.where(step < 7, 0.01, float("inf")))
    with pytest.raises(DivergedError, match=r"after step 14|not finite at step (8|9)\b.*model.ckpt-7"):
        small.fit(data, tmp_path / "run", epochs=2)
    assert all(np.isfinite(value).all() for value in tx.open_weights(tmp_path / "run").values())


def test_a_write_that_fails_does_not_hide_that_the_loss_is_not_finite(tmp_path, monkeypatch, caplog):
    diverged, tell = threading.Event(), training_loop.TrainingLoop._diverged

    def save(*_):
        assert diverged.wait(60)
        raise RunError("there is no room")

    def told(loop, what):
        diverged.set()
        return tell(loop, what)

    monkeypatch.setattr(training.Training, "_save", save)
    monkeypatch.setattr(training_loop.TrainingLoop, "_diverged", told)
    small = Small(learning_rate=lambda step: tf.where(step < 7, 0.01, float("inf")))
    with pytest.raises(DivergedError, match="the run has no checkpoint yet; lower `learning_rate`"):
        small.fit(two_classes(), tmp_path / "run", epochs=2)
    assert "there is no room" in caplog.messages


def test_a_checkpoint_that_is_not_finite_is_never_written(tmp_path):
    """One step an epoch: the loss of step 1 is finite, the variables after it are not."""
    with pytest.raises(DivergedError, match="not finite"):
        Small(learning_rate=lambda step: float("inf")).fit(two_classes(), tmp_path / "run", batch_size=50, epochs=3)
    assert not list((tmp_path / "run").rglob("*.index"))


def test_train_log_has_a_line_for_each_epoch_with_its_time(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    lines = (tmp_path / "run/train.log").read_text().splitlines()
    assert sum("validation" in line for line in lines) == 2
    assert all(line[:4].isdigit() and line[13] == ":" for line in lines)
    assert logging.getLogger("tfxfer").handlers == []


def signalled(data: Data, number: int) -> Data:
    """Send this process a signal when the batch of step 10 is taken."""
    count = itertools.count(1)
    images = Watched(data.train.images, lambda: os.kill(os.getpid(), number) if next(count) == 10 else None)
    return dataclasses.replace(data, train=Split(images, data.train.labels))


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_saves_first_and_the_run_goes_on_to_the_same_bits(tmp_path, number, error):
    data = two_classes()
    whole = Small().fit(data, tmp_path / "whole")
    with pytest.raises(error) as raised:
        Small().fit(signalled(data, number), tmp_path / "run")
    if error is SystemExit:
        assert raised.value.code == 128 + number
    assert tx.open_weights(tmp_path / "run").checkpoint.endswith("model.ckpt-10")
    assert signal.getsignal(number) is not None
    resumed = Small().fit(data, tmp_path / "run")
    assert tensors(resumed.last) == tensors(whole.last)
    assert resumed.history == whole.history
    assert "saved at step 10" in (tmp_path / "run/train.log").read_text()


def test_an_ignored_sighup_stays_ignored(tmp_path):
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fitted = Small().fit(signalled(two_classes(), signal.SIGHUP), tmp_path / "run")
        assert fitted.steps == 14
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, old)
