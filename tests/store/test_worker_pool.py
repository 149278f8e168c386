"""Several processes fill one store: with the same bits as one alone, and nothing is lost when some are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests import LOG_OF_TENSORFLOW
from tests.data.test_pictures import encoded, photo
from tests.filling import left, pictures, tables
from tests.store.test_extraction import computed, extracted, graph, raw  # noqa: F401
from tfxfer.data import Pictures
from tfxfer.errors import DataError, GraphError, RunError
from tfxfer.models import autoencoder
from tfxfer.store import worker_pool
from tfxfer.store.compute import Network
from tfxfer.store.examples import distinct
from tfxfer.store.extraction import extract, open_tables

IMAGES = pictures(8, 1)


def ends(images):
    found = autoencoder.encoder(images)
    return [found["conv1"], found["flatten"]]


def slow_ends(images):
    """Some 10 ms a batch, so that there is a middle to end it in."""
    flat = autoencoder.encoder(images)["flatten"]
    return [flat, tf.matmul(tf.tile(flat, [1, 32]), tf.fill([4096, 4096], 1e-3))[:, :8]]


@pytest.fixture
def started(monkeypatch) -> list[subprocess.Popen]:
    """The workers that were started."""
    processes = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            processes.append(self)

    monkeypatch.setattr(worker_pool.subprocess, "Popen", Noted)
    return processes


def hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


# What comes out.


def test_two_processes_give_the_rows_of_one_bit_for_bit(tmp_path, capfd, started):
    """Of arrays, of pictures in files and of their crops."""
    files = []
    for number in range(9):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(encoded(photo(40, 50, number)))
    parts = [pictures(8, 3), Pictures(files, (8, 8)), Pictures(files, (8, 8)).augmented(2, 4)]

    def rows(folder, parts, workers):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            images = tf.placeholder(tf.uint8, [None, 8, 8, 3])
            tensors = ends(images[..., :1])
            with tx.session() as sess:
                columns = extract(sess, images, tensors, parts, folder, batch_size=16, workers=workers)
        return [column[np.arange(len(column))].tobytes() for part in columns for column in part]

    assert rows(tmp_path / "together", parts, 2) == rows(tmp_path / "alone", parts, 1)
    assert left(tmp_path / "together") == left(tmp_path / "alone")
    assert sorted(os.listdir(tmp_path / "together")) == sorted(os.listdir(tmp_path / "alone"))
    assert [process.returncode for process in started] == [0, 0]
    out, err = capfd.readouterr()
    assert (out, LOG_OF_TENSORFLOW.sub("", err)) == ("", "")
    # Only what is missing is computed, and nobody is started for one batch.
    assert len(rows(tmp_path / "together", [*parts, 255 - parts[0][:10]], 2)) == 8
    assert len(started) == 2


# What ends early.


def killing(monkeypatch, started, after: int) -> None:
    """Stop the first worker early in its share, and kill the second once so many examples are done in all.

    The first goes on when it is known that the second has ended.
    """
    done = {1: 0, 2: 0}
    check = worker_pool._check

    def spy(worker, report, count):
        done[worker.number] += report.get("done", 0)
        if "done" in report and worker.number == 1 and done[1] >= 40:
            os.kill(started[0].pid, signal.SIGSTOP)
        if "done" in report and sum(done.values()) >= after:
            os.kill(started[1].pid, signal.SIGKILL)
        if report.get("ended"):
            os.kill(started[0].pid, signal.SIGCONT)
        check(worker, report, count)

    monkeypatch.setattr(worker_pool, "_check", spy)


def test_a_worker_that_is_killed_is_named_and_what_was_computed_is_kept(tmp_path, monkeypatch, started, computed):  # noqa: F811
    images, options = IMAGES[:300], {"batch_size": 4, "dtype": "float16"}
    with monkeypatch.context() as patched:
        killing(patched, started, after=100)
        message = r"worker 2 of 2 \(process \d+\) was killed \(Killed\), perhaps for want of memory: then take fewer "
        with pytest.raises(RunError, match=message + "workers; what was computed is kept, and the same command goes"):
            extracted(tmp_path / "store", slow_ends, [images], workers=2, **options)
    assert [process.poll() for process in started] == [1, -9]
    assert hidden(tmp_path / "store") == []
    kept = min(len(table) for table in tables(tmp_path / "store").values())
    assert kept >= 36  # 100 less one shard
    extracted(tmp_path / "store", slow_ends, [images], **options)
    assert sum(map(len, computed)) == 300 - kept
    extracted(tmp_path / "alone", slow_ends, [images], **options)
    assert left(tmp_path / "store") == left(tmp_path / "alone")


def by_one_worker(folder: Path, build, dtype: str = "float32", advance=int) -> None:
    """Let a single other process compute."""
    source, _ = distinct([IMAGES])
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
        tensors = build(images)
        with tx.session() as sess:
            network = Network(sess, images, tensors)
            tables = open_tables(network, "uint8 (8, 8, 1)", folder, batch_size=4, dtype=dtype)
            worker_pool.fill_by_workers(network, tables, source, np.arange(len(source)), 4, 1, advance)


def test_what_a_worker_refuses_is_raised_here(tmp_path):
    def large(images):
        return [tf.reshape(tf.cast(images, tf.float32), [-1, 64]) * 1000]

    with pytest.raises(DataError, match=r"mul:0 reaches .*, and float16 no more than 65504.0; keep float32"):
        by_one_worker(tmp_path, large, "float16")
    assert hidden(tmp_path) == []


def test_a_worker_that_breaks_down_shows_its_last_lines(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf 'I0000 00:00 a note\\nsomething\\n\\nbroke\\n' >&2; exit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(RunError, match=r"ended with status 3; what was .* on from there\n  something\n  broke$"):
        extracted(tmp_path / "store", ends, [IMAGES], workers=2)
    assert hidden(tmp_path / "store") == []


@pytest.mark.slow
def test_an_interruption_ends_the_workers_and_keeps_what_they_computed(tmp_path, started):
    def interrupt(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        by_one_worker(tmp_path, slow_ends, advance=interrupt)
    assert [process.returncode for process in started] == [1]
    assert hidden(tmp_path) == []
    assert 4 <= min(len(table) for table in tables(tmp_path).values()) < 580


# What cannot be.


def table_lookup(images):
    initializer = tf.lookup.KeyValueTensorInitializer(tf.range(256, dtype=tf.int64), tf.range(256.0))
    return tf.lookup.StaticHashTable(initializer, 0.0).lookup(tf.cast(images, tf.int64))


def python_function(images):
    return tf.ensure_shape(tf.numpy_function(lambda x: x, [tf.cast(images, tf.float32)], tf.float32), [None, 8, 8, 1])


def within_a_branch(images):
    flag = tf.placeholder_with_default(True, [])
    return tf.cond(flag, lambda: python_function(images), lambda: tf.cast(images, tf.float32))


@pytest.mark.parametrize(
    ("build", "name"),
    [(table_lookup, "hash_table"), (python_function, "PyFunc"), (within_a_branch, "cond")],
)
def test_what_lives_in_this_process_alone_is_refused(tmp_path, started, build, name):
    """By any number of processes: its content is not in the graph, so that other content would find the same rows."""
    for count in (1, 2):
        with pytest.raises(GraphError, match=rf"{name}.*: what .* give.? is not decided by the graph"):
            extracted(tmp_path, build, [IMAGES], workers=count)
    assert started == []


def test_no_workers_at_all_are_refused(tmp_path):
    with pytest.raises(DataError, match="`workers=0` must be 1 or more"):
        extracted(tmp_path, ends, [IMAGES], workers=0)


def test_a_full_disk_is_said_before_anybody_is_started(tmp_path, started, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker_pool.examples, "save", full)
    message = r"cannot write what workers are to read into .*: No space left on device; make room, give another `store`"
    with pytest.raises(DataError, match=message):
        extracted(tmp_path, ends, [IMAGES], workers=2)
    assert started == []
    assert hidden(tmp_path) == []
