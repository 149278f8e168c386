"""fit: what it learns, what it leaves, and that a run which is stopped or killed ends with the same bits."""

from __future__ import annotations

import dataclasses
import fcntl
import itertools
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfxfer as tx
from tests.killing import Watched
from tfxfer.data import Data, Split
from tfxfer.errors import DataError, DivergedError, FrozenError, RunError
from tfxfer.graph import layers
from tfxfer.models import autoencoder, heads
from tfxfer.runs.state import history

KILLING = Path(__file__).parents[1] / "killing.py"


def two_classes(train: int = 50, noise: int = 40) -> Data:
    """Bright and dark pictures, 8x8, that a linear classifier tells apart."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, train + 40)
    labels[:2] = 0, 1
    images = (labels[:, None, None, None] * 100 + generator.integers(0, noise, (train + 40, 8, 8, 1))).astype(np.uint8)
    bounds = ((0, train), (train, train + 20), (train + 20, train + 40))
    return Data(*(Split(images[a:b], labels[a:b]) for a, b in bounds), class_names=("dark", "bright"))


class Small:
    """A small classifier in a graph of its own, trained by `fit`."""

    def __init__(self, **options):
        self.graph = tf.Graph()
        with self.graph.as_default():
            images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
            labels = tf.placeholder(tf.int64, [None], name="labels")
            features = autoencoder.encoder(images)["flatten"]
            logits = heads.classifier(features, hidden=[6], classes=2)
            options = {"train": tx.select("fc.*", "logits/.*"), "learning_rate": 0.01} | options
            self.step = tx.train_step(images, labels, logits, **options)

    def fit(self, data, logdir, **options):
        with self.graph.as_default(), tx.session() as self.sess:
            return tx.fit(self.sess, self.step, data, **({"epochs": 2, "batch_size": 8, "logdir": logdir} | options))


def scalars(run: Path, writer: str) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows: tag to (step, value), but for what a clock says."""
    events = EventAccumulator(str(run / writer), size_guidance={"scalars": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"]) - {"examples_per_second"}
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def tensors(prefix: str | Path) -> dict[str, bytes]:
    weights = tx.open_weights(prefix)
    return {name: weights[name].tobytes() for name in weights}


def test_fit_learns_and_tells_what_it_did(tmp_path):
    fitted = Small().fit(two_classes(), tmp_path / "run", epochs=5)
    assert (fitted.steps, fitted.epochs, fitted.stopped_early) == (35, 5, False)
    validations = [row for row in fitted.history if row["split"] == "validation"]
    assert [row["step"] for row in validations] == [7, 14, 21, 28, 35]
    assert validations[-1]["accuracy"] > 0.9
    assert validations[-1]["loss"] < validations[0]["loss"]
    assert fitted.last == str(tmp_path / "run/model.ckpt-35")


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


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path):
    runs = [Small().fit(two_classes(), tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert tensors(runs[0].last) == tensors(runs[1].last)
    assert tensors(runs[0].last) != tensors(runs[2].last)


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


def test_a_run_directory_that_was_moved_is_found_by_tensorflow_and_by_us(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert tf.train.latest_checkpoint(str(tmp_path / "moved")) == str(tmp_path / "moved/model.ckpt-14")
    assert tx.open_weights(tmp_path / "moved").checkpoint == str(tmp_path / "moved/model.ckpt-14")
    assert Small().fit(two_classes(), tmp_path / "moved").steps == 14


def test_a_checkpoint_restores_with_its_meta_graph_and_a_stock_saver(tmp_path):
    fitted = Small().fit(two_classes(), tmp_path / "run")
    with tf.Graph().as_default(), tf.Session() as sess:
        saver = tf.train.import_meta_graph(fitted.last + ".meta")
        saver.restore(sess, fitted.last)
        assert sess.run("fc1/kernel/Read/ReadVariableOp:0").tobytes() == tensors(fitted.last)["fc1/kernel"]


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


def test_any_other_changed_setting_is_refused_and_all_of_them_are_listed(tmp_path):
    Small().fit(two_classes(), tmp_path / "run", settings={"weights": "a"})
    with pytest.raises(
        RunError,
        match=r'(?s)other settings:.*`weights`: was "a", now "b".*`batch_size`: was 8, now 9.*`overwrite=True`',
    ):
        Small().fit(two_classes(), tmp_path / "run", settings={"weights": "b"}, batch_size=9)
    with pytest.raises(RunError, match="`epochs`: was 2, now 1"):
        Small().fit(two_classes(), tmp_path / "run", settings={"weights": "a"}, epochs=1)


def test_what_is_trained_is_a_setting_too(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    other = Small()
    with other.graph.as_default():
        other.step = tx.train_step(
            other.step.images, other.step.labels, other.step.outputs, train=tx.select("logits/.*")
        )
    with pytest.raises(RunError, match="`stages`: was"):
        other.fit(two_classes(), tmp_path / "run")


@pytest.mark.parametrize(("before", "after", "told"), [
    ({}, {"l2": 0.5}, r"`l2`: was not set, now 0\.5"),
    ({"l2": 0.5}, {"l2": 0.25}, r"`l2`: was 0\.5, now 0\.25"),
    ({"class_weights": [1, 2]}, {}, r"`class_weights`: was \[1\.0, 2\.0\], now not set"),
    ({"class_weights": [1, 2]}, {"class_weights": [1, 3]}, r"`class_weights`: was \[1\.0, 2\.0\], now \[1\.0, 3\.0\]"),
])  # fmt: skip
def test_l2_and_class_weights_are_settings_too(tmp_path, before, after, told):
    Small(**before).fit(two_classes(), tmp_path / "run")
    assert Small(**before).fit(two_classes(), tmp_path / "run").steps == 14
    with pytest.raises(RunError, match=told):
        Small(**after).fit(two_classes(), tmp_path / "run")


def test_the_history_of_a_run_can_be_read_from_its_directory(tmp_path):
    fitted = Small().fit(two_classes(), tmp_path / "run", epochs=3, checkpoints=tx.CheckpointOptions(keep=1))
    rows, best = history(tmp_path / "run")
    assert tuple(rows) == fitted.history
    assert [(row["epoch"], row["split"]) for row in rows] == [
        (epoch, split) for epoch in (1, 2, 3) for split in ("train", "validation")
    ]
    assert fitted.best.endswith(f"-{best}")


def test_a_run_without_a_checkpoint_has_no_history_yet(tmp_path):
    with pytest.raises(RunError, match="is not a run directory: it is empty"):
        history(tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(RunError, match="has no checkpoint, and so no history; training writes one after"):
        history(tmp_path)


def test_the_history_has_the_learning_rate_at_the_end_of_each_epoch(tmp_path):
    small = Small(learning_rate=lambda step: tf.train.exponential_decay(0.1, step, 7, 0.5))
    fitted = small.fit(two_classes(), tmp_path / "run", epochs=3)
    rates = [row["learning_rate"] for row in fitted.history if row["split"] == "train"]
    assert rates == [pytest.approx(rate, rel=1e-6) for rate in (0.05, 0.025, 0.0125)]
    assert not any("learning_rate" in row for row in fitted.history if row["split"] == "validation")


def test_overwrite_moves_the_old_run_aside(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    old = tensors(tmp_path / "run")
    Small().fit(two_classes(), tmp_path / "run", batch_size=9, overwrite=True)
    assert tensors(tmp_path / "run.old-1") == old
    Small().fit(two_classes(), tmp_path / "run", batch_size=10, overwrite=True)
    assert tensors(tmp_path / "run.old-1") == old
    assert (tmp_path / "run.old-2/settings.json").exists()


def test_a_directory_with_files_and_no_run_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"holds files and no run \(thesis.tex\)"):
        Small().fit(two_classes(), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_logdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="is a file"):
        Small().fit(two_classes(), tmp_path / "run")


def test_a_run_directory_in_use_is_refused_and_the_holder_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run/.lock").open("w") as file:
        file.write("4321")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="in use by process 4321"):
            Small().fit(two_classes(), tmp_path / "run")
    assert Small().fit(two_classes(), tmp_path / "run").steps == 14


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


def test_a_checkpoint_that_is_not_finite_is_never_written(tmp_path):
    """One step an epoch: the loss of step 1 is finite, the variables after it are not."""
    with pytest.raises(DivergedError, match="not finite"):
        Small(learning_rate=lambda step: float("inf")).fit(two_classes(), tmp_path / "run", batch_size=50, epochs=3)
    assert not list((tmp_path / "run").rglob("*.index"))


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


def test_a_lost_frozen_json_is_an_error(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    (tmp_path / "run/frozen.json").unlink()
    with pytest.raises(RunError, match=r"has lost its frozen\.json"):
        Small().fit(two_classes(), tmp_path / "run")


def test_a_corrupt_last_checkpoint_is_named_with_the_cure(tmp_path):
    fitted = Small().fit(two_classes(), tmp_path / "run", epochs=2)
    data = Path(fitted.last + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"cannot go on from .*model.ckpt-14: .*delete its files"):
        Small().fit(two_classes(), tmp_path / "run")
    for file in (tmp_path / "run").glob("model.ckpt-14.*"):
        file.unlink()
    assert Small().fit(two_classes(), tmp_path / "run").steps == 14


@pytest.mark.parametrize(("options", "message"), [
    ({"epochs": 0}, "`epochs=0`: must be 1 or more"),
    ({"batch_size": 0}, "must be 1 or more"),
    ({"checkpoints": tx.CheckpointOptions(keep=0), "patience": 0}, "`keep=0`, `patience=0`: must be"),
    ({"validation_steps": 15}, "would never be validated"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises((RunError, DataError), match=message):
        Small().fit(two_classes(), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_examples_that_do_not_fit_the_model_are_refused_before_anything_is_written(tmp_path):
    data = two_classes()
    three = Data(Split(data.train.images, data.train.labels + 1), data.validation, data.test, ("a", "b", "c"))
    with pytest.raises(DataError, match="train cannot be fed to the model: the model has 2 classes"):
        Small().fit(three, tmp_path / "run")
    wide = Data(
        Split(np.zeros((9, 8, 9, 1), np.uint8), np.zeros(9, np.int64)), data.validation, data.test, data.class_names
    )
    with pytest.raises(DataError, match="its images are"):
        Small().fit(wide, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_reads_back_every_curve(tmp_path):
    fitted = Small().fit(two_classes(), tmp_path / "run", epochs=3, summaries=tx.SummaryOptions(summary_steps=2))
    train, validation = scalars(tmp_path / "run", "train"), scalars(tmp_path / "run", "validation")
    assert [step for step, _ in train["loss"]] == [*range(2, 22, 2)]
    norms = {f"{what}_norm/{layer}" for what in ("gradient", "weight") for layer in ("fc1", "logits")}
    assert set(train) == {"loss", "accuracy", "learning_rate", "epoch/loss", "epoch/accuracy"} | norms
    rows = [row for row in fitted.history if row["split"] == "validation"]
    assert validation["accuracy"] == [(row["step"], pytest.approx(row["accuracy"])) for row in rows]
    assert validation["loss"] == [(row["step"], pytest.approx(row["loss"])) for row in rows]
    epochs = [row for row in fitted.history if row["split"] == "train"]
    assert train["epoch/loss"] == [(row["step"], pytest.approx(row["loss"])) for row in epochs]


def test_tensorboard_has_histograms_of_what_is_trained_images_graph_and_texts(tmp_path):
    Small().fit(
        two_classes(),
        tmp_path / "run",
        epochs=3,
        summaries=tx.SummaryOptions(summary_steps=5),
        settings={"weights": "here"},
    )
    events = EventAccumulator(str(tmp_path / "run/train"))
    events.Reload()
    tags = events.Tags()
    assert tags["histograms"] == ["fc1/kernel", "fc1/bias", "logits/kernel", "logits/bias"]
    assert sorted(tags["images"]) == ["filters/conv1/kernel", *(f"input_image/image/{k}" for k in range(4))]
    assert len(events.Images("input_image/image/0")) == 1
    assert tags["graph"]
    assert events.Graph().node
    text = events.Tensors("settings")[0].tensor_proto.string_val[0].decode()
    assert "| weights | here |" in text


def test_train_log_has_a_line_for_each_epoch_with_its_time(tmp_path):
    Small().fit(two_classes(), tmp_path / "run")
    lines = (tmp_path / "run/train.log").read_text().splitlines()
    assert sum("validation" in line for line in lines) == 2
    assert all(line[:4].isdigit() and line[13] == ":" for line in lines)
    assert logging.getLogger("tfxfer").handlers == []


def killed_and_whole(folder: Path, seed: int, kills: int) -> dict:
    command = [sys.executable, str(KILLING), str(folder), str(seed), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def check_killed_run(folder: Path, seed: int, kills: int) -> None:
    result = killed_and_whole(folder, seed, kills)
    assert sum(os.WIFSIGNALED(end) for _, end in result["ends"]) >= min(kills, 2)
    assert result["killed"] == result["whole"]
    for writer in ("train", "validation"):
        assert scalars(folder / "killed", writer) == scalars(folder / "whole", writer)
    assert "go on from step" in (folder / "killed/train.log").read_text()
    assert not [*(folder / "killed").rglob("*.part"), *(folder / "killed").rglob(".saving")]


def test_a_run_killed_before_its_first_checkpoint_in_a_save_and_at_random_equals_one_left_alone(tmp_path):
    check_killed_run(tmp_path, seed=1, kills=5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_twenty_times_equals_one_left_alone(tmp_path, seed):
    check_killed_run(tmp_path, seed, kills=20)


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


def test_a_full_disk_while_saving_leaves_the_checkpoint_before_whole(tmp_path):
    """A limit on the size of files stands in for a full disk: writing past it fails in the same place."""
    data = two_classes()
    Small().fit(data, tmp_path / "run", epochs=1)
    before = tensors(tmp_path / "run")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"cannot (save|write).*"):
            Small().fit(data, tmp_path / "run", epochs=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert tensors(tmp_path / "run") == before
    whole = Small().fit(data, tmp_path / "whole", epochs=2)
    assert tensors(Small().fit(data, tmp_path / "run", epochs=2).last) == tensors(whole.last)


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
