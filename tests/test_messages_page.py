"""docs/messages.md: what it quotes is what is said, by the very mistake that its text names."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

import tfxfer as tx
from tests.pages import blocks, shows
from tfxfer import processor
from tfxfer.errors import TfxferError
from tfxfer.tools import _main
from tfxfer.train.run_directory import opened

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/messages.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (.*)\n((?:(?!##).*\n)*)", PAGE, re.MULTILINE))
MISTAKES: dict[str, Callable[[], object]] = {}
WITHOUT_A_GRAPH = "TensorFlow executes eagerly"


def mistake(heading: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Register what provokes the message under a heading of the page."""

    def register(provoke: Callable[[], object]) -> Callable[[], object]:
        MISTAKES[heading] = provoke
        return provoke

    return register


# --- what the mistakes are made with ---


def convolutions() -> None:
    """Build the convolutions that the file holds."""
    tx.models.autoencoder.encoder(tf.placeholder(tf.uint8, [None, 28, 28, 1], "images"))


def hidden(x):
    """Put a layer on a tensor, which is frozen where `logits` is trained."""
    return tx.graph.layers.dense(x, 4, "fc1")


def linear(before=lambda x: x, train="logits/.*", **options):
    """Build a step of a linear layer on numbers, or on what is made of them."""
    rows, labels = tf.placeholder(tf.float32, [None, 4], "numbers"), tf.placeholder(tf.int64, [None], "labels")
    return tx.train_step(rows, labels, tx.models.heads.classifier(before(rows), classes=3), train=train, **options)


def numbers() -> tx.Data:
    x, y = np.random.default_rng(0).random((60, 4), np.float32), np.arange(60) % 3
    parts = (slice(0, 20), slice(20, 40), slice(40, 60))
    return tx.Data(*(tx.Split(x[part], y[part]) for part in parts), class_names=("a", "b", "c"))


def fit(step=None, data=None, logdir="runs/mine", **options):
    step = step or linear()
    with tx.session() as sess:
        return tx.fit(sess, step, data or numbers(), epochs=1, logdir=logdir, **options)


def pictures(top: str, **classes: int) -> None:
    for name, count in classes.items():
        Path(top, name).mkdir(parents=True)
        for number in range(count):
            shade = np.full((8, 8, 3), number, np.uint8)
            Image.fromarray(shade).save(Path(top, name, f"{number}.png"))


def export(factor) -> None:
    """Export a linear layer on scaled pixels."""

    def build(images):
        x = tf.cast(tx.graph.layers.flatten(images), tf.float32) * factor()
        return {"prob": tf.nn.softmax(tx.graph.layers.dense(x, 2, "logits"))}

    np.savez("weights.npz", **{"logits/kernel": np.ones((64, 2), np.float32), "logits/bias": np.ones(2, np.float32)})
    spec = tx.InputSpec("mine", "my own", (8, 8), "grey", mean=(0.0,), scale=(1.0,))
    tx.export_model(build, tx.open_weights("weights.npz"), spec, "served")


def tool(words: str) -> int:
    return _main.main(words.split())


# --- restoring ---


@mistake("Cannot restore")
def _():
    with tf.variable_scope("encoder"):
        convolutions()
    tx.plan("encoder/conv.*", "runs/convolutions")


@mistake("Another shape")
def _():
    tf.get_variable("conv1/kernel", [5, 5, 3, 16])
    tx.plan("conv1/kernel", "runs/convolutions")


@mistake("Another dtype")
def _():
    tf.get_variable("conv1/bias", [16], tf.float16)
    tx.plan("conv1/bias", "runs/convolutions")


@mistake("A pattern matches nothing")
def _():
    convolutions()
    tx.select("conv")


@mistake("A pattern is not a regular expression")
def _():
    convolutions()
    tx.select("conv(.*")


@mistake("Variables are left out")
def _():
    np.savez("weights.npz", **{"bn/gamma": np.ones(4, np.float32), "bn/moving_mean": np.ones(4, np.float32)})
    mean = tf.get_variable("bn/moving_mean", [4], trainable=False)
    tf.identity(tf.placeholder(tf.float32, [None, 4]) * tf.get_variable("bn/gamma", [4]) - mean)
    with tx.session(tx.plan("bn/gamma", "weights.npz")):
        pass


@mistake("Neither restored nor trained")
def _():
    np.savez("weights.npz", **{"fc1/kernel": np.ones((4, 4), np.float32), "fc1/bias": np.ones(4, np.float32)})
    step = linear(hidden)
    with tx.session(tx.plan("fc1/kernel", "weights.npz")) as sess:
        tx.fit(sess, step, numbers(), epochs=1, logdir="runs/mine")


@mistake("A rename rule matches nothing")
def _():
    tx.open_weights("runs/convolutions", rename=[("weights$", "kernel")])


@mistake("Nothing is at that path")
def _():
    tx.open_weights("runs/convolution")


@mistake("A file holds no weights")
def _():
    Path("weights.npz").write_text("<!DOCTYPE html><html><body>Not found</body></html>")
    tx.open_weights("weights.npz")


@mistake("A file is not recognised")
def _():
    tx.recognise("runs/convolutions", model="vgg16")


@mistake("In two plans")
def _():
    convolutions()
    with tx.session(tx.plan("conv1/.*", "runs/convolutions"), tx.plan("conv.*", "runs/convolutions")):
        pass


@mistake("A plan for another graph")
def _():
    convolutions()
    plan = tx.plan("conv.*", "runs/convolutions")
    with tf.Graph().as_default(), tx.session(plan):
        pass


# --- the graph and the session ---


@mistake(WITHOUT_A_GRAPH)
def _():
    with tx.session():
        pass


@mistake("The session is not open")
def _():
    step = linear()
    tx.session().run(step.loss)


@mistake("The graph is finalized")
def _():
    step = linear()
    with tx.session():
        tx.train_step(step.images, step.labels, step.outputs, train="logits/.*")


@mistake("An endpoint is unknown")
def _():
    tx.network("squeezenet1_1", endpoint="fire99")


@mistake("A placeholder is not fed")
def _():
    keep = tf.placeholder(tf.float32, [], "keep_prob")
    linear(lambda x: x * keep)


@mistake("The loss is a single number")
def _():
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
    logits = tx.models.heads.classifier(images, classes=3)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    tx.train_step(images, labels, logits, loss=tf.reduce_mean(losses), train="logits/.*")


@mistake("Labels of another form")
def _():
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.float32, [None])
    tx.train_step(images, labels, tx.models.heads.classifier(images, classes=3), train="logits/.*")


@mistake("A frozen layer is written")
def _():
    mean = tf.get_variable("bn/moving_mean", [4], trainable=False)

    def normalised(x):
        with tf.control_dependencies([tf.assign(mean, tf.reduce_mean(x, 0), name="move")]):
            return hidden(x - mean)

    linear(normalised)


@mistake("Chosen twice")
def _():
    linear_stages = [tx.Stage(0, "logits/.*"), tx.Stage(5, "logits/kernel")]
    images, labels = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int64, [None])
    tx.train_step(images, labels, tx.models.heads.classifier(images, classes=3), stages=linear_stages)


# --- training ---


@mistake("Examples of another dtype")
def _():
    images, labels = tf.placeholder(tf.uint8, [None, 4]), tf.placeholder(tf.int64, [None])
    logits = tx.models.heads.classifier(tf.cast(images, tf.float32), classes=3)
    fit(tx.train_step(images, labels, logits, train=".*"))


@mistake("A run was made with other settings")
def _():
    fit(batch_size=10)
    with tf.Graph().as_default():
        fit(batch_size=20)


@mistake("A folder holds files and no run")
def _():
    pictures("runs/mine", cat=1)
    fit()


@mistake("A run is in use")
def _():
    with opened("runs/mine"):
        fit()


@mistake("The loss is not finite")
def _():
    data = numbers()
    train = tx.Split(data.train.images * np.float32(np.nan), data.train.labels)
    fit(linear(), dataclasses.replace(data, train=train))


class Meddled:
    """Images that, when they are taken, run something first."""

    def __init__(self, images, meddle):
        self.images, self.meddle = images, meddle

    def __getattr__(self, name):
        return getattr(self.images, name)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, places):
        self.meddle()
        return self.images[places]


@mistake("Frozen variables have changed")
def _():
    step, data = linear(hidden), numbers()
    [_, bias] = tx.select("fc1/.*")
    with tx.session() as sess:
        train = tx.Split(Meddled(data.train.images, lambda: bias.load(np.ones(4), sess)), data.train.labels)
        tx.fit(sess, step, dataclasses.replace(data, train=train), epochs=1, logdir="runs/mine")


@mistake("Dropout that keeps a state")
def _():
    fit(linear(lambda x: tf.nn.dropout(x, rate=0.5)))


# --- features ---


def precompute(step, **options) -> tx.Data:
    with tx.session() as sess:
        return tx.precompute(sess, step, numbers(), store="store", **options)


@mistake("Nothing is frozen")
def _():
    precompute(linear(hidden, train=".*"))


@mistake("Features of other weights")
def _():
    np.savez("weights.npz", **{"fc1/kernel": np.ones((4, 4), np.float32)})
    step = linear(hidden)
    plan = tx.plan("fc1/kernel", "weights.npz")
    stored = precompute(step)
    with tx.session(plan) as sess:
        tx.evaluate(sess, step, stored.test)


@mistake("Features of another step")
def _():
    stored = precompute(linear(hidden))
    with tf.Graph().as_default():
        fit(linear(lambda x: hidden(tx.graph.layers.dense(x, 4, "fc0")), train=["fc1/.*", "logits/.*"]), stored)


@mistake("No units for bfloat16")
def _():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor, "features", set)
        precompute(linear(hidden), precision="bfloat16")


# --- pictures ---


@mistake("A folder is not there")
def _():
    pictures("my_photos", cat=1)
    tx.data.folder("my_photo")


@mistake("Pictures without subfolders")
def _():
    pictures(".", my_photos=3)
    tx.data.folder("my_photos")


@mistake("Too few pictures in a class")
def _():
    pictures("my_photos", cat=20, dog=2)
    tx.data.folder("my_photos")


@mistake("Pictures that cannot be used")
def _():
    pictures("my_photos", cat=4, dog=4)
    Path("my_photos/cat/0.png").write_bytes(b"")
    tx.data.folder("my_photos")


# --- tools and packages ---


@mistake("An unknown flag")
def _():
    tool("tfxfer train --weight=runs/convolutions --logdir=runs/mine")


@mistake("A flag that would not be used")
def _():
    tool("tfxfer train --weights=runs/convolutions --data_dir=my_photos --dataset=digits --logdir=runs/mine")


@mistake("A package is missing")
def _():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfxfer.tools._packaged.packaged_weights", lambda _: None)
        pictures("my_photos", cat=3, dog=3)
        tool("tfxfer train --data_dir=my_photos --logdir=runs/mine")


@mistake("A run has no checkpoint")
def _():
    fit()
    shutil.rmtree("runs/mine/best")
    tool("tfxfer predict photo.jpg --run=runs/mine")


@mistake("A run of a script")
def _():
    fit()
    tool("tfxfer evaluate runs/mine")


@mistake("Something is there already")
def _():
    Path("served").mkdir()
    Path("served/notes.txt").touch()
    export(lambda: 1.0)


@mistake("An export needs a placeholder")
def _():
    export(lambda: tf.placeholder(tf.float32, [], "keep_prob"))


@mistake("Nothing for TensorBoard")
def _():
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/notes.txt").touch()
    tool("tfxfer board runs/mine")


# --- what is said ---


class Warnings(logging.Handler):
    """What the library warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def said(heading: str, capsys) -> str:
    """Return what is said of a mistake: the error, or what a tool complains of, or a warning."""
    warnings = Warnings()
    logging.getLogger("tfxfer").addHandler(warnings)
    try:
        with contextlib.nullcontext() if heading == WITHOUT_A_GRAPH else tf.Graph().as_default():
            MISTAKES[heading]()
    except TfxferError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        logging.getLogger("tfxfer").removeHandler(warnings)
    return capsys.readouterr().err + "\n".join(warnings.texts)


def quoted(heading: str) -> str:
    return next(blocks(SECTIONS[heading])).text


@pytest.mark.parametrize("heading", MISTAKES)
def test_the_message_is_what_the_page_quotes(heading, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for file in (ROOT / "checkpoints").glob("digits_autoencoder.*"):
        Path("runs").mkdir(exist_ok=True)
        shutil.copy(file, Path("runs") / file.name.replace("digits_autoencoder", "convolutions"))
    message = said(heading, capsys)
    assert message
    assert shows(quoted(heading), message), message


def test_every_message_of_the_page_is_provoked():
    assert set(SECTIONS) == set(MISTAKES)
    assert len(SECTIONS) >= 25
