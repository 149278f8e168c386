"""Several processes fill one store: with the same bits as one alone, and nothing is lost when some are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.data.test_pictures import encoded, photo
from tests.filling import left, pictures, tables
from tests.store.test_extraction import computed, extracted, graph, raw  # noqa: F401
from tfxfer.data import Pictures
from tfxfer.errors import DataError, GraphError, RunError
from tfxfer.models import autoencoder
from tfxfer.store import worker_pool
from tfxfer.store.extraction import extract

ROOT = Path(__file__).resolve().parents[2]
SHARING = [sys.executable, "-m", "tests.sharing"]
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
    parts = [IMAGES[:300], IMAGES[300:]]
    alone = extracted(tmp_path / "alone", ends, parts, batch_size=16)
    together = extracted(tmp_path / "together", ends, parts, batch_size=16, workers=2)
    assert [rows.tobytes() for rows in together] == [rows.tobytes() for rows in alone]
    assert left(tmp_path / "together") == left(tmp_path / "alone")
    assert sorted(os.listdir(tmp_path / "together")) == sorted(os.listdir(tmp_path / "alone"))
    assert [process.returncode for process in started] == [0, 0]
    assert capfd.readouterr() == ("", "")
    # Only what is lacking is computed, and nobody is started for one batch.
    more = np.concatenate([IMAGES, 255 - IMAGES[:10]])
    assert len(extracted(tmp_path / "together", ends, [more], batch_size=16, workers=2)[0]) == 610
    assert len(started) == 2


def test_pictures_and_their_crops_too_in_half_precision(tmp_path):
    files = []
    for number in range(9):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(encoded(photo(40, 50, number)))
    rows = []
    for count in (1, 2):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            images = tf.placeholder(tf.uint8, [None, 16, 16, 3])
            kernel = tf.get_variable("kernel", [3, 3, 3, 8])
            tensor = tf.nn.conv2d(tf.cast(images, tf.float32), kernel, 2, "SAME")
            given = Pictures(files, (16, 16)).augmented(2, 4)
            with tx.session() as sess:
                ((part,),) = extract(
                    sess,
                    images,
                    [tensor],
                    [given],
                    tmp_path / f"store{count}",
                    batch_size=4,
                    dtype="float16",
                    workers=count,
                )
                rows.append(part[np.arange(18)].tobytes())
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resource", "reference", "imported"])
def test_any_graph_goes_to_other_processes(tmp_path, kind):
    rows = []
    for count in (1, 2):
        with tf.Graph().as_default() as built:
            images, _ = raw(tmp_path, kind)
            flat = built.get_tensor_by_name("flat:0")
            with tx.session() as sess:
                ((part,),) = extract(sess, images, [flat], [IMAGES], tmp_path / f"store{count}", workers=count)
                rows.append(part[np.arange(600)].tobytes())
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_variables_of_all_kinds_and_shapes_keep_their_values(tmp_path):
    def build(images):
        x = tf.reshape(tf.cast(images, tf.float32), [-1, 64])
        scalar = tf.get_variable("scalar", [], initializer=tf.constant_initializer(3))
        half = tf.get_variable("half", [64], tf.bfloat16, tf.constant_initializer(1.5), use_resource=True)
        none = tf.get_variable("none", [0, 64])
        whole = tf.get_variable("whole", [2], tf.int64, tf.constant_initializer(2**40))
        return tf.concat([x * scalar * tf.cast(half, tf.float32), none], 0) + tf.cast(whole[0] // 2**30, tf.float32)

    alone, together = (extracted(tmp_path / str(count), build, [IMAGES], workers=count) for count in (1, 2))
    assert together[0].tobytes() == alone[0].tobytes()
    assert together[0].max() == 255 * 3 * 1.5 + 1024


# What ends early.


def killing(monkeypatch, started, which: int, after: int, number: int = signal.SIGKILL) -> None:
    """Kill a worker once so many examples are done."""
    done = [0]
    check = worker_pool._check

    def spy(worker, said, count):
        done[0] += said.get("done", 0)
        if done[0] >= after and "done" in said:
            os.kill(started[which].pid, number)
        check(worker, said, count)

    monkeypatch.setattr(worker_pool, "_check", spy)


def test_a_worker_that_is_killed_is_named_and_what_was_computed_is_kept(tmp_path, monkeypatch, started, computed):  # noqa: F811
    with monkeypatch.context() as patched:
        killing(patched, started, which=1, after=100)
        message = r"worker 2 of 2 \(process \d+\) was killed \(Killed\), perhaps for want of memory: then take fewer "
        with pytest.raises(RunError, match=message + "workers; what was computed is kept, and the same command goes"):
            extracted(tmp_path / "store", slow_ends, [IMAGES], batch_size=4, workers=2)
    assert [process.poll() for process in started] == [1, -9]
    assert hidden(tmp_path / "store") == []
    held = min(len(table) for table in tables(tmp_path / "store").values())
    assert held >= 36  # 100 less one shard
    extracted(tmp_path / "store", slow_ends, [IMAGES], batch_size=4)
    assert sum(map(len, computed)) == 580 - held
    extracted(tmp_path / "alone", slow_ends, [IMAGES], batch_size=4)
    assert left(tmp_path / "store") == left(tmp_path / "alone")


def test_what_a_worker_refuses_is_raised_here(tmp_path):
    def large(images):
        return tf.reshape(tf.cast(images, tf.float32), [-1, 64]) * 1000

    with pytest.raises(DataError, match=r"mul:0 reaches .*, and float16 no more than 65504.0; keep float32"):
        extracted(tmp_path, large, [IMAGES], dtype="float16", workers=2)
    assert hidden(tmp_path) == []


def test_a_worker_that_breaks_down_shows_its_last_lines(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf 'I0000 00:00 a note\\nsomething\\n\\nbroke\\n' >&2; exit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(RunError, match=r"ended with status 3; what was .* on from there\n  something\n  broke$"):
        extracted(tmp_path / "store", ends, [IMAGES], workers=2)
    assert hidden(tmp_path / "store") == []


def test_an_interruption_ends_the_workers_and_keeps_what_they_computed(tmp_path, monkeypatch, started):
    def interrupt(worker, said, count):
        if "done" in said:
            raise KeyboardInterrupt

    monkeypatch.setattr(worker_pool, "_check", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extracted(tmp_path, slow_ends, [IMAGES], batch_size=4, workers=2)
    assert [process.returncode for process in started] == [1, 1]
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


# Kills.


def running(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float) -> bool:
    last = time.monotonic() + seconds
    while not condition() and time.monotonic() < last:
        time.sleep(0.05)
    return condition()


def shared(folder: Path, count: int) -> dict[str, dict[str, str]]:
    """Let that many processes do what is lacking, and return the rows."""
    subprocess.run([*SHARING, folder, str(count)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return left(folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, dict[str, str]]:
    """The rows that one process writes which nobody disturbs."""
    return shared(tmp_path_factory.mktemp("alone") / "store", 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["ready", "done"])
def test_when_the_parent_is_killed_its_workers_end_and_the_next_start_goes_on(tmp_path, alone, number, moment):
    """Killed as soon as the workers exist, or once rows are there."""
    store = tmp_path / "store"
    parent = subprocess.Popen([*SHARING, store, "2"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        pids = json.loads(parent.stdout.readline())
        assert len(pids) == 2
        if moment == "done":
            assert wait_for(lambda: any(store.glob("*/*.json")), 60)
        parent.send_signal(number)
        assert parent.wait(30) != 0
    finally:
        parent.kill()
        parent.stdout.close()
    assert wait_for(lambda: not any(map(running, pids)), 30)
    assert wait_for(lambda: not hidden(store), 1)
    assert shared(store, 2) == alone
    assert [len(rows) for rows in alone.values()] == [580]
