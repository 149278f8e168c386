"""Extraction on Apache Beam: the workers of any of its runners read pictures and fill one store.

    paths -> batches of paths -> [read, digest, decode; network; shards of the store] -> what is bad, and why

Beam may run a bundle of pictures again, after a worker was lost or beside a slow one. Nothing is doubled by that: a row
is found by the digest of its picture, and a shard is named by what it holds, so that the same is written over the same.
"""

from __future__ import annotations

import functools
import os
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from tfxfer.data import decoding
from tfxfer.data.pictures import Pictures, in_parallel
from tfxfer.errors import DataError, RunError, TfxferError
from tfxfer.store.beam import faults, origins
from tfxfer.store.beam.origins import NAMESPACE, Origin
from tfxfer.store.compute import Network, RunBatch
from tfxfer.store.examples import keys_of
from tfxfer.store.extraction import open_tables
from tfxfer.store.store import Table

SHARD_BYTES = 8 << 20
COUNTERS = ("pictures", "bytes", "computed", "found", "failures")


class Job(NamedTuple):
    """What the workers are told.

    Attributes:
      opened: opens the network, of one tensor; called once in each process, so that it is a function of a module.
      store: the folder, which all workers share.
      token: the name of a file in it, by which a worker sees that it is the same folder.
      size, resize: how pictures are brought to pixels, as `Pictures` takes them.
      batch_size, dtype: as `extract` takes them.
      decode: as `Pictures` takes it; pictures that it decodes `exact` are decoded a first time to see whether they can.
      address: of the table on the machine that starts the job; workers compare theirs with it.
    """

    opened: Callable[[], AbstractContextManager[Network]]
    store: str
    token: str
    size: tuple[int, int]
    resize: str
    batch_size: int
    dtype: str
    address: str = ""
    decode: str = "exact"


def run(job: Job, origin: Origin, bad: str, options: Sequence[str]) -> dict[str, int]:
    """Run a job on the runner that the options name, and wait until it is done.

    Args:
      job: without its token and address, which are worked out here.
      origin: where the pictures are.
      bad: the file for what cannot be used, a JSON object with `path` and `reason` a line.
      options: Beam's, as on a command line.

    Returns:
      By name: `pictures` read, `bytes` of them, rows `computed`, rows `found`, `failures`. A bundle that was run again
      may count twice.

    Raises:
      DataError: no pictures are found, their file system is not installed, or the store cannot be used or is not
        shared.
      RunError: a worker has another network, or was lost on a runner that does not replace it; or the job failed.
    """
    origins.check(origin)
    table = _here(job)
    with tempfile.NamedTemporaryFile(prefix=".beam-", dir=job.store) as token:
        whole_job = job._replace(token=os.path.basename(token.name), address=table.path.name)
        pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
        paths, unread = origins.paths(pipeline, origin)
        done = (
            paths
            | "Batch" >> beam.BatchElements(min_batch_size=job.batch_size, max_batch_size=job.batch_size)
            | "Extract" >> beam.ParDo(Extract(whole_job)).with_outputs("bad", main="rows")
        )
        origins.write_lines([done.bad, *unread], bad)
        with faults.translated(), faults.raising_when_lost():
            result = pipeline.run()
            state = result.wait_until_finish()
    if state != "DONE":
        raise RunError(f"the job ended as {state}; what was written is kept, and the same command goes on from there")
    return _counted(result)


def _here(job: Job) -> Table:
    with job.opened() as network:
        return _table(job, network)


def _table(job: Job, network: Network) -> Table:
    example = f"{Pictures.dtype} {(*job.size, 3)}"
    (table,) = open_tables(network, example, job.store, batch_size=job.batch_size, dtype=job.dtype)
    return table


def _counted(result: Any) -> dict[str, int]:
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    counts = dict.fromkeys(COUNTERS, 0)
    for metric in counters:
        counts[metric.key.metric.name] += metric.result
    return counts


# --- in the workers ---


class _Opened:
    """The network of a process, and the rows that the store has.

    Attributes:
      run: computes the tensor for a batch of images.
      table: the rows of the tensor.
      writing: held while a shard is written.
    """

    def __init__(self, job: Job) -> None:
        _check_shared(job)
        ready: Future[tuple[RunBatch, Table]] = Future()
        ended = threading.Event()
        # TensorFlow's contexts belong to the thread that entered them, and Beam has several.
        holding = threading.Thread(target=_hold, args=[job, ready, ended], name="tfxfer-network", daemon=True)
        holding.start()
        weakref.finalize(self, _release, ended, holding)
        self.run, self.table = ready.result()
        self.writing = threading.Lock()


def _check_shared(job: Job) -> None:
    if not Path(job.store, job.token).exists():
        raise DataError(
            f"the store {job.store} that {socket.gethostname()} sees is not that of the machine that started the job; "
            "give `store` a directory that all workers share, by the same name"
        )


def _hold(job: Job, ready: Future[tuple[RunBatch, Table]], ended: threading.Event) -> None:
    try:
        with job.opened() as network:
            table = _table(job, network)
            _check_address(job, table)
            ready.set_result((network.make_callable(job.batch_size), table))
            ended.wait()
    except TfxferError as error:
        ready.set_exception(error)
    except BaseException as error:
        ready.set_exception(error)
        raise


def _release(ended: threading.Event, holding: threading.Thread) -> None:
    """Close the session and wait until it is: a process that ends while TensorFlow closes one is aborted."""
    ended.set()
    holding.join()


def _check_address(job: Job, table: Table) -> None:
    if table.path.name != job.address:
        raise RunError(
            f"{socket.gethostname()} would compute something else (address {table.path.name[:12]}, TensorFlow "
            f"{table.about['tensorflow']}) than the machine that started the job (address {job.address[:12]}); the "
            "weights, TensorFlow or tfxfer differ: bring the same to all machines"
        )


class Picture(NamedTuple):
    """A picture that was read.

    Attributes:
      key: of its row; empty where there is a reason.
      pixels: uint8 [height, width, 3]; None if the row is there already, or where there is a reason.
      size: of the file, in bytes.
      reason: why it cannot be used, or the empty string; begins with a verb.
    """

    key: str
    pixels: np.ndarray | None
    size: int
    reason: str = ""


class Extract(beam.DoFn):
    """Turns batches of paths into rows of a store, and yields, as `bad`, what cannot be used.

    Attributes:
      seconds: after so many, what is computed is written, though it does not fill a shard.
    """

    seconds = 10.0

    def __init__(self, job: Job) -> None:
        """Take note of what is to be done; the network is opened in `setup`."""
        self._job, self._shared = job, Shared()
        self._counters = {name: Metrics.counter(NAMESPACE, name) for name in COUNTERS}
        self._latency = Metrics.distribution(NAMESPACE, "batch_ms")

    def setup(self) -> None:
        """Open the network, once in a process."""
        self._opened = self._shared.acquire(functools.partial(_Opened, self._job), self._job.address)

    def start_bundle(self) -> None:
        """Begin with nothing: what an attempt that failed has not written is computed again."""
        self._waiting: dict[str, np.ndarray] = {}
        self._keys: list[str] = []
        self._rows: list[np.ndarray] = []
        self._began = time.monotonic()

    def process(self, paths: Sequence[bytes]) -> Iterator[Any]:
        """Read pictures, and compute once there are enough for a batch."""
        for path, picture in zip(paths, in_parallel(self._read, paths), strict=True):
            self._counters["pictures"].inc()
            self._counters["bytes"].inc(picture.size)
            if picture.reason:
                self._counters["failures"].inc()
                yield beam.pvalue.TaggedOutput("bad", origins.bad_line(path, picture.reason))
            elif picture.pixels is None or picture.key in self._waiting or picture.key in self._opened.table:
                self._counters["found"].inc()
            else:
                self._waiting[picture.key] = picture.pixels
            if len(self._waiting) == self._job.batch_size:
                self.compute()

    def finish_bundle(self) -> None:
        """Compute and write the rest; only then does Beam count the bundle as done."""
        if self._waiting:
            self.compute()
        self._write()

    def compute(self) -> None:
        """Bring the pictures that wait through the network."""
        began = time.monotonic()
        keys, batch = list(self._waiting), np.stack(list(self._waiting.values()))
        (values,) = self._opened.run(batch)
        self._keys += keys
        self._rows.append(values[: len(keys)])
        self._waiting = {}
        self._counters["computed"].inc(len(keys))
        self._latency.update(round(1000 * (time.monotonic() - began)))
        if sum(rows.nbytes for rows in self._rows) >= SHARD_BYTES or time.monotonic() - self._began > self.seconds:
            self._write()

    def _write(self) -> None:
        if self._keys:
            with self._opened.writing:
                self._opened.table.write(
                    self._keys, np.concatenate(self._rows), shard_rows=len(self._keys), by_content=True
                )
        self._keys, self._rows, self._began = [], [], time.monotonic()

    def _read(self, path: bytes) -> Picture:
        size = 0
        try:
            data = origins.read(os.fsdecode(path))
            size = len(data)
            key = self._key(decoding.sha256(data))
            if key in self._opened.table:
                return Picture(key, None, size)
            decoding.verify(data, whole=self._job.decode == "exact")
            return Picture(key, decoding.decode(data, self._job.size, self._job.resize, way=self._job.decode), size)
        except DataError as error:
            return Picture("", None, size, str(error))

    def _key(self, digest: str) -> str:
        job = self._job
        return keys_of(Pictures([""], job.size, job.resize, digests=[digest], decode=job.decode))[0]
