"""One parameter server and two workers: in threads of one process, and as processes that are killed."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tests.clustering import Cluster, free_addresses, wait_until
from tests.tools.test_predict import run
from tfxfer.data import Data, Split
from tfxfer.data.batches import batches as order_of_all
from tfxfer.errors import DataError, RunError, TfxferError
from tfxfer.graph.sync_replicas import Replicas, placed
from tfxfer.models import autoencoder, heads
from tfxfer.tools import evaluate, train
from tfxfer.train.cluster.session import Messages, chief_session, serve
from tfxfer.train.cluster.tasks import Task
from tfxfer.train.cluster.training import ChiefSteps, Worker, own_batches, own_part
from tfxfer.train.training import Fitted

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = ROOT / "checkpoints/digits_autoencoder"
EPOCHS, SIZE = 4, 10


def examples() -> Data:
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 3, 150)
    images = generator.integers(0, 256, (150, 8, 8, 1)).astype(np.uint8) // 2
    images[np.arange(150), labels * 2] += 90
    return Data(*(Split(images[a:b], labels[a:b]) for a, b in ((0, 70), (70, 110), (110, 150))), ("a", "b", "c"))


def built(replicas: Replicas | None, stages: bool) -> tx.graph.train_step.Step:
    tf.set_random_seed(3)
    images = tf.placeholder(tf.uint8, [None, 8, 8, 1], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    logits = heads.classifier(autoencoder.encoder(images)["flatten"], hidden=[12], classes=3)
    later = [tx.Stage(2, tx.select("conv2/.*"), 0.1)] if stages else []
    chosen = [tx.Stage(0, tx.select("fc.*", "logits/.*")), *later]
    rates = {"fc1/bias": 0.5}
    return tx.train_step(
        images, labels, logits, stages=chosen, multipliers=rates, l2=0.01, learning_rate=0.01, replicas=replicas
    )


def in_one_process(logdir: Path, stages: bool) -> Fitted:
    with tf.Graph().as_default():
        step = built(None, stages)
        with tx.session() as sess:
            return tx.fit(sess, step, examples(), epochs=EPOCHS, batch_size=SIZE, logdir=logdir)


def in_threads(
    logdir: Path,
    stages: bool,
    synchronous: bool,
    workers_terms=None,
    workers_data=None,
    addresses=None,
    min_slice_size=1 << 20,
):
    """Train in a cluster of two workers whose processes are threads; return what they returned or raised."""
    addresses = addresses or free_addresses(3)
    cluster = {"ps": tuple(addresses[:-2]), "worker": tuple(addresses[-2:])}
    terms = {"batch_size": SIZE, "seed": 0, "steps": 7 * EPOCHS}
    found: dict[str, object] = {}

    def server(number: int) -> None:
        try:
            found["ps"] = serve(Task(cluster, "ps", number), seconds=30.0)
        except RunError as error:
            found["ps"] = error

    def worker() -> None:
        task = Task(cluster, "worker", 1)
        replicas = Replicas(2, chief=False) if synchronous else None
        with tf.Graph().as_default(), placed(cluster, task.device, min_slice_size):
            step, messages = built(replicas, stages), Messages(task)
            try:
                found["worker"] = Worker(
                    task,
                    step,
                    workers_data or examples(),
                    messages,
                    replicas,
                    {**terms, **(workers_terms or {})},
                    seconds=30.0,
                ).run()
            except TfxferError as error:
                found["worker"] = error

    def chief() -> None:
        task = Task(cluster, "worker", 0)
        replicas = Replicas(2, chief=True) if synchronous else None
        with tf.Graph().as_default(), placed(cluster, task.device, min_slice_size):
            step, messages = built(replicas, stages), Messages(task)
            own = {"task": task, "messages": messages, "replicas": replicas, "terms": terms, "seconds": 4.0}
            make_steps = functools.partial(ChiefSteps, step=step, **own)
            try:
                with chief_session(task, [], step.saver, messages, make_steps=make_steps, seconds=30.0) as sess:
                    found["chief"] = tx.fit(sess, step, examples(), epochs=EPOCHS, batch_size=SIZE, logdir=logdir)
            except RunError as error:
                found["chief"] = error

    every = [*(functools.partial(server, number) for number in range(len(cluster["ps"]))), worker]
    threads = [threading.Thread(target=one, daemon=True) for one in every]
    for one in threads:
        one.start()
    chief()
    for one in threads:
        one.join(60)
        assert not one.is_alive()
    return found


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    # The servers of threads go on to answer when these have ended.
    monkeypatch.setattr("tfxfer.train.cluster.session.LINGER", 0.5)


def variables(prefix: str) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in sorted(reader.get_variable_to_shape_map())}


@pytest.mark.parametrize(
    ("stages", "servers"),
    [(True, 1), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((False, 1), (True, 3)))],
)
def test_together_two_processes_make_the_steps_of_one(tmp_path, stages, servers):
    alone = in_one_process(tmp_path / "one", stages)
    addresses = free_addresses(servers + 2)
    found = in_threads(tmp_path / "two", stages, synchronous=True, addresses=addresses, min_slice_size=300)
    together = found["chief"]
    assert (together.steps, together.frozen) == (alone.steps, alone.frozen)
    one, two = variables(alone.last), variables(together.last)
    assert list(one) == list(two)
    for name, value in one.items():
        # Batches of 10 in halves: the mean of the means is the mean but for rounding.
        np.testing.assert_allclose(two[name], value, rtol=2e-3, atol=2e-4, err_msg=name)
    for name in ("conv1/kernel", "conv1/bias", *([] if stages else ["conv2/kernel", "conv2/bias"])):
        assert two[name].tobytes() == one[name].tobytes()
    assert "28 steps" in str(found["worker"])
    assert found["ps"] == "the training has ended"


# --- what goes wrong ---


def steal_tokens(server: str, stolen: list[int]) -> None:
    """Take what lets processes begin their next steps, as one that is killed in that moment does."""
    with tf.Graph().as_default():
        with tf.device("/job:ps/task:0"):
            token = tf.FIFOQueue(-1, tf.int64, shapes=(), shared_name="sync_token_q").dequeue()
        with tf.Session(f"grpc://{server}", config=tf.ConfigProto(device_filters=["/job:ps"])) as sess:
            stolen += [int(sess.run(token)) for _ in range(3)]


@pytest.mark.slow
def test_a_step_that_all_wait_for_begins_once_more(tmp_path, monkeypatch):
    monkeypatch.setattr("tfxfer.train.cluster.training.STUCK_SECONDS", 1.0)
    monkeypatch.setattr("tfxfer.train.cluster.training.FIRST_STEP", 1.0)
    addresses, stolen = free_addresses(3), []
    thief = threading.Thread(target=steal_tokens, args=(addresses[0], stolen), daemon=True)
    monkeypatch.setattr(Messages, "send_terms", functools.partialmethod(_then, Messages.send_terms, thief))
    found = in_threads(tmp_path / "run", False, synchronous=True, addresses=addresses)
    assert found["chief"].steps == 28
    assert int(re.search(r"took part in (\d+) steps", str(found["worker"]))[1]) >= 28
    assert len(stolen) == 3


def _then(self: Messages, send_terms, thief: threading.Thread, sess: tf.Session, terms) -> None:
    send_terms(self, sess, terms)
    if terms:
        thief.start()


def test_a_worker_that_was_started_otherwise_refuses_and_names_all_that_differs(tmp_path):
    found = in_threads(tmp_path / "run", False, synchronous=True, workers_terms={"batch_size": 12, "weights": "f00"})
    assert re.search(
        r"this worker was started otherwise than the chief:\n"
        r"  batch_size: the chief has 10, this worker 12\n  weights: the chief has None, this worker f00\n",
        str(found["worker"]),
    )
    assert re.match("worker 1 was started otherwise than the chief:\n  batch_size: .*10.*12\n", str(found["chief"]))
    assert re.match("the chief has failed: worker 1 was started otherwise", str(found["ps"]))


def test_a_worker_refuses_features_that_its_session_does_not_compute(tmp_path):
    data = examples()
    features = {"ENCODER/flatten:0": np.ones((70, 128), np.float32)}
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, features=features))
    found = in_threads(tmp_path, False, synchronous=False, workers_data=data)
    assert isinstance(found["worker"], DataError)
    assert re.search("ENCODER/flatten:0: 4 examples of train were computed again", str(found["worker"]))
    assert found["chief"].steps == 28


# --- parts ---


@pytest.mark.parametrize("number", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_parts_of_a_batch_are_never_empty_and_make_it_up(size, number):
    batch = np.arange(size) + 100
    parts = [own_part(batch, place, number) for place in range(number)]
    assert all(len(part) for part in parts)
    assert set(np.concatenate(parts)) == set(batch)
    if size >= number:
        assert sum(map(len, parts)) == size


def test_processes_that_make_steps_of_their_own_share_each_epoch():
    cluster = {"ps": ("a:1",), "worker": ("b:1", "c:1", "d:1")}
    taken = [_first(Task(cluster, "worker", place), 4) for place in range(3)]
    assert sorted(np.concatenate(taken)) == sorted(range(120))


def _first(task: Task, batches: int) -> np.ndarray:
    order = own_batches(functools.partial(order_of_all, 0, 120, 10), 0, task, None)
    return np.concatenate([next(order) for _ in range(batches)])


# --- as processes ---


def saved(logdir: Path) -> int:
    return max((int(path.name.split("-")[1].split(".")[0]) for path in logdir.glob("*.state.json")), default=0)


def digits(logdir: Path, epochs: int) -> list[object]:
    return [f"--weights={WEIGHTS}", f"--logdir={logdir}", f"--epochs={epochs}", "--batch_size=32"]


def accuracy(said: str) -> float:
    return float(re.search(r"^test accuracy (\d\.\d{4})$", said, re.MULTILINE)[1])


@pytest.mark.slow
def test_killed_workers_and_chiefs_come_back_and_the_run_is_as_good_as_one_process(tmp_path, capsys):
    epochs, logdir = 30, tmp_path / "run"
    with Cluster(tmp_path, *digits(logdir, epochs), "--cluster_timeout=120", "--async_training=false") as cluster:
        server, chief, worker = cluster.start("ps"), cluster.start("worker", 0), cluster.start("worker", 1)
        wait_until(lambda: saved(logdir) >= 120)
        worker.kill()
        worker.wait()
        worker = cluster.start("worker", 1)
        at = saved(logdir)
        wait_until(lambda: saved(logdir) >= at + 120)
        chief.kill()
        chief.wait()
        at = saved(logdir)
        assert at < 40 * epochs
        chief = cluster.start("worker", 0)
        assert [process.wait(120) for process in (chief, worker, server)] == [0, 0, 0]
        said = cluster.said("worker", 0, "out").read_text()
        assert f"go on from step {at} of {40 * epochs}" in said
        assert "the chief begins again" in cluster.said("worker", 1, "out").read_text()
        assert "Traceback" not in "".join(file.read_text() for file in tmp_path.glob("*.err"))
    rows = json.loads((logdir / f"model.ckpt-{40 * epochs}.state.json").read_text())["history"]
    assert [row["step"] for row in rows if row["split"] == "validation"] == [40 * (k + 1) for k in range(epochs)]
    frozen, weights = variables(logdir / f"model.ckpt-{40 * epochs}"), tx.open_weights(WEIGHTS)
    for name in ("conv1/kernel", "conv1/bias", "conv2/kernel", "conv2/bias"):
        assert frozen[name].tobytes() == weights[name].tobytes()
    capsys.readouterr()
    assert run(evaluate, logdir) == 0
    together = accuracy(capsys.readouterr().out)
    assert together == accuracy(said)
    assert run(train, *digits(tmp_path / "one", epochs)) == 0
    assert abs(together - accuracy(capsys.readouterr().out)) <= 0.003
