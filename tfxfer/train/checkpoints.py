"""Checkpoints that are whole or not there, and that hold what does not change only once.

A checkpoint of a run has two data files under one index:

    model.ckpt-N.data-00000-of-00002    what training writes: trained variables, optimizer slots, global_step
    model.ckpt-N.data-00001-of-00002    all other variables: the same file for all checkpoints of the run, by hard links

So each is whole for `tf.train.Saver.restore` and for every other reader, and takes the room of the first file alone.
Where a file system has no hard links, the second is a copy. Less than `LEAST` bytes are written along into the first.

What training writes is written from a snapshot (`tfxfer.train.snapshots`), beside the training; where none can be
taken, by TensorFlow's Saver, and nothing may change until it has done so.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer import files
from tfxfer.formats.buffers import ALIGNMENT
from tfxfer.formats.leveldb import Table
from tfxfer.formats.protobuf import fields, number, tag
from tfxfer.graph.partitioned import name_of
from tfxfer.graph.train_step import Step
from tfxfer.runs.state import SUFFIX, RunState, seal
from tfxfer.train import snapshots
from tfxfer.train.options import RunOptions
from tfxfer.train.snapshots import Snapshot, nbytes
from tfxfer.weights import slices
from tfxfer.weights.writers import bundle, wire

log = logging.getLogger("tfxfer")

SAVING = ".saving"
LEAST = 64 << 10  # bytes of frozen variables that are worth a file of their own
# Fields: of the header, how many data files there are; of an entry, which of them it lies in, and where.
_SHARDS, _SHARD, _OFFSET = 1, 3, 4

NOTHING: Mapping[Path, Path] = {}
Index = dict[bytes, bytes]  # of a checkpoint: a BundleEntryProto by key, the BundleHeaderProto under the empty one


def write(
    sess: tf.Session,
    saver: tf.train.Saver,
    prefix: str | os.PathLike[str],
    *,
    write_meta_graph: bool = True,
    aside: Mapping[Path, Path] = NOTHING,
) -> None:
    """Save a checkpoint in a folder beside, flush it, and move it to its place, the index last.

    A checkpoint that has an index is whole, whenever the process is killed and however full the disk is.

    Args:
      sess: the session whose variables are saved.
      saver: of the variables to save.
      prefix: as `tf.train.Saver.restore` takes it; its folder is made if it is missing.
      write_meta_graph: whether to write `<prefix>.meta` too.
      aside: files that stand in the way, and where each is moved when the checkpoint is whole.

    Raises:
      OSError, tf.errors.OpError: it could not be written; nothing is left of it.
    """
    prefix = Path(prefix)
    with _Beside(prefix) as beside:
        with sess.graph.as_default():
            saver.save(sess, str(beside / prefix.name), write_state=False, write_meta_graph=write_meta_graph)
        _put_in_place(beside, prefix, aside)


class _Beside:
    """A folder beside a checkpoint's place in which it is written; nothing is left of it afterwards."""

    def __init__(self, prefix: Path) -> None:
        self.path = prefix.parent / SAVING

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _put_in_place(beside: Path, prefix: Path, aside: Mapping[Path, Path] = NOTHING) -> None:
    written = sorted(beside.iterdir(), key=lambda file: file.suffix == ".index")
    for file in written:
        files.sync(file)
    for old, new in aside.items():
        os.rename(old, new)
    for file in written:
        os.replace(file, prefix.parent / file.name)
    files.sync_folder(prefix.parent)


class _Frozen(NamedTuple):
    """The file of what does not change: where it lies, its size, and what an index says of it."""

    path: Path
    size: int
    entries: Index


class Checkpoints:
    """Writes the checkpoints of a run from one session, each whole, and what does not change once."""

    def __init__(self, sess: tf.Session, step: Step) -> None:
        """Prepare; nothing is written yet.

        Args:
          sess: the session whose variables are saved.
          step: what `train_step` returned.
        """
        self._sess, self._step = sess, step
        self._frozen: _Frozen | None = None
        self._last: Path | None = None
        self._told = False
        frozen = step.frozen.variables
        self._apart = sum(map(nbytes, frozen)) >= LEAST
        self._held = [*step.moving.variables, *(() if self._apart else frozen)]
        self._can_hold = snapshots.can_take(sess, self._held)

    def go_on_from(self, prefix: str | os.PathLike[str]) -> None:
        """Take the frozen variables of a checkpoint that was restored, and was checked, for those that follow."""
        path = Path(prefix)
        index = _read_index(path)
        inside = {key: entry for key, entry in index.items() if key and _number(entry, _SHARD) == 1}
        wanted = {name_of(variable).encode() for variable in self._step.frozen.variables}
        data = _data(path, 1, 2)
        if _number(index[b""], _SHARDS) == 2 and {k for k in inside if not slices.is_key(k)} == wanted:
            self._frozen = _Frozen(data, data.stat().st_size, inside)

    def snapshot(self) -> Snapshot | None:
        """Fetch what each checkpoint has anew, as it is now; None where it cannot be held in memory a second time."""
        return snapshots.take(self._sess, self._held) if self._can_hold else None

    def write(
        self,
        prefix: str | os.PathLike[str],
        snapshot: Snapshot | None = None,
        *,
        state: RunState | None = None,
        sidecars: Mapping[str, Any] | None = None,
    ) -> None:
        """Save a checkpoint in a folder beside, flush it, and move it to its place, the index last.

        Args:
          prefix: as `tf.train.Saver.restore` takes it; its folder is made if it is missing. If the last one that was
            written has the same name, in another folder, then this is of the same step, and has its files.
          snapshot: of the step; without, the session's variables are written as they are.
          state: where training stands, sealed in `<prefix>.state.json`.
          sidecars: suffix to value: `{"input_spec": ...}` becomes `<prefix>.input_spec.json`.

        Raises:
          OSError, tf.errors.OpError: it could not be written; nothing is left of it.
        """
        prefix = Path(prefix)
        with _Beside(prefix) as beside:
            if not (self._last and self._last.name == prefix.name and self._link_all(self._last, beside / prefix.name)):
                self._save(beside / prefix.name, snapshot)
            for suffix, value in (sidecars or {}).items():
                files.write_json(beside / f"{prefix.name}.{suffix}.json", value)
            if state is not None:
                sealed = seal(state, _index(beside / prefix.name).read_bytes())
                files.write_json(beside / f"{prefix.name}{SUFFIX}", sealed)
            _put_in_place(beside, prefix)
        if self._frozen:
            self._frozen = self._frozen._replace(path=_data(prefix, 1, 2))
        self._last = prefix

    def _save(self, prefix: Path, snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            bundle.write(bundle.parts(prefix), snapshot, alignment=1)  # as small as the Saver's
        else:
            self._save_variables(prefix)
        if self._apart:
            self._join(prefix)
        self._link_or_export_meta(prefix)

    def _save_variables(self, prefix: Path) -> None:
        moving, frozen = self._step.moving, self._step.frozen
        if moving.saver:
            self._run(moving.saver, prefix)
        if frozen.saver and not self._apart:
            beside = prefix.with_name(f"{prefix.name}.frozen")
            self._run(frozen.saver, beside)
            _append(prefix, beside)

    def _run(self, saver: tf.train.Saver, prefix: Path) -> None:
        with self._sess.graph.as_default():
            saver.save(self._sess, str(prefix), write_state=False, write_meta_graph=False)

    def _join(self, prefix: Path) -> None:
        """Put the file of the frozen variables beside that of the others, under one index."""
        second = _data(prefix, 1, 2)
        if not self._link_frozen(second):
            beside = prefix.with_name(f"{prefix.name}.frozen")
            self._run(self._step.frozen.saver, beside)  # type: ignore[arg-type]  # there are frozen variables
            entries = {k: entry + _field(_SHARD, 1) for k, entry in _read_index(beside).items() if k}
            _data(beside, 0, 1).rename(second)
            _index(beside).unlink()
            self._frozen = _Frozen(second, second.stat().st_size, entries)
        index = _read_index(prefix)
        _data(prefix, 0, 1).rename(_data(prefix, 0, 2))
        index[b""] += _field(_SHARDS, 2)
        _write_index(prefix, {**index, **self._frozen.entries})  # type: ignore[union-attr]  # it is there by now

    def _link_frozen(self, path: Path) -> bool:
        if not self._frozen or not self._frozen.path.exists() or self._frozen.path.stat().st_size != self._frozen.size:
            return False
        self._link(self._frozen.path, path)
        return True

    def _link_or_export_meta(self, prefix: Path) -> None:
        # The graph is final: what describes it is the same for all checkpoints of a start.
        last = self._last and self._last.with_name(f"{self._last.name}.meta")
        meta = prefix.with_name(f"{prefix.name}.meta")
        if last and last.exists():
            self._link(last, meta)
        else:
            with self._sess.graph.as_default():
                self._step.saver.export_meta_graph(str(meta))

    def _link_all(self, source: Path, prefix: Path) -> bool:
        """Take the files of a checkpoint of the same step; False where they are not there any more."""
        there = [source.with_name(source.name + suffix) for suffix in (".index", ".meta")]
        there += sorted(source.parent.glob(f"{source.name}.data-*"))
        if len(there) < 3 or not all(file.exists() for file in there):
            return False
        for file in there:
            self._link(file, prefix.with_name(file.name))
        return True

    def _link(self, source: Path, path: Path) -> None:
        try:
            os.link(source, path)
        except OSError as error:  # another file system, or one without hard links
            if not self._told:
                log.info("%s: no hard link is possible (%s); what does not change is copied", path, error.strerror)
            self._told = True
            shutil.copyfile(source, path)


def copy(source: Path, prefix: Path) -> None:
    """Put a checkpoint, without its state, in another place of a run: by hard links, or copied where there are none.

    Raises:
      OSError: it could not be written; nothing is left of it.
    """
    with _Beside(prefix) as beside:
        for file in source.parent.glob(f"{source.name}.*"):
            if not file.name.endswith(SUFFIX):
                try:
                    os.link(file, beside / file.name)
                except OSError:
                    shutil.copyfile(file, beside / file.name)
        _put_in_place(beside, prefix)


class Room(NamedTuple):
    """The room on disk that the checkpoints of a run take.

    Attributes:
      once: bytes that are written once a run.
      each: bytes of each checkpoint.
      most: how many there are at most at one time, one that is being written among them.
    """

    once: int
    each: int
    most: int

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.once + self.each * self.most


def room(step: Step, options: RunOptions) -> Room:
    """Return the room that the checkpoints of a run need."""
    once, each = (sum(map(nbytes, saved.variables)) for saved in (step.frozen, step.moving))
    if once < LEAST:
        once, each = 0, once + each
    last = min(options.keep + 1, -(-options.total // options.save_steps))
    best = min(options.keep_best + 1, options.total // options.validation_steps)
    # One is being written, in one place or the other.
    most = last + best - (last > options.keep and best > options.keep_best)
    return Room(once, each, most)


# --- the index ---


def _data(prefix: Path, shard: int, shards: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def _index(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def _read_index(prefix: Path) -> Index:
    path = _index(prefix)
    table = Table(np.frombuffer(path.read_bytes(), np.uint8), str(path))
    return {bytes(key): bytes(value) for key, value in table.items()}


def _write_index(prefix: Path, index: Index) -> None:
    _index(prefix).write_bytes(wire.table(sorted(index.items())))


def _number(message: bytes, field: int) -> int:
    return number(fields(message, "an index"), field)


def _field(field: int, value: int) -> bytes:
    """Encode what changes a message that it is written behind: of a field that comes twice, the last counts."""
    return wire.field(tag(field), value)


def _append(prefix: Path, other: Path) -> None:
    """Write the values of another checkpoint behind those of one, and its entries into the index of this."""
    data, more = _data(prefix, 0, 1), _data(other, 0, 1)
    with data.open("ab") as file:
        file.write(b"\0" * (-file.tell() % ALIGNMENT))
        begin = file.tell()
        file.write(more.read_bytes())
    entries = {k: e + _field(_OFFSET, begin + _number(e, _OFFSET)) for k, e in _read_index(other).items() if k}
    _write_index(prefix, {**_read_index(prefix), **entries})
    more.unlink()
    _index(other).unlink()
