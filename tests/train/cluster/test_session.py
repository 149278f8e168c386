"""Waiting for others with patience, and what a process says when it cannot."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import tensorflow.compat.v1 as tf

from tests.clustering import free_addresses
from tfxfer.errors import RunError
from tfxfer.train.cluster import session as cluster_session
from tfxfer.train.cluster.session import Messages, call_watched, chief_session, serve
from tfxfer.train.cluster.tasks import Task


def test_patience_returns_what_the_call_returns_and_raises_what_it_raises():
    assert call_watched(lambda: 3, pytest.fail) == 3
    with pytest.raises(KeyError, match="x"):
        call_watched(lambda: {}["x"], pytest.fail)


def test_patience_looks_around_and_what_that_raises_ends_the_wait():
    release = threading.Event()
    checks = []

    def check() -> None:
        checks.append(None)
        if len(checks) == 3:
            raise RunError("enough")

    with pytest.raises(RunError, match="enough"):
        call_watched(release.wait, check, seconds=0.01)
    release.set()


def test_a_server_without_a_chief_ends_and_names_its_address(monkeypatch):
    monkeypatch.setattr(cluster_session, "LINGER", 0.1)
    server, chief = free_addresses(2)
    with pytest.raises(RunError, match=f"chief 0 at {chief}: no answer for 0.1 seconds"):
        serve(Task({"ps": (server,), "chief": (chief,)}, "ps", 0), seconds=0.1)


def test_a_chief_without_a_server_ends_and_names_its_address():
    server, chief = free_addresses(2)
    task = Task({"ps": (server,), "chief": (chief,)}, "chief", 0)
    with tf.Graph().as_default():
        messages, saver = Messages(task), tf.train.Saver([tf.get_variable("v", [], use_resource=True)])
        began = time.monotonic()
        with (
            pytest.raises(RunError, match=f"ps 0 at {server}: no answer for 0.2 seconds"),
            chief_session(task, [], saver, messages, seconds=0.2),
        ):
            pass
    assert time.monotonic() - began < 10


def test_a_port_in_use_is_said_with_the_address():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RunError, match=f"cannot serve at {address}, as ps 0: "):
            cluster_session.server_of(Task({"ps": (address,), "chief": ("127.0.0.1:1",)}, "ps", 0), None)
