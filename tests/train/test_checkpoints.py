"""Checkpoints of a run: each whole for everybody, what is frozen on disk once, and the room that they take."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.data import Data, Split
from tfxfer.errors import RunError
from tfxfer.train import checkpoints, snapshots
from tfxfer.weight_tools.verify_run import verify_run

UNITS = 400  # of the frozen layer, whose kernel takes 64 * 400 * 4 bytes


def examples() -> Data:
    generator = np.random.default_rng(0)
    split = Split(generator.integers(0, 256, (40, 8, 8, 1)).astype(np.uint8), np.arange(40) % 3)
    return Data(split, split, split, ("a", "b", "c"))


def fit(logdir: Path, *, ref: bool = False, split: bool = False, **options):
    """Train a head on a frozen layer of 100 kB that has a bool, a string and an int64 variable beside it."""
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        partitioner = tf.fixed_size_partitioner(3) if split else None
        with tf.variable_scope("", use_resource=not ref, partitioner=partitioner):
            flat = tf.reshape(tf.cast(images, tf.float32) / 255, [-1, 64])
            kernel = tf.get_variable("base/kernel", [64, UNITS], initializer=tf.random_normal_initializer(seed=3))
            head = tf.get_variable("head/kernel", [UNITS, 3], initializer=tf.zeros_initializer())
        for name, value in (("flag", True), ("word", "text"), ("count", np.int64(7))):
            tf.get_variable(name, initializer=tf.constant(value), trainable=False, partitioner=None)
        logits = tf.matmul(tf.nn.relu(tf.matmul(flat, tf.convert_to_tensor(kernel))), tf.convert_to_tensor(head))
        trained = [v for v in tf.trainable_variables() if v.op.name.startswith("head")]
        step = tx.train_step(images, labels, logits, train=trained, summaries=())
        with tx.session() as sess:
            defaults = {"epochs": 4, "batch_size": 20, "logdir": logdir, "checkpoints": tx.CheckpointOptions(keep=3)}
            fitted = tx.fit(sess, step, examples(), **(defaults | options))
            values = sess.run({v.op.name: v for v in tf.global_variables()})
    return fitted, values


def size_on_disk(folder: Path) -> int:
    stats = {(s.st_dev, s.st_ino): s.st_size for s in (path.stat() for path in folder.rglob("model.ckpt*"))}
    return sum(stats.values())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, *fit(folder)


def test_frozen_variables_are_on_disk_once_however_many_checkpoints_are_kept(run):
    folder, *_ = run
    shared = sorted(folder.rglob("*.data-00001-of-00002"))
    assert len(shared) >= 4
    assert len({file.stat().st_ino for file in shared}) == 1
    frozen, head = 64 * UNITS * 4, UNITS * 3 * 4
    assert shared[0].stat().st_size == pytest.approx(frozen, abs=100)
    moving = [file.stat().st_size for file in folder.glob("*.data-00000-of-00002")]
    assert all(size == pytest.approx(3 * head, abs=100) for size in moving)  # the kernel, and Adam's two slots
    meta = next(folder.glob("*.meta")).stat().st_size  # once a start
    assert size_on_disk(folder) < frozen + 4 * 3 * head + meta + 20_000


def test_tensorflow_reads_every_checkpoint_whole_and_a_stock_saver_restores_it(run):
    folder, fitted, values = run
    for prefix in (fitted.last, fitted.best, *(str(path.with_suffix("")) for path in folder.glob("*.index"))):
        reader = tf.train.load_checkpoint(prefix)
        assert set(reader.get_variable_to_shape_map()) == set(values)
    reader = tf.train.load_checkpoint(fitted.last)
    assert all(np.array_equal(reader.get_tensor(name), value) for name, value in values.items())
    with tf.Graph().as_default(), tf.Session() as sess:
        saver = tf.train.import_meta_graph(f"{fitted.last}.meta")
        saver.restore(sess, fitted.last)
        for variable in tf.global_variables():
            assert np.array_equal(sess.run(variable), values[variable.op.name])


def test_our_reader_and_the_tools_for_files_read_them_too(run, tmp_path):
    folder, fitted, values = run
    weights = tx.open_weights(fitted.last)
    assert weights["base/kernel"].tobytes() == values["base/kernel"].tobytes()
    verdict = verify_run(str(folder))
    assert verdict.sound, verdict.to_json()
    assert verdict.frozen == 4
    copied = shutil.copytree(folder, tmp_path / "copy")  # cp -r makes files of their own
    assert verify_run(str(copied)).sound


def test_a_copied_run_goes_on_and_has_its_frozen_variables_once_again(run, tmp_path):
    folder, *_ = run
    copied = shutil.copytree(folder, tmp_path / "copy")
    fitted, values = fit(copied, epochs=7)
    whole, expected = fit(tmp_path / "whole", epochs=7)
    assert all(np.array_equal(value, expected[name]) for name, value in values.items())
    assert fitted.history == whole.history
    assert len({file.stat().st_ino for file in copied.glob("*.data-00001-of-00002")}) == 1


def test_deleting_all_but_one_checkpoint_leaves_that_one_whole(run, tmp_path):
    folder, fitted, values = run
    copied = shutil.copytree(folder, tmp_path / "copy")
    last = Path(fitted.last).name
    for file in copied.rglob("model.ckpt-*"):
        if file.name.split(".")[1] != last.split(".")[1] or file.parent != copied:
            file.unlink()
    assert tx.open_weights(copied / last)["base/kernel"].tobytes() == values["base/kernel"].tobytes()


@pytest.mark.parametrize(("ref", "split"), [(True, False), (False, True)])
def test_reference_and_split_variables_are_saved_so_too(tmp_path, ref, split):
    fit(tmp_path / "run", ref=ref, split=split, epochs=2)
    fitted, values = fit(tmp_path / "run", ref=ref, split=split, epochs=3)
    _, expected = fit(tmp_path / "whole", ref=ref, split=split, epochs=3)
    assert all(np.array_equal(value, expected[name]) for name, value in values.items())
    assert len({file.stat().st_ino for file in (tmp_path / "run").rglob("*.data-00001-of-00002")}) == 1
    whole = np.concatenate([values[f"base/kernel/part_{k}"] for k in range(3)]) if split else values["base/kernel"]
    assert np.array_equal(tf.train.load_checkpoint(fitted.last).get_tensor("base/kernel"), whole)


def test_where_there_are_no_hard_links_copies_are_made_and_it_is_said(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    fitted, values = fit(tmp_path / "run", epochs=2)
    shared = list((tmp_path / "run").rglob("*.data-00001-of-00002"))
    assert len({file.stat().st_ino for file in shared}) == len(shared) >= 3
    assert np.array_equal(tx.open_weights(fitted.last)["base/kernel"], values["base/kernel"])
    assert (tmp_path / "run/train.log").read_text().count("no hard link is possible") == 1


def test_a_few_frozen_bytes_are_written_along_into_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "LEAST", 1 << 20)
    fitted, values = fit(tmp_path / "run", epochs=2)
    assert not list((tmp_path / "run").rglob("*-of-00002"))
    reader = tf.train.load_checkpoint(fitted.last)
    assert all(np.array_equal(reader.get_tensor(name), value) for name, value in values.items())


def test_what_is_too_large_to_be_held_twice_is_saved_in_place_and_is_the_same(run, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "MOST_BYTES", 10_000)
    fit(tmp_path / "run")
    for name in (Path(run[1].last).name, f"best/{Path(run[1].best).name}"):
        files = [sorted(folder.glob(f"{name}.data-*")) for folder in (run[0], tmp_path / "run")]
        assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    assert fit(tmp_path / "run", epochs=6)[0].history == fit(tmp_path / "whole", epochs=6)[0].history


def damage(run: Path) -> None:
    """Change a byte of the frozen kernel as the last checkpoint has it, in place."""
    shared = max(run.glob("*.data-00001-of-00002"), key=lambda file: int(file.name.split("-")[1].split(".")[0]))
    with shared.open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))


def test_a_damaged_file_of_frozen_variables_is_said_to_be_that_of_all_checkpoints(tmp_path):
    fit(tmp_path / "run", epochs=2)
    damage(tmp_path / "run")
    with pytest.raises(
        RunError, match=r"cannot go on from .*ckpt-4: .*all checkpoints of the run share.*overwrite=True"
    ):
        fit(tmp_path / "run", epochs=3)
    assert fit(tmp_path / "run", epochs=3, overwrite=True)[0].epochs == 3  # the cure that is named


def test_a_damaged_copy_of_them_is_left_by_going_on_from_the_checkpoint_before(run, tmp_path):
    copied = shutil.copytree(run[0], tmp_path / "copy")
    damage(copied)
    with pytest.raises(RunError, match=r"delete its files \(model\.ckpt-8\.\*\) to go on from .* model\.ckpt-6"):
        fit(copied, epochs=5)
    for file in copied.glob("model.ckpt-8.*"):
        file.unlink()
    assert fit(copied, epochs=5)[0].epochs == 5


def test_the_room_that_is_needed_is_said_and_too_little_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    fit(tmp_path / "run", epochs=2)
    told = "102.4 kB of frozen variables once, and 14.4 kB for each of up to 4"
    assert told in (tmp_path / "run/train.log").read_text()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 150_000))
    with pytest.raises(RunError, match=r"150\.0 kB are free where it lies, and a run needs up to .*lower `keep`"):
        fit(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    fit(tmp_path / "other", checkpoints=tx.CheckpointOptions(keep=1))  # the cure that is named


def test_a_run_that_goes_on_has_the_room_of_its_own_checkpoints(run, tmp_path, monkeypatch):
    copied = shutil.copytree(run[0], tmp_path / "copy")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 40_000))
    assert fit(copied, epochs=5)[0].epochs == 5
