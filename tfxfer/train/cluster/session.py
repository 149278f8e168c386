"""Sessions of the processes of a cluster, and the few words that they exchange through a parameter server.

The chief restores the plans and initialises the rest; workers wait until it has. What they say to each other lies in
variables on the servers that no checkpoint holds: the `terms` of the training, which the chief sets when everybody may
begin; the `refusal` of a worker that has others; and the `end`, by which workers and servers end themselves.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tensorflow.compat.v1 as tf

from tfxfer.callables import message
from tfxfer.errors import RunError, TfxferError
from tfxfer.restore.plan import Plan, check
from tfxfer.restore.session import fill
from tfxfer.train.cluster import tasks
from tfxfer.train.cluster.tasks import Task, Watch
from tfxfer.train.steps import Steps

log = logging.getLogger("tfxfer")

T = TypeVar("T")
INTERVAL = 0.5  # seconds between two checks of what the chief says
LINGER = 10.0  # seconds for which a server waits for others to end before it does
PATIENCE_MS = 5000  # for a word from or to a server, which may be gone


class EndedError(RunError):
    """The chief has ended the training."""


class StartedAgainError(RunError):
    """The chief has begun a new start, or is about to."""


class Messages:
    """The variables through which the processes speak: build it in each graph, before the session."""

    def __init__(self, task: Task) -> None:
        """Make the variables that a process needs: of a server only its own."""
        servers = [task.index] if task.serves else range(len(task.cluster["ps"]))
        self._ends = [_Text(f"cluster/end_{server}", server) for server in servers]
        self._terms = _Text("cluster/terms", 0)
        self._refusal = _Text("cluster/refusal", 0)

    def send_terms(self, sess: tf.Session, terms: Mapping[str, Any] | None) -> None:
        """Set the terms, after which workers begin; or with None make them wait."""
        self._refusal.send(sess, "")
        start = {**terms, "start": os.urandom(8).hex()} if terms else {}
        self._terms.send(sess, json.dumps(start))

    def read_terms(self, sess: tf.Session) -> dict[str, Any]:
        """Return the terms and, under `start`, a word that no other start of the chief has; or nothing."""
        return json.loads(self._terms.read(sess) or "{}")

    def send_refusal(self, sess: tf.Session, why: str) -> None:
        """Tell the chief that a worker cannot take part."""
        self._refusal.send(sess, why)

    def read_refusal(self, sess: tf.Session) -> str:
        """Return why a worker cannot take part, or nothing."""
        return self._refusal.read(sess)

    def send_end(self, sess: tf.Session, status: int, why: str) -> None:
        """Tell everybody that it is over, as far as they still hear it."""
        for end in self._ends:
            with contextlib.suppress(tf.errors.OpError, RuntimeError):
                end.send(sess, json.dumps({"status": status, "why": why}))

    def check_end(self, sess: tf.Session) -> None:
        """Check whether it is over.

        Raises:
          EndedError: it is, as planned.
          RunError: it is, for a failure of the chief.
        """
        end = json.loads(self._ends[0].read(sess) or "{}")
        if end and end["status"]:
            raise RunError(f"the chief has failed: {end['why']}")
        if end:
            raise EndedError(end["why"])


class _Text:
    """A variable on a server that holds a text, once one was sent."""

    def __init__(self, name: str, server: int) -> None:
        with tf.device(f"/job:ps/task:{server}"):
            self._variable = tf.get_variable(
                name,
                shape=[],
                dtype=tf.string,
                initializer=lambda *_, **__: tf.constant(""),
                trainable=False,
                use_resource=True,
                collections=["cluster"],
            )
            self._is_sent = self._variable.is_initialized()

    def send(self, sess: tf.Session, text: str) -> None:
        initializer = self._variable.initializer
        sess.run(initializer, {initializer.inputs[1]: text}, options=tf.RunOptions(timeout_in_ms=PATIENCE_MS))

    def read(self, sess: tf.Session) -> str:
        options = tf.RunOptions(timeout_in_ms=PATIENCE_MS)
        return sess.run(self._variable, options=options).decode() if sess.run(self._is_sent, options=options) else ""


def call_watched(call: Callable[[], T], check: Callable[[], object], seconds: float = INTERVAL) -> T:
    """Return what a call returns; while it lasts, check each few seconds: what that raises leaves the call behind."""
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        with contextlib.suppress(BaseException):  # It is raised again where it is waited for.
            try:
                results.append(call())
            except BaseException as error:
                errors.append(error)
                raise
            finally:
                done.set()

    threading.Thread(target=run, daemon=True).start()
    while not done.wait(seconds):
        check()
    for error in errors:
        raise error
    return results[0]


# --- the three kinds of processes ---


def serve(task: Task, *, seconds: float, config: tf.ConfigProto | None = None) -> str:
    """Be a parameter server until the chief says that it is over, and return what it said.

    Args:
      task: this process, a `ps`.
      seconds: for how long the chief may be silent.
      config: what TensorFlow is told.

    Raises:
      RunError: the chief does not answer, or has failed.
    """
    server = server_of(task, config)
    watch = Watch(task.addresses("chief"), seconds)
    with tf.Graph().as_default():
        messages = Messages(task)
        with tf.Session(server.target, config=filtered(task, config)) as sess:
            try:
                while True:
                    messages.check_end(sess)
                    watch.check()
                    time.sleep(INTERVAL)
            except EndedError as end:
                return str(end)
            finally:
                _linger(task)


def _linger(task: Task) -> None:
    """Wait until those who train have ended: they still read what is said here."""
    deadline = time.monotonic() + LINGER
    addresses = task.addresses("chief", "worker").values()
    while time.monotonic() < deadline and any(map(tasks.answers, addresses)):
        time.sleep(INTERVAL)


@contextlib.contextmanager
def chief_session(
    task: Task,
    plans: Sequence[Plan],
    saver: tf.train.Saver,
    messages: Messages,
    *,
    make_steps: Callable[..., Steps] = Steps,
    seconds: float,
    config: tf.ConfigProto | None = None,
) -> Iterator[tf.Session]:
    """Open the chief's session: wait for all others, restore the plans, initialise the rest, finalize the graph.

    When the block ends, however it does, all others are told.

    Args:
      task: this process.
      plans: as `tfxfer.session` takes them.
      saver: of all variables.
      messages: through which the others are spoken to.
      make_steps: makes the steps of `tfxfer.fit` in this session: `ChiefSteps`, but for what `Steps` takes.
      seconds: how long to wait for the others.
      config: what TensorFlow is told.

    Raises:
      RestoreError, WeightsError: as `tfxfer.session` does.
      RunError: others do not answer, or a server is lost.
    """
    check(plans, tf.get_default_graph())
    server = server_of(task, config)
    tasks.wait_for(task.addresses("ps", "worker"), seconds)

    def begin(scaffold: tf.train.Scaffold, sess: tf.Session) -> None:
        messages.send_terms(sess, None)
        fill(sess, plans)

    scaffold = tf.train.Scaffold(init_op=tf.no_op(), init_fn=begin, saver=saver)
    with lost(task), monitored(task, server, scaffold, seconds, config) as sess:
        sess.plans, sess.make_steps = tuple(plans), make_steps
        try:
            yield sess
        except (KeyboardInterrupt, SystemExit):
            messages.send_end(sess, 0, "the chief was stopped; start all again to go on")
            raise
        except BaseException as error:
            known = isinstance(error, TfxferError | OSError | tf.errors.OpError)
            messages.send_end(sess, 1, str(error) if known else type(error).__name__)
            raise
        messages.send_end(sess, 0, "the training has ended")


@contextlib.contextmanager
def monitored(
    task: Task,
    server: tf.distribute.Server,
    scaffold: tf.train.Scaffold,
    seconds: float,
    config: tf.ConfigProto | None,
) -> Iterator[tf.Session]:
    """Open a MonitoredTrainingSession and give the plain session in it.

    Args:
      task, seconds, config: as `chief_session` takes them.
      server: this process's.
      scaffold: what initialises, if it is the chief, and the saver.
    """
    graph = tf.get_default_graph()

    def opened() -> Any:
        with graph.as_default():
            return tf.train.MonitoredTrainingSession(
                master=server.target,
                is_chief=task.chief,
                scaffold=scaffold,
                save_checkpoint_secs=None,
                save_checkpoint_steps=None,
                save_summaries_steps=None,
                save_summaries_secs=None,
                log_step_count_steps=None,
                config=filtered(task, config),
                max_wait_secs=max(1, int(seconds)),
            )

    opened_session = call_watched(opened, Watch(task.addresses("ps"), seconds).check)
    try:
        yield opened_session.run_step_fn(lambda step_context: step_context.session)
    finally:
        # Where a server is gone, this may never return.
        closing = threading.Thread(target=_close, args=[opened_session], daemon=True)
        closing.start()
        closing.join(PATIENCE_MS / 1000)


def _close(session: Any) -> None:
    with contextlib.suppress(tf.errors.OpError):
        session.close()


@contextlib.contextmanager
def lost(task: Task) -> Iterator[None]:
    """Say what it means when a server is gone."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        raise RunError(
            f"a parameter server was lost, of {', '.join(task.cluster['ps'])}: {message(error)}; start all processes "
            "again, and the training goes on from its last checkpoint"
        ) from None


def server_of(task: Task, config: tf.ConfigProto | None) -> tf.distribute.Server:
    """Start TensorFlow's server of this process; it takes connections at once.

    Raises:
      RunError: it cannot, since the port is in use, say.
    """
    cluster = {role: list(addresses) for role, addresses in task.cluster.items()}
    try:
        return tf.distribute.Server(cluster, job_name=task.role, task_index=task.index, config=config)
    except (tf.errors.OpError, RuntimeError) as error:
        where = task.cluster[task.role][task.index]
        raise RunError(f"cannot serve at {where}, as {task.role} {task.index}: {message(error)}") from None


def filtered(task: Task, config: tf.ConfigProto | None) -> tf.ConfigProto:
    """Return a session's configuration: it sees the servers and itself, so that no worker's death stops another."""
    own = tf.ConfigProto()
    if config is not None:
        own.CopyFrom(config)
    own.device_filters.extend(["/job:ps", task.device])
    return own
