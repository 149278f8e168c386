"""Several processes that fill one store: their job on disk, starting them, and following their reports.

    FOLDER/graph.pb, config.pb      the ops behind the tensors, and how the parent's session was opened
    FOLDER/variable-N.npy           the bytes of the variables that they read
    FOLDER/feed-N.npy               what placeholders are fed beside the images
    FOLDER/part-N.npy or .json      pixels, or where pictures lie; places.npy, keys.npy: which of them are wanted
    FOLDER/job.json                 all else

The folder is a hidden one within the store, and is gone as soon as all workers have read it. Each worker is the
Python that runs here, with the modules that are found here; see `tfxfer.store.worker_main`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import errors, names
from tfxfer.errors import DataError, GraphError, RunError
from tfxfer.graph.traversal import VARIABLES, needed
from tfxfer.store import examples, fingerprint
from tfxfer.store.compute import Network
from tfxfer.store.examples import Source
from tfxfer.store.graph_copy import subgraph
from tfxfer.store.store import Table
from tfxfer.tf_private import session_config

SECONDS_TO_END = 10.0  # for the batch that is being computed, and for writing


class Worker(NamedTuple):
    """A process.

    Attributes:
      number: from 1, for people.
      process: stands for it; what it reports is its `stdout`.
      log: what it has printed.
      listening: the thread that passes its reports on.
    """

    number: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    listening: threading.Thread


# The number of a worker and its report, see `tfxfer.store.worker_main`; the last report is {"ended": status}.
Report = tuple[int, dict[str, Any]]


def fill_by_workers(
    network: Network,
    tables: Sequence[Table],
    source: Source,
    wanted: np.ndarray,
    batch_size: int,
    count: int,
    advance: Callable[[int], None],
) -> None:
    """Compute examples in several processes and write their rows.

    Args:
      network: what is computed; its session has the variables' values, and is not used while the workers run.
      tables: where the rows of each tensor go; open them again to see what the workers wrote.
      source: the examples.
      wanted: which of them are computed; worker k of n takes every n-th batch of them, from the k-th on.
      batch_size: how many examples go through the network at once.
      count: how many processes.
      advance: called after each batch with the number of its examples.

    Raises:
      GraphError: the tensors need what cannot be brought to another process, or have not the batch as first dimension.
      DataError: an example cannot be taken, or a row cannot be written.
      RunError: a worker was killed, or broke down; the others are ended, and what was computed is kept.
    """
    with tempfile.TemporaryDirectory(
        prefix=".workers-", dir=tables[0].path.parent, ignore_cleanup_errors=True
    ) as folder:
        _write_job(Path(folder), network, tables, source, wanted, batch_size)
        with _started(folder, count) as (workers, reports):
            unread = running = count
            while running:
                number, report = reports.get()
                _check(workers[number], report, count)
                if "ready" in report:
                    unread -= 1
                    if not unread:
                        shutil.rmtree(folder, ignore_errors=True)
                elif "done" in report:
                    advance(report["done"])
                else:
                    running -= 1


# --- the job ---


def _write_job(
    folder: Path, network: Network, tables: Sequence[Table], source: Source, wanted: np.ndarray, batch_size: int
) -> None:
    sess, images, tensors, feeds = network.sess, network.images, network.tensors, network.feeds
    ops = needed(tensor.op for tensor in (images, *feeds, *tensors))
    graph = subgraph(images.graph, {op.name for op in ops})
    _check_portable(ops)
    try:
        job = {
            "images": images.name,
            "tensors": [tensor.name for tensor in tensors],
            "tables": [(str(table.path), table.about, table.dtype.str) for table in tables],
            "parts": len(source.parts),
            "batch_size": batch_size,
            "feeds": [tensor.name for tensor in feeds],
            "variables": dict(_write_variables(folder, sess, ops)),
        }
        for place, value in enumerate(feeds.values()):
            np.save(folder / f"feed-{place}.npy", value)
        examples.save(source, wanted, folder)
        (folder / "graph.pb").write_bytes(graph.SerializeToString())
        # As many threads as here, since bits may depend on it: by oneDNN, VGG16 and SqueezeNet 1.0 gave the same ones
        # with 1 to 4 threads; by Eigen (TF_ENABLE_ONEDNN_OPTS=0), with 1 and with more they were 1e-6 apart.
        (folder / "config.pb").write_bytes(session_config(sess).SerializeToString())
        (folder / "job.json").write_text(json.dumps(job))
    except OSError as error:
        raise DataError(
            f"cannot write what workers are to read into {folder.parent}: {error.strerror}; make room, give another "
            "`store`, or leave workers out"
        ) from None


def _check_portable(ops: Iterable[tf.Operation]) -> None:
    # What lies in this process alone besides, as a table or a Python function, has no address to begin with.
    strings = [op.name for op in ops if op.type in VARIABLES and op.get_attr("dtype") == tf.string]
    if strings:
        raise GraphError(
            f"{names.listed(strings)}: a variable of strings cannot be brought to another process; leave workers out"
        )


def _write_variables(
    folder: Path, sess: tf.Session, ops: Iterable[tf.Operation]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Write the bytes of each variable; yield its name and its shape."""
    values = {op.name: fingerprint.value_of(op) for op in ops if op.type in VARIABLES}
    arrays = (pair for group in fingerprint.read_in_groups(sess, values) for pair in group.items())
    for place, (name, array) in enumerate(arrays):
        value = np.asarray(array)
        np.save(folder / f"variable-{place}.npy", np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        yield name, value.shape


# --- the processes ---


@contextlib.contextmanager
def _started(folder: str, count: int) -> Iterator[tuple[list[Worker], queue.SimpleQueue[Report]]]:
    workers: list[Worker] = []
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
    try:
        for number in range(count):
            workers.append(_start(folder, number, count, reports))
        yield workers, reports
    finally:
        _end(workers)


def _start(folder: str, number: int, count: int, reports: queue.SimpleQueue[Report]) -> Worker:
    # What it prints goes to its log, apart from its reports. It has a session of its own: Ctrl-C is for the parent.
    code = (
        f"import os, sys; reports = os.dup(1); os.dup2(2, 1); sys.path[:] = {[*map(str, sys.path)]}; "
        f"from tfxfer.store.worker_main import main; main({folder!r}, {number}, {count}, reports)"
    )
    log = tempfile.TemporaryFile()  # noqa: SIM115  # It is closed when the process has ended.
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
    )
    listening = threading.Thread(target=_listen, args=[number, process, reports], name="tfxfer-worker", daemon=True)
    listening.start()
    return Worker(number + 1, process, log, listening)


def _listen(number: int, process: subprocess.Popen[bytes], reports: queue.SimpleQueue[Report]) -> None:
    with process.stdout as lines:  # type: ignore[union-attr]
        for line in lines:
            reports.put((number, json.loads(line)))
    reports.put((number, {"ended": process.wait()}))


def _check(worker: Worker, report: dict[str, Any], count: int) -> None:
    if "error" in report:
        kind, message = report["error"]
        raise getattr(errors, kind)(message)
    status = report.get("ended", 0)
    if status:
        how = f"was killed ({signal.strsignal(-status)})" if status < 0 else f"ended with status {status}"
        why = ", perhaps for want of memory: then take fewer workers" if status == -signal.SIGKILL else ""
        head = (
            f"worker {worker.number} of {count} (process {worker.process.pid}) {how}{why}; what was computed is kept, "
            "and the same command goes on from there"
        )
        raise RunError("\n  ".join([head, *_last_lines(worker.log)]))


def _last_lines(log: IO[bytes], count: int = 10) -> list[str]:
    size = os.fstat(log.fileno()).st_size
    text = os.pread(log.fileno(), 8192, max(0, size - 8192)).decode("utf-8", "backslashreplace")
    return [line for line in text.splitlines() if line.strip() and not line.startswith(errors.START_NOTES)][-count:]


def _end(workers: Sequence[Worker]) -> None:
    """Let the workers write what they have computed, and end those that take long."""
    for worker in workers:
        worker.process.stdin.close()  # type: ignore[union-attr]
    last = time.monotonic() + SECONDS_TO_END
    try:
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, last - time.monotonic()))
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
            worker.listening.join()
            worker.log.close()
