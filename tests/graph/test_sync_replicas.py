"""Where variables lie, and the op by which a process takes part in a step; what it does is in the tests of training."""

from __future__ import annotations

import pytest
import tensorflow.compat.v1 as tf

import tfxfer as tx
from tfxfer.graph.partitioned import wholes
from tfxfer.graph.sync_replicas import Replicas, placed
from tfxfer.models import heads

CLUSTER = {"ps": ("a:1", "b:1"), "worker": ("c:1", "d:1")}


def built(replicas: Replicas | None, device: str = "/job:worker/task:1", min_slice_size: int = 1000):
    images = tf.placeholder(tf.uint8, [None, 4, 4, 1])
    labels = tf.placeholder(tf.int64, [None])
    with placed(CLUSTER, device, min_slice_size):
        flat = tf.reshape(tf.cast(images, tf.float32), [-1, 16])
        logits = heads.classifier(flat, hidden=[8], classes=3)
        return tx.train_step(images, labels, logits, train=tx.select("fc.*", "logits/.*"), replicas=replicas)


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        yield graph


def test_variables_go_where_the_fewest_bytes_are_and_all_else_stays(graph):
    step = built(None)
    where = {v.op.name: v.device for v in tx.select(".*")}
    # 512 bytes to the first; 32, 96 and 12 to the second, which stays the lighter.
    assert where == {
        "fc1/kernel": "/job:ps/task:0",
        "fc1/bias": "/job:ps/task:1",
        "logits/kernel": "/job:ps/task:1",
        "logits/bias": "/job:ps/task:1",
    }
    assert step.loss.device == "/job:worker/task:1"
    slots = {v.op.name: v.device for v in step.slots}
    assert slots["fc1/kernel/Adam"] == "/job:ps/task:0"
    assert slots["logits/kernel/Adam_1"] == "/job:ps/task:1"


def test_a_large_kernel_lies_on_several_servers_and_its_slots_beside_it(graph):
    step = built(Replicas(2, chief=True), min_slice_size=200)
    where = {v.op.name: (v.device, v.shape.as_list()) for v in (*tx.select(".*"), *step.slots)}
    assert where["fc1/kernel/part_0"] == where["fc1/kernel/part_0/Adam"] == ("/job:ps/task:0", [8, 8])
    assert where["fc1/kernel/part_1"] == where["fc1/kernel/part_1/Adam"] == ("/job:ps/task:1", [8, 8])
    assert where["logits/kernel"] == ("/job:ps/task:1", [8, 3])
    assert len(step.trained) == 5
    assert list(wholes(step.trained)) == ["fc1/kernel", "fc1/bias", "logits/kernel", "logits/bias"]


def test_checkpoints_have_the_names_of_one_process(graph):
    built(Replicas(2, chief=True))
    together = [(v.op.name, v.shape) for v in tf.global_variables()]
    with tf.Graph().as_default():
        built(None)
        assert together == [(v.op.name, v.shape) for v in tf.global_variables()]


def test_no_worker_runs_an_op_that_updates(graph):
    step = built(Replicas(2, chief=False))
    assert not {op.type for op in _behind(step.stages[0].apply)} & {"ResourceApplyAdam", "AssignAddVariableOp"}


def test_the_chief_runs_the_update_with_its_step(graph):
    replicas = Replicas(2, chief=True)
    step = built(replicas, "/job:worker/task:0")
    found = [op.type for op in _behind(step.stages[0].apply)]
    assert found.count("ResourceApplyAdam") == 4
    assert list(replicas.start_ops) == [step.stages[0].apply]
    assert len(replicas.leftovers) == 5


def _behind(op: tf.Operation) -> set[tf.Operation]:
    found, waiting = set(), [op]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [*one.control_inputs, *(tensor.op for tensor in one.inputs)]
    return found
