"""What a run shows in TensorBoard: read back by TensorBoard, whole and after a stop, and that nothing of it trains."""

from __future__ import annotations

import getpass
import os
import re
import signal
import socket
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfxfer as tx
from tests.killing import Watched
from tests.train.test_fit import Small, two_classes
from tfxfer.data import Data, Split
from tfxfer.errors import MissingPackageError, RunError
from tfxfer.graph import layers
from tfxfer.graph.summary_options import DRAWN, SHOWN
from tfxfer.models import autoencoder, heads
from tfxfer.tensorboard import run_writer
from tfxfer.tensorboard.run_writer import first_kernel

EVERYTHING = tuple(SHOWN)


class Shown(Small):
    """A small classifier of which everything is shown; its second convolution is trained from epoch 2 on."""

    def __init__(self, summaries=EVERYTHING, *, stages: bool = True, activations=("conv1", "conv2"), **options):
        self.graph = tf.Graph()
        with self.graph.as_default():
            images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
            labels = tf.placeholder(tf.int64, [None], name="labels")
            ends = autoencoder.encoder(images)
            logits = heads.classifier(ends["flatten"], hidden=[6], classes=2)
            head = tx.Stage(0, tx.select("fc.*", "logits/.*"))
            later = [tx.Stage(2, tx.select("conv2/.*"))] if stages else []
            self.step = tx.train_step(
                images,
                labels,
                logits,
                stages=[head, *later],
                learning_rate=0.01,
                summaries=summaries,
                activations={name: ends[name] for name in activations},
                **options,
            )


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    return events


def steps_of(folder) -> dict[str, list[int]]:
    """Return the steps of each tag of every kind."""
    events = read(folder)
    tags = events.Tags()
    kinds = {"scalars": events.Scalars, "images": events.Images, "histograms": events.Histograms,
             "tensors": events.Tensors}  # fmt: skip
    return {tag: [event.step for event in kinds[kind](tag)] for kind in kinds for tag in tags[kind]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 4 epochs, 7 steps each, of which everything is shown."""
    run = tmp_path_factory.mktemp("whole") / "run"
    fitted = Shown().fit(two_classes(), run, epochs=4, summaries=tx.SummaryOptions(summary_steps=5))
    return run, fitted


def test_all_that_there_is_to_show_is_shown_at_the_steps_where_it_belongs(whole):
    run, _ = whole
    ends = [7, 14, 21, 28]
    train, validation = steps_of(run / "train"), steps_of(run / "validation")
    for tag in ("loss", "accuracy", "learning_rate", "gradient_norm/fc1", "weight_norm/logits"):
        assert train[tag] == [5, 10, 15, 20, 25]
    assert train["learning_rate/epoch_2_x1"] == train["gradient_norm/conv2"] == [15, 20, 25]
    assert train["epoch/loss"] == train["epoch/accuracy"] == ends
    assert train["fc1/kernel"] == [0, *ends]
    assert train["conv2/kernel"] == [0, 21, 28], "as it was, and since it is trained"
    assert train["activations/conv1"] == train["feature_maps/conv1"] == [0], "frozen: once is enough"
    assert train["activations/conv2"] == train["feature_maps/conv2"] == [0, *ends]
    assert train["filters/conv1/kernel"] == [0]
    assert all(train[f"input_image/image/{k}"] == [0] for k in range(4))
    assert {"settings", "environment", "custom_scalars__config__"} <= set(train)
    for tag in ("loss", "epoch/accuracy", "confusion", "class/0 dark/pr_curves", "class/1 bright/pr_curves"):
        assert validation[tag] == ends
    assert set(steps_of(run / "results")) >= {"validation/accuracy", "train/loss", "frozen"}
    assert (run / "train/projector_config.pbtxt").exists()
    assert read(run / "train").Graph().node
    assert read(run / "train").Tags()["run_metadata"] == ["step_10"]


def test_values_are_those_of_the_variables_and_of_the_history(whole):
    run, fitted = whole
    weights = tx.open_weights(fitted.last)
    train = read(run / "train")
    for name in ("fc1/kernel", "logits/bias", "conv2/kernel"):
        shown = train.Histograms(name)[-1].histogram_value
        assert (shown.min, shown.max) == (weights[name].min(), weights[name].max())
        assert shown.sum == pytest.approx(weights[name].sum(dtype=np.float64), rel=1e-5)
    rows = [row for row in fitted.history if row["split"] == "validation"]
    final = {tag: event.value for tag in ("validation/accuracy", "validation/loss")
             for event in read(run / "results").Scalars(tag)}  # fmt: skip
    best = min(rows, key=lambda row: (-row["accuracy"], row["loss"]))
    assert final == {f"validation/{name}": pytest.approx(best[name]) for name in ("accuracy", "loss")}


def test_the_rate_is_that_of_examples_and_every_summary_and_epoch_has_one(whole):
    rates = read(whole[0] / "train").Scalars("examples_per_second")
    assert [event.step for event in rates] == [5, 7, 10, 14, 20, 21, 25, 28]
    assert all(1 < event.value < 1e6 for event in rates)


def test_nothing_that_is_shown_changes_a_bit_of_what_is_trained(whole, tmp_path):
    plain = Shown((), activations=()).fit(two_classes(), tmp_path / "plain", epochs=4)
    default = Shown(None, activations=()).fit(two_classes(), tmp_path / "default", epochs=4)
    for other in (plain, default):
        assert other.history == whole[1].history
        ours, theirs = tx.open_weights(whole[1].last), tx.open_weights(other.last)
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)


def test_without_any_summary_there_are_scalars_alone(tmp_path):
    Shown((), activations=(), stages=False).fit(
        two_classes(), tmp_path / "run", summaries=tx.SummaryOptions(summary_steps=5)
    )
    found = set(steps_of(tmp_path / "run/train"))
    assert found == {"loss", "accuracy", "learning_rate", "epoch/loss", "epoch/accuracy", "examples_per_second",
                     "custom_scalars__config__"}  # fmt: skip
    assert not (tmp_path / "run/results").exists()
    assert not read(tmp_path / "run/train").Tags()["graph"]


def stopped_at(data: Data, number: int) -> Data:
    """Data whose batch of that number brings a Ctrl-C."""
    count = iter(range(1, 1000))
    stop = lambda: next(count) == number and os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    return Data(
        Split(Watched(data.train.images, stop), data.train.labels), data.validation, data.test, data.class_names
    )


@pytest.mark.parametrize("number", [3, 14, 17])
def test_a_run_that_was_stopped_and_went_on_has_each_curve_once(whole, tmp_path, number):
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        Shown().fit(stopped_at(two_classes(), number), run, epochs=4, summaries=tx.SummaryOptions(summary_steps=5))
    # What a kill would leave: more than the checkpoint knows of.
    Shown().fit(two_classes(), run, epochs=4, summaries=tx.SummaryOptions(summary_steps=5))
    for name in ("train", "validation", "results"):
        expected, found = (steps_of(folder / name) for folder in (whole[0], run))
        for steps in (expected, found):
            steps.pop("examples_per_second", None)
        assert found == expected, name


def test_a_finished_run_is_shown_as_it_was_and_its_projector_is_not_written_again(whole):
    run, _ = whole
    before = {name: steps_of(run / name) for name in ("train", "validation", "results")}
    config = run / "train/projector_config.pbtxt"
    written = config.stat().st_mtime_ns
    Shown().fit(two_classes(), run, epochs=4, summaries=tx.SummaryOptions(summary_steps=5))
    assert {name: steps_of(run / name) for name in before} == before
    assert config.stat().st_mtime_ns == written


def test_a_step_that_is_fed_computed_features_runs_no_frozen_layer_whatever_is_shown(tmp_path):
    small = Shown(stages=False)
    with small.graph.as_default(), tx.session() as sess:
        data = tx.precompute(sess, small.step, two_classes(), store=tmp_path / "store")
        taken = Watched(data.train.images, lambda: pytest.fail("an image was taken for a training step"))
        train = Split(taken, data.train.labels, data.train.features)
        few = {"summaries": [name for name in SHOWN if name != "projector"]}
        step = small.step
        assert set(few["summaries"]) < set(step.summaries)
        step = type(step)(**{**vars(step), "summaries": tuple(few["summaries"])})
        tx.fit(sess, step, Data(train, data.validation, data.test, data.class_names), epochs=3, batch_size=8,
               logdir=tmp_path / "run", summaries=tx.SummaryOptions(summary_steps=2))  # fmt: skip
    traced = read(tmp_path / "run/train").RunMetadata("step_10").step_stats
    ran = {stats.node_name for device in traced.dev_stats for stats in device.node_stats}
    assert any(name.startswith("TRAINED/") for name in ran)
    assert {name for name in ran if name.startswith("FROZEN/")} <= {"FROZEN/ENCODER/flatten"}
    assert "images" not in ran
    assert steps_of(tmp_path / "run/train")["activations/conv2"] == [0]


def test_an_autoencoder_without_labels_is_shown_too(tmp_path):
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
        ends = autoencoder.autoencoder(images)
        step = tx.train_step(images, None, ends["reconstruction"], loss=ends["loss"], train=tx.select(".*"),
                             summaries=EVERYTHING, activations={"conv1": ends["conv1"]})  # fmt: skip
        with tx.session() as sess:
            tx.fit(
                sess,
                step,
                two_classes(),
                epochs=2,
                batch_size=8,
                logdir=tmp_path / "run",
                summaries=tx.SummaryOptions(summary_steps=3),
            )
    train = steps_of(tmp_path / "run/train")
    assert train["filters/conv1/kernel"] == [0, 14], "before and after"
    assert train["activations/conv1"] == [0, 7, 14]
    assert "confusion" not in steps_of(tmp_path / "run/validation")
    assert {"validation/loss", "train/loss"} <= set(steps_of(tmp_path / "run/results"))


def test_one_logit_for_two_classes_is_shown_as_two(tmp_path):
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        logits = heads.classifier(layers.flatten(tf.cast(images, tf.float32) / 255), classes=2, loss="sigmoid")
        step = tx.train_step(images, labels, logits, train=tx.select(".*"), loss="sigmoid",
                             summaries=["confusion", "pr_curves", "mistakes", "images"])  # fmt: skip
        with tx.session() as sess:
            tx.fit(sess, step, two_classes(), epochs=1, batch_size=8, logdir=tmp_path / "run")
    shown = steps_of(tmp_path / "run/validation")
    assert shown["confusion"] == shown["class/1 bright/pr_curves"] == [7]
    assert first_kernel(step) == []


def test_mistakes_are_those_of_the_last_validation(tmp_path):
    data = two_classes(noise=250)
    Shown(["mistakes"], activations=()).fit(data, tmp_path / "run", epochs=2, validation_steps=4)
    assert steps_of(tmp_path / "run/validation")["mistakes"] == [12]


def test_without_matplotlib_what_it_draws_is_refused_when_asked_for_and_all_else_is_shown(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in DRAWN:
        with pytest.raises(MissingPackageError, match=r"is not installed: pip install 'tfxfer\[plots\]'"):
            Shown([name], activations=())
    others = [name for name in EVERYTHING if name not in DRAWN]
    Shown(others, activations=("conv1",)).fit(two_classes(noise=250), tmp_path / "run", epochs=2)
    assert steps_of(tmp_path / "run/validation")["class/1 bright/pr_curves"] == [7, 14]
    assert steps_of(tmp_path / "run/train")["filters/conv1/kernel"] == [0]


def test_what_is_shown_of_a_run_is_no_setting_of_it(tmp_path):
    Shown(None, activations=()).fit(two_classes(), tmp_path / "run", epochs=2)
    Shown().fit(two_classes(), tmp_path / "run", epochs=3)
    assert steps_of(tmp_path / "run/validation")["confusion"] == [21]


def test_which_images_are_shown_can_be_chosen(tmp_path):
    data = two_classes()
    Shown(["images"], activations=()).fit(data, tmp_path / "run", epochs=1, summaries=tx.SummaryOptions(shown=[7, 2]))
    events = read(tmp_path / "run/train")
    pictures = [events.Images(f"input_image/image/{k}")[0].encoded_image_string for k in range(2)]
    with tf.Graph().as_default(), tf.Session() as sess:
        found = [sess.run(tf.image.decode_png(picture)) for picture in pictures]
    assert np.array_equal(found, data.validation.images[[7, 2]])
    assert "input_image/image/2" not in events.Tags()["images"]


@pytest.mark.parametrize("shown", [[-1], [], [20, 21]])
def test_images_that_are_not_there_cannot_be_shown(tmp_path, shown):
    with pytest.raises(RunError, match=r"`shown=\[.*\]`: give places in the validation split, from 0 to 19"):
        Shown().fit(two_classes(), tmp_path / "run", summaries=tx.SummaryOptions(shown=shown))
    assert not (tmp_path / "run").exists()


def test_texts_tell_versions_and_settings_and_neither_host_nor_user_nor_path(whole, tmp_path):
    weights = tmp_path / "secret_place" / "w.npz"
    weights.parent.mkdir()
    np.savez(weights, **{"conv1/bias": np.zeros(16, np.float32)})
    small = Small()
    with small.graph.as_default():
        plan = tx.plan(tx.select("conv1/bias"), tx.open_weights(weights))
        with tx.session(plan) as sess:
            tx.fit(sess, small.step, two_classes(), epochs=1, batch_size=8, logdir=tmp_path / "run",
                   settings={"weights": str(weights), "model": "autoencoder"})  # fmt: skip
    events = read(tmp_path / "run/train")
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
             for tag in ("restore", "settings", "environment")}  # fmt: skip
    assert "restore plan: 1 of 8 variables from w.npz" in texts["restore"]
    assert "| weights | w.npz |" in texts["settings"]
    assert "| trained | fc1, logits |" in texts["settings"]
    assert f"| tensorflow | {tf.__version__} |" in texts["environment"]
    assert re.search(r"\| processors \| \d+ \|", texts["environment"])
    for text in texts.values():
        assert "secret_place" not in text
        assert str(tmp_path) not in text
        assert socket.gethostname() not in text.split()
        assert getpass.getuser() not in text.split()


def test_what_cannot_be_written_at_the_end_is_named_and_the_training_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(
        run_writer.results, "trained", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(
        RunError, match=r"cannot write for TensorBoard in .*: .*No space left; training is done, and .*-14"
    ):
        Shown(["results"], activations=()).fit(two_classes(), tmp_path / "run")
    assert (tmp_path / "run/model.ckpt-14.index").exists()


def test_the_first_kernel_is_that_of_the_layer_that_sees_the_images():
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 3], name="images")
        labels = tf.placeholder(tf.int64, [None])
        x = layers.conv2d(tf.cast(images, tf.float32), 4, 1, "mixed")
        x = layers.conv2d(layers.conv2d(x, 3, 3, "inner"), 5, 3, "conv")
        step = tx.train_step(images, labels, layers.dense(layers.flatten(x), 2, "logits"), train=tx.select(".*"))
        assert [v.op.name for v in first_kernel(step)] == ["conv/kernel"], (
            "as far as shapes tell: mixed has no filters to look at"
        )
