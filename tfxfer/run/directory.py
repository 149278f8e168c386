"""The run directory: what a training leaves on disk, and how it is found again.

    settings.json                   what was asked for; a run goes on only under the same settings
    plan.json, frozen.json          what was restored; digests of what must not move
    model.ckpt-N.{index,data...,meta}   the last checkpoints, N the number of steps made
    model.ckpt-N.state.json         where training stood: epoch sums, the whole history, the best so far; see `history`
    best/                           the best checkpoints by validation
    checkpoint                      TensorFlow's own list of them, with relative paths
    train.log                       the log
    train/, validation/, results/   events for TensorBoard; see `tfxfer.run.board.results` for the last
    test.json, mistakes/            what the last test gave; see `tfxfer.run.record`

A checkpoint is written in a folder beside, flushed, and moved in, its index last: one that has an index is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import files
from tfxfer.errors import RunError
from tfxfer.run import checkpoints
from tfxfer.run.checkpoints import SAVING
from tfxfer.run.session import message

STEM = "model.ckpt"
LOCK = ".lock"


class RunDirectory:
    """A run directory that this process holds; no other process can train in it until it is closed.

    Attributes:
      path: the directory.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Make or open a run directory, and lock it.

        Args:
          path: a directory; made if it is missing.
          overwrite: move what is there aside, to `<path>.old-N`, and start anew.

        Raises:
          RunError: another process trains there, or the directory holds files and no run.
        """
        self.path = Path(path)
        self._lock = _lock(self.path)
        try:
            if overwrite and any(entry.name != LOCK for entry in self.path.iterdir()):
                self._move_aside()
            elif not (self.path / "settings.json").exists():
                _refuse_foreign(self.path)
        except BaseException:
            self.close()
            raise
        for folder in (self.path, self.path / "best"):  # What a killed process had begun to write.
            shutil.rmtree(folder / SAVING, ignore_errors=True)
            for part in folder.glob(f".*{files.PART}"):
                part.unlink()

    def close(self) -> None:
        """Let other processes train here."""
        os.close(self._lock)

    def _move_aside(self) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.path.rename(aside)
        old, self._lock = self._lock, _lock(self.path)
        os.close(old)

    def settle(self, settings: Mapping[str, Any], growing: Iterable[str]) -> None:
        """Store the settings of a new run, or check that a run that goes on was made with the same.

        Args:
          settings: name to any value that JSON can hold.
          growing: the settings, numbers all, that may become larger.

        Raises:
          RunError: settings differ; all of them are listed.
        """
        path = self.path / "settings.json"
        wanted = json.loads(json.dumps(settings))
        if path.exists():
            had = _read_json(path)
            grown = {key for key in growing if wanted.get(key, 0) >= had.get(key, 0)}
            changed = [key for key in {**had, **wanted} if key not in grown and had.get(key) != wanted.get(key)]
            if changed:
                rows = "\n".join(f"  {key}: was {_show(had.get(key))}, now {_show(wanted.get(key))}" for key in changed)
                raise RunError(
                    f"{self.path} was made with other settings:\n{rows}\n"
                    "start with the same ones to go on, take another `logdir`, or move it aside by `overwrite=True`"
                )
        files.write_json(path, wanted)

    def read(self, name: str) -> Any:
        """Return what a JSON file of the run holds, or None if there is no such file."""
        path = self.path / name
        return _read_json(path) if path.exists() else None

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        files.write_json(self.path / name, value)

    def latest(self) -> tuple[str, dict[str, Any]] | None:
        """Return the prefix of the last whole checkpoint and its state, or None if there is none."""
        return _latest(self.path)

    def prefix(self, step: int, *, best: bool = False) -> str:
        """Return the prefix of the checkpoint of a step, as `tf.train.Saver.restore` takes it."""
        return str((self.path / "best" if best else self.path) / f"{STEM}-{step}")

    def save(
        self,
        sess: tf.Session,
        saver: tf.train.Saver,
        step: int,
        *,
        best: bool = False,
        sidecars: Mapping[str, Any] | None = None,
    ) -> str:
        """Save a checkpoint and what goes beside it, and return its prefix. A failure leaves every older one whole.

        Args:
          sess: the session whose variables are saved.
          saver: of all variables.
          step: the number of steps made.
          best: save in `best/`.
          sidecars: suffix to value: `{"state": ...}` becomes `<prefix>.state.json`.

        Raises:
          RunError: it could not be written, for want of space say.
        """
        prefix = self.prefix(step, best=best)
        try:
            checkpoints.write(sess, saver, prefix, sidecars=sidecars)
        except (OSError, tf.errors.OpError) as error:
            what = f"cannot save step {step} in {self.path}: {message(error)}"
            raise RunError(f"{what}; {self.last_good()}") from None
        return prefix

    def last_good(self) -> str:
        """Say which checkpoint a run that fails can go on from."""
        latest = self.latest()
        return f"the last good checkpoint is {latest[0]}" if latest else "there is no checkpoint yet"

    def keep(self, steps: Iterable[int], best: Iterable[int]) -> None:
        """Write TensorFlow's `checkpoint` files for these steps and delete the run's other checkpoints."""
        for folder, kept in ((self.path, sorted(steps)), (self.path / "best", sorted(best))):
            if kept:
                lines = [f'model_checkpoint_path: "{STEM}-{kept[-1]}"']
                lines += [f'all_model_checkpoint_paths: "{STEM}-{step}"' for step in kept]
                files.write_bytes(folder / "checkpoint", "\n".join([*lines, ""]).encode())
            for step in _steps(folder).difference(kept):
                # The index goes first: what is left of a deletion that was cut short is no checkpoint.
                for file in sorted(folder.glob(f"{STEM}-{step}.*"), key=lambda file: file.suffix != ".index"):
                    file.unlink()


def find_run(path: str | os.PathLike[str]) -> Path:
    """Return the path of a directory that holds a run.

    Raises:
      RunError: there is no such directory, or it holds no run.
    """
    if not Path(path, "settings.json").exists():
        raise RunError(
            f"{path} is no run directory: it has no settings.json; give what `logdir` was when it was trained"
        )
    return Path(path)


def history(path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], int | None]:
    """Return how the training in a run directory went, up to its last checkpoint; it may still be going on.

    Returns:
      The rows, as in `Fitted.history`, and the step of the best checkpoint by validation, None before the first.

    Raises:
      RunError: there is no run, or it has no checkpoint yet.
    """
    latest = _latest(find_run(path))
    if latest is None:
        raise RunError(f"{path} has no checkpoint, and so no history; training writes one after the first epoch")
    _, state = latest
    return state["history"], state["best"][0]["step"] if state["best"] else None


def _latest(path: Path) -> tuple[str, dict[str, Any]] | None:
    for step in sorted(_steps(path), reverse=True):
        state = path / f"{STEM}-{step}.state.json"
        if state.exists():
            return str(path / f"{STEM}-{step}"), _read_json(state)
    return None


def _lock(path: Path) -> int:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RunError(f"{path} is a file; a run directory is needed") from None
    handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 20).decode() or "unknown"
        os.close(handle)
        raise RunError(f"{path} is in use by process {holder}; wait for it or take another `logdir`") from None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def _refuse_foreign(path: Path) -> None:
    found = sorted(entry.name for entry in path.iterdir() if entry.name not in (LOCK, SAVING))
    if found:
        raise RunError(
            f"{path} holds files and no run ({', '.join(found[:5])}); "
            "take another `logdir`, or move it aside by `overwrite=True`"
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f"{path} is no JSON: {error}; restore it or move the run aside by `overwrite=True`") from None


def _steps(folder: Path) -> set[int]:
    found = (re.fullmatch(rf"{re.escape(STEM)}-(\d+)\.index", file.name) for file in folder.glob(f"{STEM}-*.index"))
    return {int(match[1]) for match in found if match}


def _show(value: Any) -> str:
    return "not set" if value is None else json.dumps(value)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[RunDirectory]:
    """Hold a run directory for as long as the block lasts; see `RunDirectory`."""
    directory = RunDirectory(path, overwrite=overwrite)
    try:
        yield directory
    finally:
        directory.close()
