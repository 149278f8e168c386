"""A worker's process: any graph and any variables arrive there, and it ends with its parent."""
# imported fixtures are taken by their names

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.filling import left
from tests.store.test_extraction import computed, extracted, graph, raw  # noqa: F401
from tests.store.test_worker_pool import IMAGES, hidden
from tfxfer.store.extraction import extract

ROOT = Path(__file__).resolve().parents[2]


SHARING = [sys.executable, "-m", "tests.sharing"]


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
