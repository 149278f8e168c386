"""TF_CONFIG: what it gives, and every way in which it can be wrong."""

from __future__ import annotations

import json
import re
import socket
import time

import pytest

from tests.clustering import free_addresses
from tests.tools.test_predict import run
from tfxfer.errors import RunError
from tfxfer.tools import train
from tfxfer.train.cluster.tasks import Task, Watch, answers, read, wait_for

THREE = {"worker": ["a:1", "b:2"], "ps": ["c:3"]}


def config(cluster: object = THREE, role: object = "worker", index: object = 0, **more: object) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": role, "index": index}, **more})


@pytest.mark.parametrize("text", [None, "", "  ", "{}"])
def test_without_a_cluster_there_is_no_task(text):
    assert read(text) is None


def test_worker_0_is_chief_where_none_is_named():
    first, second, server = read(config()), read(config(index=1)), read(config(role="ps"))
    assert (first.chief, second.chief, server.serves) == (True, False, True)
    assert (first.place, second.place, second.device) == (0, 1, "/job:worker/task:1")
    assert second.addresses("chief", "worker", "ps") == {"worker 0": "a:1", "worker 1": "b:2", "ps 0": "c:3"}


def test_a_chief_that_is_named_comes_before_all_workers():
    cluster = {"chief": ["h:9"], **THREE}
    chief, worker = read(config(cluster, "chief")), read(config(cluster, "worker"))
    assert (chief.chief, worker.chief, chief.place, worker.place) == (True, False, 0, 1)
    assert worker.addresses("worker") == {"worker 0": "a:1", "worker 1": "b:2"}


def test_what_other_tools_write_besides_is_no_fault():
    assert read(config({**THREE, "chief": []}, rpc_layer="grpc")) == Task(
        {"worker": ("a:1", "b:2"), "ps": ("c:3",)}, "worker", 0
    )


@pytest.mark.parametrize(("text", "message"), [
    ("{", "TF_CONFIG is not JSON"),
    ("[]", '"cluster" must give a list of addresses for each role'),
    ('"worker"', '"cluster" must give a list of addresses for each role'),
    ('{"task": {}}', '"cluster" must give a list of addresses for each role'),
    (config({"worker": "a:1"}), '"cluster" must give a list of addresses for each role'),
    (config({"worker": [1]}), '"cluster" must give a list of addresses for each role'),
    (json.dumps({"cluster": THREE}), '"task" must have "type" and "index"'),
    (json.dumps({"cluster": THREE, "task": {"type": "ps"}}), '"task" must have "type" and "index"'),
    (config(role="boss"), "the task's type 'boss' is unknown; there are chief, worker, ps"),
    (config(role=["ps"]), "the task's type .* is unknown"),
    (config(role="chief"), "the task is a chief, and the cluster has none"),
    (config(index=2), "the task's index 2 is out of range; worker has 0 to 1"),
    (config(index=-1), "the task's index -1 is out of range"),
    (config(index="0"), "the task's index '0' is out of range"),
    (config(index=True), "the task's index True is out of range"),
    (config({**THREE, "chief": ["x:1", "y:1"]}), "there are 2 chiefs; name one"),
    (config({**THREE, "evaluator": ["x:1"]}), "evaluator: unknown role"),
    (config({"worker": ["a:1"]}), "the cluster has no parameter server"),
    (config({"ps": ["a:1"]}, "ps"), "nobody trains"),
    (config({"worker": ["a", "b:2"], "ps": ["c:3"]}), "a: not host:port"),
    (config({"worker": [":1", "b:x", "b:0", "b:65536", "u@b:1"], "ps": ["c:3"]}), ":1, b:x, b:0, .*: not host:port"),
    (config({"worker": ["a:1", "c:3"], "ps": ["c:3"]}), "c:3: named twice"),
    (config({"worker": ["a"], "chief": ["x:1", "y:1"]}, index=7), "2 chiefs.*no parameter server.*a: no.*index 7"),
])  # fmt: skip
def test_what_cannot_be_used_is_said_all_at_once_with_an_example(text, message):
    with pytest.raises(RunError, match=message) as caught:
        read(text)
    assert '"task": {"type": "worker", "index": 0}' in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "RunError: TF_CONFIG is not JSON"),
    (config(role="boss"), "RunError: TF_CONFIG cannot be used: the task's type 'boss'"),
])  # fmt: skip
def test_the_tool_refuses_before_it_loads_anything(text, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert run(train, "--restore=none", f"--logdir={tmp_path / 'run'}") == 1
    assert re.match(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_store_goes_with_one_process(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config())
    assert run(train, f"--logdir={tmp_path / 'run'}", f"--store={tmp_path / 'store'}") == 1
    assert "RunError: --store goes with one process" in capsys.readouterr().err
    assert run(train, f"--logdir={tmp_path / 'run'}", "--precision=bfloat16") == 1
    assert "RunError: --precision=bfloat16 needs --store, and so one process" in capsys.readouterr().err


# --- who answers ---


def test_who_does_not_answer_is_named_with_the_address_after_the_deadline():
    (address,) = free_addresses(1)
    began = time.monotonic()
    with pytest.raises(RunError, match=rf"ps 0 at {address}: no answer for 0\.5 seconds; .*`cluster_timeout`"):
        wait_for({"ps 0": address}, 0.5)
    assert time.monotonic() - began < 5


def test_who_answers_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert answers(address)
        wait_for({"ps 0": address}, 0.0)
        Watch({"ps 0": address}, 0.0).check()
    assert not answers(address)


def test_a_watch_forgives_silence_up_to_its_limit():
    (address,) = free_addresses(1)
    patient = Watch({"worker 1": address}, 60.0)
    assert (patient.silent(), patient.overdue()) == (["worker 1"], "")
    hasty = Watch({"worker 1": address}, 0.0)
    time.sleep(0.01)
    with pytest.raises(RunError, match=f"worker 1 at {address}: no answer for 0 seconds"):
        hasty.check()
