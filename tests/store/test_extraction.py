"""Features computed once: the same numbers as from images, whatever is in the store, and nothing computed twice."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.filling import pictures
from tests.killing import Watched
from tfxfer.data import Data, Split
from tfxfer.data.pictures import Pictures
from tfxfer.errors import DataError, GraphError
from tfxfer.evaluation.feed import Feed
from tfxfer.models import autoencoder, heads
from tfxfer.store import extraction, shard_writer, store
from tfxfer.store.extraction import extract

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (100, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 100)


@pytest.fixture(autouse=True)
def graph(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no test cuts the power
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def computed(monkeypatch):
    """The batches that rows were gathered from, as lists of keys."""
    batches = []
    add = shard_writer.Writer.add
    monkeypatch.setattr(
        shard_writer.Writer, "add", lambda self, keys, rows: (batches.append(keys), add(self, keys, rows))
    )
    return batches


def placeholder():
    return tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")


def extracted(folder, build, parts=(IMAGES,), batch_size=32, **options):
    """Extract what `build` makes of images in a graph of its own; return the rows of all parts, an array a tensor."""
    with tf.Graph().as_default():
        images = placeholder()
        tensors = build(images)
        tensors = tensors if isinstance(tensors, list) else [tensors]
        with tx.session() as sess:
            columns = zip(*extract(sess, images, tensors, parts, folder, batch_size=batch_size, **options), strict=True)
            return [np.concatenate([rows[np.arange(len(rows))] for rows in column]) for column in columns]


def direct(build, images=IMAGES):
    with tf.Graph().as_default():
        fed = placeholder()
        tensor = build(fed)
        with tx.session() as sess:
            return sess.run(tensor, {fed: images})


def encoded(images):
    return autoencoder.encoder(images)["flatten"]


def floats(images):
    return tf.reshape(tf.cast(images, tf.float32), [-1, 64])


# What comes out.


@pytest.mark.parametrize("batch_size", [1, 4, 32, 100, 128])
def test_rows_are_what_the_network_gives(tmp_path, batch_size):
    (rows,) = extracted(tmp_path, encoded, batch_size=batch_size)
    assert np.array_equal(rows, direct(encoded))


def test_parts_keep_their_order_and_identical_pictures_are_computed_once(tmp_path, computed):
    parts = [IMAGES[:40], IMAGES[30:60][::-1], IMAGES[[5, 5, 5]], IMAGES[:0]]
    (rows,) = extracted(tmp_path, encoded, parts)
    assert np.array_equal(rows, direct(encoded, np.concatenate(parts)))
    assert sum(map(len, computed)) == 60


@pytest.mark.parametrize(("size", "batch_size"), [((28, 28), 128), ((64, 64), 128), ((65, 64), 32), ((224, 224), 32)])
def test_small_images_go_through_the_network_in_larger_batches(tmp_path, size, batch_size):
    images = tf.placeholder(tf.uint8, [None, *size, 1])
    rows = tf.cast(images[:, :2], tf.float32)
    with tx.session() as sess:
        extract(sess, images, [rows], [np.zeros([3, *size, 1], np.uint8)], tmp_path)
    (about,) = tmp_path.glob("*/about.json")
    assert json.loads(about.read_text())["batch_size"] == batch_size


@pytest.mark.parametrize("dtype", [tf.float64, tf.int32, tf.bool, tf.float16, tf.bfloat16])
def test_tensors_of_any_dtype_come_back_as_they_are(tmp_path, dtype):
    def build(images):
        return tf.cast(floats(images)[:, :5] - 100, dtype)

    (rows,) = extracted(tmp_path, build)
    expected = direct(build)
    assert rows.dtype == expected.dtype
    assert rows.tobytes() == expected.tobytes()


def test_float16_on_disk_rounds_and_takes_half_the_space(tmp_path):
    (rows,) = extracted(tmp_path, encoded, dtype="float16")
    assert rows.dtype == np.float32
    assert np.array_equal(rows, direct(encoded).astype(np.float16))
    assert not np.array_equal(rows, direct(encoded))
    assert sum(np.load(file).nbytes for file in tmp_path.rglob("*.npy")) == 100 * 128 * 2


def test_nan_and_infinity_are_rows_like_any_other(tmp_path):
    def build(images):
        return tf.math.log(floats(images) - 100) / tf.constant([0.0] + [1.0] * 63)

    (rows,) = extracted(tmp_path, build)
    assert rows.tobytes() == direct(build).tobytes()
    assert np.isnan(rows).any()


# What is found again.


def test_what_is_in_the_store_is_not_computed_again(tmp_path, computed):
    first = extracted(tmp_path, encoded)
    assert sum(map(len, computed)) == 100
    computed.clear()
    assert np.array_equal(extracted(tmp_path, encoded), first)
    assert not computed


def test_only_new_pictures_are_computed(tmp_path, computed):
    extracted(tmp_path, encoded, [IMAGES[10:70]])
    computed.clear()
    (rows,) = extracted(tmp_path, encoded)
    assert sum(map(len, computed)) == 40
    assert np.array_equal(rows, direct(encoded))


def test_only_new_tensors_are_computed(tmp_path, computed):
    def both(images):
        ends = autoencoder.encoder(images)
        return [ends["conv1"], ends["flatten"]]

    extracted(tmp_path, encoded)
    before = sorted(tmp_path.rglob("*.npy"))
    conv1, flatten = extracted(tmp_path, both)
    assert np.array_equal(conv1, direct(lambda images: both(images)[0]))
    assert np.array_equal(flatten, direct(encoded))
    new = set(tmp_path.rglob("*.npy")) - set(before)
    assert all(np.load(file).shape[1:] == (4, 4, 16) for file in new)


@pytest.mark.parametrize(
    "other",
    [
        lambda images: tf.nn.relu(encoded(images)),
        lambda images: [tf.set_random_seed(1), encoded(images)][1],
        lambda images: encoded(tf.reverse(images, [1])),
    ],
    ids=["layer", "weights", "preprocessing"],
)
def test_nothing_stale_is_found(tmp_path, computed, other):
    extracted(tmp_path, encoded)
    computed.clear()
    (rows,) = extracted(tmp_path, other)
    assert sum(map(len, computed)) == 100
    assert np.array_equal(rows, direct(other))


@pytest.mark.parametrize("options", [{"batch_size": 16}, {"dtype": "float16"}])
def test_rows_of_another_batch_size_or_dtype_are_not_mixed(tmp_path, computed, options):
    extracted(tmp_path, encoded)
    computed.clear()
    extracted(tmp_path, encoded, **options)
    assert sum(map(len, computed)) == 100


def test_images_of_another_size_or_dtype_are_not_mixed(tmp_path):
    images = tf.placeholder(tf.float32, [None, None, None, 1])
    total = tf.nn.max_pool2d(images, 2, 2, "SAME")
    small, halves = IMAGES[:, :4, :4], IMAGES.astype(np.float32) / 2
    with tx.session() as sess:
        for given in (IMAGES, small, halves, IMAGES):
            ((rows,),) = extract(sess, images, [total], [given], tmp_path)
            assert np.array_equal(rows[np.arange(100)], sess.run(total, {images: given}))


def test_a_picture_is_known_by_the_bytes_of_its_file_and_by_how_it_is_resized(tmp_path, computed):
    with tf.Session() as sess:
        for number in range(6):
            pixels = RNG.integers(0, 256, (9 + number, 12, 3)).astype(np.uint8)
            (tmp_path / f"{number}.png").write_bytes(sess.run(tf.io.encode_png(pixels)))

    def build(size, resize):
        with tf.Graph().as_default():
            images = tf.placeholder(tf.uint8, [None, *size, 3])
            tensor = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])
            pictures = Pictures(sorted(tmp_path.glob("*.png")), size, resize)
            with tx.session() as sess:
                ((rows,),) = extract(sess, images, [tensor], [pictures], tmp_path / "store", batch_size=4)
                assert np.array_equal(rows[np.arange(6)], sess.run(tensor, {images: pictures[np.arange(6)]}))
        count = sum(map(len, computed))
        computed.clear()
        return count

    assert build((8, 8), "crop") == 6
    assert build((8, 8), "crop") == 0
    assert build((8, 8), "plain") == 6
    assert build((8, 9), "crop") == 6
    (tmp_path / "0.png").rename(tmp_path / "renamed.png")
    assert build((8, 8), "crop") == 0
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes() + b"\0")
    assert build((8, 8), "crop") == 1


def test_random_crops_have_rows_of_their_own_and_more_crops_add_only_new_ones(tmp_path, computed):
    with tf.Session() as sess:
        for number in range(6):
            pixels = RNG.integers(0, 256, (30 + number, 40, 3)).astype(np.uint8)
            (tmp_path / f"{number}.png").write_bytes(sess.run(tf.io.encode_png(pixels)))
    plain = Pictures(sorted(tmp_path.glob("*.png")), (8, 8))

    def count(pictures):
        computed.clear()
        with tf.Graph().as_default():
            images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
            tensor = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2])
            with tx.session() as sess:
                ((rows,),) = extract(sess, images, [tensor], [pictures], tmp_path / "store", batch_size=4)
                assert np.array_equal(rows[np.arange(len(pictures))], sess.run(tensor, {images: pictures[:]}))
        return sum(map(len, computed))

    assert count(plain) == 6
    assert count(plain.augmented(2, 0)) == 12
    assert count(plain.augmented(3, 0)) == 6
    assert count(plain.augmented(2, 0)) == 0
    assert count(plain.augmented(2, 1)) == 12
    assert count(plain) == 0


# What is refused.


def centred(images):
    x = floats(images)
    return x - tf.reduce_mean(x, axis=0)


@pytest.mark.parametrize(("count", "batch_size"), [(100, 32), (96, 32), (100, 1), (20, 32), (4, 4), (3, 32), (2, 1)])
def test_a_tensor_that_mixes_examples_is_refused(tmp_path, count, batch_size):
    message = (
        r"(Sub|sub).*:0.* an example's values depend on the others of its batch, so that they cannot be computed once"
    )
    with pytest.raises(DataError, match=message):
        extracted(tmp_path, centred, [IMAGES[:count]], batch_size=batch_size)


def test_values_that_depend_on_the_batch_size_are_refused(tmp_path):
    def build(images):
        return floats(images) * (1 + tf.cast(tf.shape(images)[0], tf.float32) / 1e5)

    message = (
        r"mul:0 differs by 2.8e-04 of its largest magnitude between batches of 32 and of 4: an example's values depend"
    )
    with pytest.raises(DataError, match=message):
        extracted(tmp_path, build)


def test_a_store_whose_rows_were_altered_consistently_is_refused(tmp_path):
    extracted(tmp_path, encoded)
    (about,) = tmp_path.rglob("about.json")
    held = store.Table(about.parent, {}, np.float32)
    keys = list(held)
    values = store.Rows(held, keys, np.float32)[np.arange(100)]
    for file in {*about.parent.iterdir()} - {about}:
        file.unlink()
    store.Table(about.parent, {}, np.float32).write(keys, np.nextafter(values, np.float32(np.inf)))
    message = (
        rf"flatten:0: 4 examples were computed again and are not what {about.parent} holds; .*give another `store`"
    )
    with pytest.raises(DataError, match=message):
        extracted(tmp_path, encoded)


def test_a_damaged_shard_is_named_and_its_rows_are_computed_again_once_it_is_deleted(tmp_path, computed):
    extracted(tmp_path, encoded)
    shard = min(tmp_path.rglob("*.npy"))
    os.truncate(shard, 1000)
    with pytest.raises(
        DataError, match=rf"{shard} is damaged: its checksum is wrong; delete {shard} and .*\.json, and"
    ):
        extracted(tmp_path, encoded)
    shard.unlink()
    shard.with_suffix(".json").unlink()
    computed.clear()
    (rows,) = extracted(tmp_path, encoded)
    assert sum(map(len, computed)) == 64
    assert np.array_equal(rows, direct(encoded))


def test_a_full_disk_ends_the_work_without_loss(tmp_path, computed):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    extracted(tmp_path, encoded, [IMAGES[:20]])
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(
            DataError, match=r"cannot write to the store .*: File too large; what was written before is kept"
        ):
            extracted(tmp_path, encoded)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    computed.clear()
    (rows,) = extracted(tmp_path, encoded)
    assert sum(map(len, computed)) == 80
    assert np.array_equal(rows, direct(encoded))


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ([IMAGES], {"dtype": "bfloat16"}, "`dtype=bfloat16`: rows are kept as float32 or float16"),
        ([IMAGES], {"batch_size": 0}, "`batch_size=0` must be 1 or more"),
        ([IMAGES[:0], IMAGES[:0]], {}, "no examples are given to compute anything from"),
        ([IMAGES / 255], {}, "the images are float64 (8, 8, 1), and images takes uint8 (8, 8, 1)"),
        ([IMAGES[:, :4]], {}, "the images are uint8 (4, 8, 1), and images takes uint8 (8, 8, 1)"),
        ([IMAGES, IMAGES[:, 1:]], {}, "the images are uint8 (7, 8, 1), uint8 (8, 8, 1), and images takes"),
    ],
)  # fmt: skip
def test_what_cannot_be_extracted_is_refused(tmp_path, parts, options, message):
    with pytest.raises(DataError, match=re.escape(message)):
        extracted(tmp_path, encoded, parts, **options)


def test_what_takes_more_than_the_images_is_refused(tmp_path):
    with pytest.raises(GraphError, match="keep_prob must be fed, and only images is"):
        extracted(tmp_path, lambda images: floats(images) * tf.placeholder(tf.float32, [], "keep_prob"))


def test_values_are_fed_as_python_has_them_and_in_the_dtype_of_the_placeholder(tmp_path):
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
        training, rate = tf.placeholder(tf.bool, [], "training"), tf.placeholder(tf.float32, [], "rate")
        x = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])
        taken = tf.cond(training, lambda: x * rate, lambda: x + rate)
        with tf.Session() as sess:
            pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
            for feeds in ({training: False, rate: 0.5}, {"training": np.bool_(False), "rate": np.float64(0.5)}):
                [[rows]] = tx.extract(sess, images, [taken], [pixels], tmp_path, feeds=feeds)
                np.testing.assert_array_equal(rows[np.arange(2)], [[8.0], [24.0]])
            assert len(list(tmp_path.glob("*/about.json"))) == 1
            with pytest.raises(GraphError, match=r"feeds cannot be fed:\n.*training:0 takes bool, not 3"):
                tx.extract(sess, images, [taken], [pixels], tmp_path, feeds={training: 3, rate: 1})


def test_a_step_in_which_nothing_is_frozen_is_refused(tmp_path):
    images = placeholder()
    labels = tf.placeholder(tf.int64, [None])
    step = tx.train_step(images, labels, heads.classifier(floats(images), classes=3), train=tx.select(".*"))
    data = Data(*[Split(IMAGES, LABELS)] * 3, class_names=("a", "b", "c"))
    message = (
        "nothing is frozen between the images and what is trained, so there is nothing to compute once; train from"
    )
    with tx.session() as sess, pytest.raises(GraphError, match=message):
        tx.precompute(sess, step, data, store=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# How it is done.


def filled(folder: Path, seed: int, kills: int, network: str) -> dict:
    command = [sys.executable, "-m", "tests.filling", str(folder), str(seed), str(kills), network]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def check_killed(folder: Path, seed: int, kills: int, network: str) -> None:
    result = filled(folder, seed, kills, network)
    whole, killed, shared = result["stores"]
    assert [len(rows) for rows in whole.values()] == [580] * len(whole)
    assert killed == whole
    assert shared == whole
    assert sum(os.WIFSIGNALED(end) for _, end, _, _ in result["ends"]) >= min(kills, 3)
    for moment, _, handed, kept in result["ends"]:
        assert handed - kept <= 64, moment


def test_a_store_whose_making_was_killed_and_one_that_two_processes_filled_equal_one_left_alone(tmp_path):
    check_killed(tmp_path, seed=1, kills=4, network="encoder")

    def build(images):
        ends = autoencoder.encoder(images)
        return [ends["conv1"], ends["flatten"]]

    extracted(tmp_path / "here", build, [pictures(8, 1)], batch_size=16)
    # Addresses are the same in every process.
    names = [sorted(folder.name for folder in (tmp_path / name).iterdir()) for name in ("whole", "here")]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "network"), [(2, "encoder"), (3, "encoder"), (4, "encoder"), (5, "vgg16")])
def test_a_store_killed_twenty_times_equals_one_left_alone(tmp_path, seed, network):
    check_killed(tmp_path, seed, kills=20, network=network)


# Training.


def digits_step(data):
    images = tf.placeholder(tf.uint8, [None, *data.train.images.shape[1:]], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[16], classes=10, dropout=0.5)
    stages = [tx.Stage(0, tx.select("fc.*", "logits/.*")), tx.Stage(2, tx.select("conv2/.*"), 0.1)]
    return tx.train_step(images, labels, logits, stages=stages, clip_norm=5.0)


def trained(logdir, cache=None, *, epochs=4, dies=0):
    """Train on the digits, through a change of stage; return all variables, the history and the test result."""
    data = tx.data.digits().few(384, seed=0)
    with tf.Graph().as_default():
        tf.set_random_seed(3)
        step = digits_step(data)
        with tx.session() as sess:
            if cache:
                data = tx.precompute(sess, step, data, store=cache)
            if dies:
                data = dataclasses.replace(data, train=dying(data.train, dies))
            fitted = tx.fit(
                sess,
                step,
                data,
                epochs=epochs,
                batch_size=64,
                logdir=logdir,
                checkpoints=tx.CheckpointOptions(save_steps=7),
            )
            values = {v.op.name: sess.run(v).tobytes() for v in tf.global_variables()}
            return values, fitted.history, str(tx.evaluate(sess, step, data.test))


def dying(split, steps):
    """Stop as a kill does, at some step: with nothing left but what is on the disk."""
    count = itertools.count(1)

    def die():
        if next(count) > steps:
            raise InterruptedError

    features = {name: Watched(rows, die) for name, rows in (split.features or {}).items()}
    return dataclasses.replace(split, features=features)


def test_training_on_features_equals_training_on_images_bit_for_bit(tmp_path):
    """Variables, optimizer slots, history and test metrics; across a change of stage, a new start, and a killed run."""
    whole = trained(tmp_path / "images")
    assert trained(tmp_path / "features", tmp_path / "cache") == whole
    for steps in (10, 10):  # the second after the change of stage
        with pytest.raises(InterruptedError):
            trained(tmp_path / "killed", tmp_path / "cache", dies=steps)
    assert trained(tmp_path / "killed", tmp_path / "cache") == whole


def test_each_split_has_its_own_rows_and_its_labels(tmp_path):
    splits = [Split(IMAGES[a:b], LABELS[a:b]) for a, b in ((0, 60), (50, 80), (80, 100))]
    data = Data(*splits, class_names=("a", "b", "c"))
    images = placeholder()
    labels = tf.placeholder(tf.int64, [None])
    features = encoded(images)
    step = tx.train_step(images, labels, heads.classifier(features, classes=3), train=tx.select("logits/.*"))
    with tx.session() as sess:
        result = tx.precompute(sess, step, data, store=tmp_path)
        assert result.class_names == data.class_names
        for split, given in zip((result.train, result.validation, result.test), splits, strict=True):
            assert split.images is given.images
            assert split.labels is given.labels
            assert np.array_equal(
                split.features[features.name][np.arange(len(split))], sess.run(features, {images: given.images})
            )
        few = result.few(10, seed=1).train
        assert isinstance(few.features[features.name], store.Rows)
        assert np.array_equal(few.features[features.name][np.arange(10)], sess.run(features, {images: few.images}))
        assert tx.evaluate(sess, step, result.test).metrics == tx.evaluate(sess, step, data.test).metrics


def test_an_autoencoder_reads_the_images_from_the_split_and_stores_the_rest(tmp_path):
    data = Data(*[Split(IMAGES[a:b]) for a, b in ((0, 60), (60, 80), (80, 100))], class_names=())
    results = []
    for store_path in (None, tmp_path / "cache"):
        with tf.Graph().as_default():
            images = placeholder()
            ends = autoencoder.autoencoder(images)
            step = tx.train_step(
                images, None, ends["loss"], loss=ends["loss"], train=tx.select("fc.*", "latent/.*", "de.*")
            )
            with tx.session() as sess:
                used = tx.precompute(sess, step, data, store=store_path) if store_path else data
                fitted = tx.fit(sess, step, used, epochs=3, logdir=tmp_path / f"run{len(results)}")
                results.append(fitted.history)
    assert list(used.train.features) == [ends["flatten"].name]
    assert results[0] == results[1]


# Graphs that are not ours.


def raw_network(images):
    """A frozen convolution, batch normalisation by statistics that stay, and a conditional."""
    x = tf.nn.conv2d(tf.cast(images, tf.float32) / 255 - 0.5, tf.get_variable("conv", [3, 3, 1, 4]), 2, "SAME")
    initial = tf.random_uniform_initializer(0.5, 1.5, seed=1)
    mean, variance = (tf.get_variable(n, [4], initializer=initial, trainable=False) for n in ("mean", "variance"))
    x = tf.nn.relu(tf.nn.batch_normalization(x, -mean, variance, None, None, 1e-3))
    x = tf.cond(tf.placeholder_with_default(True, []), lambda: x * 1.5, lambda: tf.nn.relu(x - 1))
    return tf.reshape(x, [-1, 64], name="flat")


def raw_head(x):
    """Batch normalisation that keeps statistics of its own, dropout that no switch turns off, and a linear layer."""
    gamma = tf.get_variable("gamma", [64], initializer=tf.ones_initializer())
    moving = tf.get_variable("moving", [64], initializer=tf.zeros_initializer(), trainable=False)
    mean, variance = tf.nn.moments(x, [0])
    with tf.control_dependencies([tf.assign_sub(moving, 0.1 * (moving - mean))]):
        x = tf.nn.batch_normalization(x, mean, variance, None, gamma, 1e-3)
    x = tf.nn.dropout(x, rate=0.5, seed=2)
    return tf.matmul(x, tf.get_variable("kernel", [64, 3])) + tf.get_variable("bias", [3])


def raw(folder, kind):
    """Build the network with the old or the new kind of variables, or import it from a file."""
    tf.set_random_seed(7)
    if kind == "imported":
        with tf.Graph().as_default():
            raw(folder, "resource")
            tf.train.export_meta_graph(str(folder / "graph.meta"))
        tf.train.import_meta_graph(str(folder / "graph.meta"))
    else:
        with tf.variable_scope("", use_resource=kind == "resource"):
            tf.identity(raw_head(raw_network(placeholder())), name="scores")
    return [tf.get_default_graph().get_tensor_by_name(name) for name in ("images:0", "scores:0")]


def twenty_steps(step, cache):
    """Return what is fed, the metrics of 20 steps, and all variables after them."""
    split = Split(IMAGES, LABELS)
    with tx.session() as sess:
        if cache:
            split = tx.precompute(sess, step, Data(split, split, split, ("a", "b", "c")), store=cache).train
        feed = Feed(step, split)
        call = sess.make_callable([list(step.metrics.values()), step.stages[0].apply], feed.tensors)
        metrics = [call(*feed.arrays(np.arange(k, k + 24)))[0] for k in range(0, 60, 3)]
        variables = tf.get_collection("variables")
        values = dict(zip([v.op.name for v in variables], sess.run(variables), strict=True))
        return [tensor.name for tensor in feed.tensors], tf.nest.flatten(metrics), values


@pytest.mark.parametrize("kind", ["resource", "reference", "imported"])
def test_any_graph_trains_on_features_as_on_images(tmp_path, kind):
    """The same metrics and, after 20 steps with dropout and Adam, the same variables, bit for bit."""
    trained = {"gamma", "kernel", "bias"}
    results = []
    for cache in (None, tmp_path / "cache"):
        with tf.Graph().as_default():
            images, scores = raw(tmp_path, kind)
            labels = tf.placeholder(tf.int64, [None], name="labels")
            chosen = [v for v in tf.trainable_variables() if v.op.name in trained]
            step = tx.train_step(images, labels, scores, train=chosen, learning_rate=0.01)
            results.append(twenty_steps(step, cache))
    (_, metrics, variables), (fed, same_metrics, same_variables) = results
    assert fed == ["flat:0", "labels:0"]
    assert [values.tobytes() for values in metrics] == [values.tobytes() for values in same_metrics]
    assert {name for name in variables if variables[name].tobytes() != same_variables[name].tobytes()} == set()
    assert np.abs(variables["moving"]).min() > 0
    assert np.abs(variables["bias"]).min() > 0


# What features are fed to.


def small_step(scale=255.0):
    images, labels = placeholder(), tf.placeholder(tf.int64, [None])
    kernel = tf.get_variable("conv", [3, 3, 1, 2], initializer=tf.constant_initializer(0.3))
    features = tf.nn.relu(tf.nn.conv2d(tf.cast(images, tf.float32) / scale, kernel, 2, "SAME"))
    logits = tf.matmul(tf.reshape(features, [-1, 32]), tf.get_variable("fc", [32, 3]))
    step = tx.train_step(images, labels, logits, train=tx.select("fc"), summaries=())
    return step, kernel


def same_data():
    return Data(*[Split(IMAGES, LABELS)] * 3, class_names=("a", "b", "c"))


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x * x,
        lambda x: x + x,
        lambda x: -x,
        lambda x: tf.negative(-x),
        lambda x: tf.square(x) - 2 * x,
        lambda x: tf.transpose(tf.transpose(x)),
    ],
    ids=["product", "sum", "negative", "twice negative", "square", "transposed"],
)
def test_a_step_that_is_fed_with_anything_asks_for_no_images(tmp_path, between):
    """TensorFlow's arithmetic optimizer puts another op in place of these, whether they are fed or not."""
    images, labels = placeholder(), tf.placeholder(tf.int64, [None])
    x = tf.nn.relu(tf.reshape(tf.cast(images, tf.float32) / 255, [-1, 64]))
    scale = tf.get_variable("scale", [64])
    step = tx.train_step(images, labels, tf.nn.relu(between(x) + scale)[:, :3], train=[scale], summaries=())
    with tx.session() as sess:
        split = tx.precompute(sess, step, same_data(), store=tmp_path).train
        feed = Feed(step, split)
        assert step.images.name not in [tensor.name for tensor in feed.tensors]
        arrays = feed.arrays(np.arange(8))
        loss = sess.run([step.loss, step.stages[0].apply], dict(zip(feed.tensors, arrays, strict=True)))[0]
        assert np.isfinite(loss)


def test_a_trained_variable_of_a_function_behind_frozen_layers_is_trained_on_features(tmp_path):
    results = []
    for store_path in (None, tmp_path / "store"):
        with tf.Graph().as_default():
            images, labels = placeholder(), tf.placeholder(tf.int64, [None])
            x = tf.nn.relu(tf.nn.conv2d(tf.cast(images, tf.float32) / 255, tf.ones([3, 3, 1, 4]), 1, "SAME"))
            scale = tf.get_variable("scale", [4], initializer=tf.ones_initializer(), use_resource=True)
            y = tf.function(lambda y, scale=scale: tf.nn.relu(y * scale - 0.1), autograph=False)(x)
            step = tx.train_step(images, labels, tf.reduce_mean(y, [1, 2])[:, :3], train=[scale], summaries=())
            with tx.session() as sess:
                data = tx.precompute(sess, step, same_data(), store=store_path) if store_path else same_data()
                tx.fit(sess, step, data, epochs=1, logdir=tmp_path / f"run{len(results)}")
                results.append(sess.run(scale))
    assert np.allclose(*results, 1e-6)
    assert not np.allclose(results[0], 1)


def test_what_a_python_function_computes_is_never_stored(tmp_path):
    def doubled(images):
        return tf.ensure_shape(
            tf.numpy_function(lambda x: x * 2, [floats(images)], tf.float32, stateful=False), [None, 64]
        )

    with pytest.raises(GraphError, match=r"PyFunc.*: what this gives is not decided by the graph"):
        extracted(tmp_path, doubled)
    images, labels = placeholder(), tf.placeholder(tf.int64, [None])
    step = tx.train_step(images, labels, tf.matmul(doubled(images), tf.get_variable("w", [64, 3])), summaries=(),
                         train=tx.select("w"))  # fmt: skip
    with (
        tx.session() as sess,
        pytest.raises(GraphError, match=r"images:0 is taken by PyFunc\w* \(\w+\) .*Python"),
    ):
        tx.precompute(sess, step, same_data(), store=tmp_path / "store")


def test_a_picture_that_is_replaced_while_it_is_extracted_is_refused_by_name(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    with tf.Session() as sess:
        pngs = [sess.run(tf.io.encode_png(RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8))) for _ in range(7)]
    for path, png in zip(paths, pngs, strict=False):
        path.write_bytes(png)
    opening = extraction.open_tables

    def replaced(*args, **options):
        paths[2].write_bytes(pngs[6])
        return opening(*args, **options)

    monkeypatch.setattr(extraction, "open_tables", replaced)
    images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
    tensor = tf.cast(images, tf.float32) * 2
    with tx.session() as sess, pytest.raises(DataError, match=r"2\.png has changed since it was looked through"):
        extract(sess, images, [tensor], [Pictures(paths, (8, 8))], tmp_path / "store", batch_size=2)


def test_images_that_are_others_each_time_are_refused(tmp_path):
    class Drawn:
        shape, dtype = IMAGES.shape, IMAGES.dtype

        def __len__(self):
            return len(IMAGES)

        def __getitem__(self, indices):
            return RNG.integers(0, 256, IMAGES[indices].shape).astype(np.uint8)

    with pytest.raises(DataError, match="32 of 32 images are not what they were when they were first looked at"):
        extracted(tmp_path, encoded, [Drawn()])


def test_precompute_tells_where_the_frozen_part_ends_and_warns_where_a_row_is_larger_than_its_image(tmp_path, caplog):
    step, _ = small_step()
    caplog.set_level("INFO", "tfxfer")
    with tx.session() as sess:
        tx.precompute(sess, step, same_data(), store=tmp_path)
    told = [record for record in caplog.records if "computed once" in record.getMessage() or "rows that" in record.msg]
    assert [record.getMessage() for record in told] == [
        "computed once, up to Reshape:0: [32], 128 bytes an example; not further, since MatMul (MatMul) depends on fc, "
        "which is written in each step",
        "the rows that are stored of an example (Reshape:0) have 128 bytes, 2.0 times as many as its image (64); "
        "to store less, train only what comes later, or reduce over positions before what is trained, "
        'or give `dtype="float16"`',
    ]
    assert [record.levelname for record in told] == ["WARNING", "WARNING"]
