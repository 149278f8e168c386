"""A worker process: computes a share of the missing rows; `store.worker_pool` starts it, and it ends with its parent.

It finds its job in a folder and says how far it is on a pipe, a JSON object a line: `ready` when the folder is no
longer needed, `done` examples after each batch, `error` with the class and the message of a refusal. What it is given
as standard input ends when its parent does, by a kill too; then it writes what it has computed, and ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.data.batches import chunks
from tfxfer.errors import TfxferError
from tfxfer.formats.buffers import owned
from tfxfer.graph.partitioned import groups
from tfxfer.store.compute import Network, fill
from tfxfer.store.examples import load
from tfxfer.store.graph_copy import assignment
from tfxfer.store.store import Table

SECONDS_LEFT = 60.0  # for a batch, once the parent is gone


def main(folder: str, number: int, count: int, reports: int) -> None:
    """Compute the batches number, number + count, ... of a job.

    Args:
      folder: the job that `tfxfer.store.worker_pool` wrote.
      number: of this worker, from 0.
      count: of workers.
      reports: the file descriptor to report on.

    Raises:
      SystemExit: with status 1: the parent is gone, or the error was reported to it.
    """
    gone = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=[gone], daemon=True).start()

    def report(**fields: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(reports, json.dumps(fields).encode() + b"\n")
        if gone.is_set():
            raise SystemExit(1)

    try:
        _work(Path(folder), number, count, report)
    except TfxferError as error:
        report(error=[type(error).__name__, str(error)])
        raise SystemExit(1) from None
    finally:
        if gone.is_set():
            shutil.rmtree(folder, ignore_errors=True)


def _wait_for_end_of_input(gone: threading.Event) -> None:
    os.read(0, 1)
    gone.set()
    time.sleep(SECONDS_LEFT)
    os._exit(1)


def _work(folder: Path, number: int, count: int, report: Callable[..., None]) -> None:
    job = json.loads((folder / "job.json").read_text())
    source = load(folder, job["parts"])
    batches = list(chunks(len(source), job["batch_size"]))[number::count]
    with _session(folder, job["variables"]) as sess:
        tensors = [sess.graph.get_tensor_by_name(name) for name in job["tensors"]]
        tables = [Table(Path(path), about, np.dtype(dtype)) for path, about, dtype in job["tables"]]
        feeds = {
            sess.graph.get_tensor_by_name(name): np.load(folder / f"feed-{place}.npy")
            for place, name in enumerate(job["feeds"])
        }
        network = Network(sess, sess.graph.get_tensor_by_name(job["images"]), tensors, feeds)
        report(ready=True)
        fill(network, tables, source, batches, job["batch_size"], lambda count: report(done=count))


@contextlib.contextmanager
def _session(folder: Path, variables: dict[str, list[int]]) -> Iterator[tf.Session]:
    """Open a session on the graph of the job, whose variables (shapes by name) have the values of the parent's."""
    config = tf.ConfigProto.FromString((folder / "config.pb").read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(tf.GraphDef.FromString((folder / "graph.pb").read_bytes()), name="")
        loads = {name: assignment(graph.get_operation_by_name(name)) for name in variables}
        graph.finalize()
        with tf.Session(graph=graph, config=config) as sess:
            places = {name: folder / f"variable-{place}.npy" for place, name in enumerate(variables)}
            for group in groups({name: path.stat().st_size for name, path in places.items()}):
                feeds = {loads[name][0]: np.load(places[name], mmap_mode="r", allow_pickle=False) for name in group}
                shapes = [variables[name] for name in group]
                sess.run([loads[name][1] for name in group], dict(map(_fed, feeds, feeds.values(), shapes)))
            yield sess


def _fed(value: tf.Tensor, stored: np.ndarray, shape: list[int]) -> tuple[tf.Tensor, np.ndarray]:
    return value, owned(stored).view(value.dtype.as_numpy_dtype).reshape(shape)
