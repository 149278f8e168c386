"""How a run begins, goes on and ends, and the proof that frozen variables did not move."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.killing import Watched
from tests.train.test_fit import Small, scalars, tensors, two_classes
from tfxfer.data import Split
from tfxfer.errors import FrozenError
from tfxfer.graph import layers
from tfxfer.models import autoencoder, heads
from tfxfer.runs.state import history as read_history


def test_a_finished_run_started_again_gives_its_result_without_a_step(tmp_path):
    first = Small().fit(two_classes(), tmp_path / "run")
    before = tensors(first.last)
    assert Small().fit(two_classes(), tmp_path / "run") == first
    assert tensors(first.last) == before


def test_epochs_may_grow_and_the_end_is_that_of_one_long_run(tmp_path):
    Small().fit(two_classes(), tmp_path / "grown", epochs=2)
    grown = Small().fit(two_classes(), tmp_path / "grown", epochs=4)
    whole = Small().fit(two_classes(), tmp_path / "whole", epochs=4)
    assert tensors(grown.last) == tensors(whole.last)
    assert grown.history == whole.history
    assert scalars(tmp_path / "grown", "train") == scalars(tmp_path / "whole", "train")


def test_the_history_has_the_learning_rate_at_the_end_of_each_epoch(tmp_path):
    small = Small(learning_rate=lambda step: tf.train.exponential_decay(0.1, step, 7, 0.5))
    fitted = small.fit(two_classes(), tmp_path / "run", epochs=3)
    rates = [row["learning_rate"] for row in fitted.history if row["split"] == "train"]
    assert rates == [pytest.approx(rate, rel=1e-6) for rate in (0.05, 0.025, 0.0125)]
    assert not any("learning_rate" in row for row in fitted.history if row["split"] == "validation")


def test_last_and_best_checkpoints_are_kept_apart(tmp_path):
    fitted = Small().fit(
        two_classes(), tmp_path / "run", epochs=4, checkpoints=tx.CheckpointOptions(keep=2, keep_best=1)
    )
    run = tmp_path / "run"
    assert sorted(file.stem for file in run.glob("*.index")) == ["model.ckpt-21", "model.ckpt-28"]
    assert [file.stem for file in (run / "best").glob("*.index")] == [Path(fitted.best).name]
    rows = [row for row in fitted.history if row["split"] == "validation"]
    best = min(rows, key=lambda row: (-row["accuracy"], row["loss"], row["step"]))
    assert fitted.best.endswith(f"best/model.ckpt-{best['step']}")


def test_the_best_checkpoint_is_by_the_metric_that_is_monitored_also_where_the_run_goes_on(tmp_path):
    data = two_classes()
    labels = np.where(np.arange(len(data.validation)) % 3, data.validation.labels, 1 - data.validation.labels)
    data = dataclasses.replace(data, validation=Split(data.validation.images, labels))  # a third of them are wrong

    def best(monitor, epochs):
        checkpoints = tx.CheckpointOptions(keep_best=3, monitor=monitor)
        fitted = Small(learning_rate=0.003).fit(data, tmp_path / "run", epochs=epochs, checkpoints=checkpoints)
        rows = [row for row in fitted.history if row["split"] == "validation"]
        wanted = {
            "accuracy": min(rows, key=lambda row: (-row["accuracy"], row["loss"])),
            "loss": min(rows, key=lambda row: row["loss"]),
        }
        assert wanted["accuracy"]["step"] != wanted["loss"]["step"]
        assert read_history(tmp_path / "run")[1] == int(fitted.best.rpartition("-")[2])
        return {name: row["step"] for name, row in wanted.items()}, int(fitted.best.rpartition("-")[2])

    wanted, ended = best("accuracy", 3)
    assert ended == wanted["accuracy"] == best("loss", 3)[1]  # which has ended
    wanted, ended = best("loss", 4)
    assert ended == wanted["loss"]


def test_patience_counts_by_the_metric_of_now_and_a_best_that_is_not_kept_is_told(tmp_path, caplog):
    data = two_classes()
    labels = np.where(np.arange(len(data.validation)) % 3, data.validation.labels, 1 - data.validation.labels)
    data = dataclasses.replace(data, validation=Split(data.validation.images, labels))

    def fit(monitor, **options):
        checkpoints = tx.CheckpointOptions(monitor=monitor)
        return Small(learning_rate=0.003).fit(data, tmp_path / "run", checkpoints=checkpoints, **options)

    ended = fit("accuracy", epochs=8, patience=1)
    assert (ended.stopped_early, ended.epochs) == (True, 3)
    rows = [row["loss"] for row in ended.history if row["split"] == "validation"]
    assert rows == sorted(rows, reverse=True)  # by the loss, each was better
    on = fit("loss", epochs=8, patience=1)
    assert "by loss, step 21 was the best so far, and its checkpoint is not kept" in caplog.text
    validations = [row for row in on.history if row["split"] == "validation"]
    best = min(validations, key=lambda row: row["loss"])["step"]
    assert on.epochs > 3
    assert best > 21
    assert on.best.endswith(f"best/model.ckpt-{best}")


def test_a_frozen_variable_that_somebody_assigns_to_in_mid_run_fails_the_run_by_name(tmp_path):
    def meddle():
        if small.sess.run(small.step.global_step) == 9:
            kernel = small.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)[0]
            value = small.sess.run(kernel)
            value[0, 0, 0, 0] += 1e-7
            small.sess.run(kernel.initializer, {kernel.initializer.inputs[1]: value})

    small, data = Small(), two_classes()
    meddled = dataclasses.replace(data, train=Split(Watched(data.train.images, meddle), data.train.labels))
    with pytest.raises(
        FrozenError, match=r"(?s)1 of 4 frozen variables have changed by the end of the run.*conv1/kernel"
    ):
        small.fit(meddled, tmp_path / "run")
    with pytest.raises(FrozenError, match="where the run goes on"):
        Small().fit(data, tmp_path / "run")


def test_features_of_other_frozen_weights_than_the_run_began_with_are_refused(tmp_path):
    data = two_classes()

    def fit(step, epochs):
        with tx.session() as sess:
            features = tx.precompute(sess, step, data, store=tmp_path / "store")
            return tx.fit(sess, step, features, epochs=epochs, batch_size=8, logdir=tmp_path / "run")

    for epochs, seed in ((1, 0), (2, 0), (3, 1)):
        with tf.Graph().as_default():
            tf.set_random_seed(seed)
            images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
            labels = tf.placeholder(tf.int64, [None], name="labels")
            logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[6], classes=2)
            step = tx.train_step(images, labels, logits, train=tx.select("fc.*", "logits/.*"))
            if seed:
                with pytest.raises(FrozenError, match="before features were computed"):
                    fit(step, epochs)
            else:
                assert fit(step, epochs).epochs == epochs


def test_frozen_json_holds_digests_of_all_that_is_not_trained(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    record = json.loads((tmp_path / "run/frozen.json").read_text())
    assert list(record["variables"]) == ["conv1/kernel", "conv1/bias", "conv2/kernel", "conv2/bias"]
    assert record["checks"] == [
        {"step": 1, "when": "after the first step of this start", "unchanged": 4},
        {"step": 14, "when": "by the end of the run", "unchanged": 4},
    ]


def test_moving_statistics_move_only_in_the_stage_that_trains_their_layer(tmp_path):
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 1])
        labels = tf.placeholder(tf.int64, [None])
        x = layers.batch_norm(tf.cast(images, tf.float32), "norm")
        logits = heads.classifier(x, classes=2)
        stages = [tx.Stage(0, tx.select("logits/.*")), tx.Stage(1, tx.select("norm/gamma"))]
        step = tx.train_step(images, labels, logits, stages=stages, learning_rate=0.01)
        with tx.session() as sess:
            fitted = tx.fit(sess, step, two_classes(), epochs=2, batch_size=8, logdir=tmp_path / "run")
    record = json.loads((tmp_path / "run/frozen.json").read_text())
    assert list(record["variables"]) == ["norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance"]
    assert [check["unchanged"] for check in record["checks"]] == [4, 4, 1]
    weights = tx.open_weights(fitted.last)
    assert weights["norm/moving_mean"] != 0
    assert weights["norm/beta"] == 0
