"""fit: what it learns, what it leaves, and that a run which is stopped or killed ends with the same bits."""

from __future__ import annotations

import fcntl
import json
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
from tfxfer.data import Data, Split
from tfxfer.errors import DataError, RunError
from tfxfer.models import autoencoder, heads

ROOT = Path(__file__).resolve().parents[2]


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


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path):
    runs = [Small().fit(two_classes(), tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert tensors(runs[0].last) == tensors(runs[1].last)
    assert tensors(runs[0].last) != tensors(runs[2].last)


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
            other.step.images, other.step.labels, tf.identity(other.step.outputs), train=tx.select("logits/.*")
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


def killed_and_whole(folder: Path, seed: int, kills: int) -> dict:
    command = [sys.executable, "-m", "tests.killing", str(folder), str(seed), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT)
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
