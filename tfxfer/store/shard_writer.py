"""Gather rows while they are computed, and write shards of them to a store in threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from tfxfer.store import store
from tfxfer.store.store import Table

SHARD_SECONDS = 10.0


class Writer:
    """Gathers rows of several tables and writes shards of them every 64 rows or 10 s, whichever is first."""

    def __init__(self, tables: Sequence[Table], writing: ThreadPoolExecutor, flushing: ThreadPoolExecutor) -> None:
        """Begin with nothing gathered; see `writer`."""
        self._tables, self._pools = tables, (writing, flushing)
        self._writing: Future[None] | None = None
        self._flushing: list[Future[None]] = []
        self._clear()

    def _clear(self) -> None:
        self._keys: list[str] = []
        self._rows: list[list[np.ndarray]] = [[] for _ in self._tables]
        self._began = time.monotonic()

    def add(self, keys: Sequence[str], rows: Sequence[np.ndarray]) -> None:
        """Add rows: for each table an array [m, ...], one row a key.

        Raises:
          DataError: what was added before cannot be written.
        """
        self._wait()
        self._keys += keys
        for gathered, values in zip(self._rows, rows, strict=True):
            gathered.append(values)
        if len(self._keys) >= store.SHARD_ROWS or time.monotonic() - self._began > SHARD_SECONDS:
            self._write()

    def finish(self) -> None:
        """Write what is gathered, and wait until all of it is on disk."""
        self._wait()
        if self._keys:
            self._write()
        self._wait()
        for flushing in self._flushing:
            flushing.result()

    def _write(self) -> None:
        self._writing = self._pools[0].submit(_write, self._tables, self._keys, self._rows)
        self._clear()

    def _wait(self) -> None:
        """Wait until what was gathered is written, which a kill does not lose; a power cut may, until it is flushed."""
        if self._writing:
            self._writing.result()
            self._writing = None
            self._flushing.append(self._pools[1].submit(_flush, self._tables))
        while self._flushing and self._flushing[0].done():
            self._flushing.pop(0).result()


@contextlib.contextmanager
def writer(tables: Sequence[Table]) -> Iterator[Writer]:
    """Open a writer; when the block ends, in whatever way, all gathered rows are written and flushed to disk.

    It writes in a thread while the next rows are computed, and takes these once it is done: a kill loses one shard at
    most.
    """
    with ThreadPoolExecutor(1) as writing, ThreadPoolExecutor(1) as flushing:
        gathering = Writer(tables, writing, flushing)
        try:
            yield gathering
        finally:
            gathering.finish()


def _write(tables: Sequence[Table], keys: Sequence[str], rows: Sequence[Sequence[np.ndarray]]) -> None:
    for table, parts in zip(tables, rows, strict=True):
        table.write(keys, np.concatenate(parts), flush=False)


def _flush(tables: Sequence[Table]) -> None:
    for table in tables:
        table.flush()
