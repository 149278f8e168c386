"""The run directory that a training holds and writes; what lies in it is told in `tfxfer.runs`.

`settings.json` comes first. A directory without it that holds nothing but what a start writes is a beginning, of a
process that was killed; one that holds anything else is somebody else's, and nothing is written to it or moved.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from tfxfer import files
from tfxfer.callables import message
from tfxfer.errors import RunError
from tfxfer.runs.files import FROZEN, PLAN, SETTINGS, STEM, checkpoint_steps
from tfxfer.runs.frozen import FrozenRecord, read_frozen
from tfxfer.runs.settings import RunSettings, compare, merged, read_settings
from tfxfer.runs.state import SUFFIX, RunState, latest
from tfxfer.train.checkpoints import SAVING, Checkpoints, Room, copy
from tfxfer.train.snapshots import Snapshot

LOCK = ".lock"


class RunDirectory:
    """A run directory that this process holds; no other process can train in it until it is closed.

    Attributes:
      path: the directory.
      room: the room that it needs and has, in words, once `require_room` has looked.
    """

    room = ""

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Make or open a run directory, and lock it.

        Args:
          path: a directory; made if it is missing.
          overwrite: move the run that is there aside, to `<path>.old-N`, and start anew.

        Raises:
          RunError: another process trains there, the directory holds files and no run, or it cannot be written.
        """
        self.path = Path(path)
        _refuse_foreign(self.path)
        with self._writing():
            self._made = _make(self.path)
            try:
                self._lock = _lock(self.path)
            except BaseException:
                self._unmake()
                raise
            try:
                _refuse_foreign(self.path)  # once more, now that nobody else begins a run here
                if overwrite and any(entry.name != LOCK for entry in self.path.iterdir()):
                    self._move_aside()
                self._clear()
            except BaseException:
                self.close()
                raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Say of what cannot be written where it was to be and why."""
        try:
            yield
        except OSError as error:
            raise RunError(
                f"cannot write in {self.path}: {error.strerror or error}; {self.last_good()}. "
                "Make room or give a `logdir` that can be written, and start again"
            ) from None

    def _clear(self) -> None:
        """Take away what a killed process had begun to write."""
        for folder in (self.path, self.path / "best"):
            shutil.rmtree(folder / SAVING, ignore_errors=True)
            for part in folder.glob(f".*{files.PART}"):
                part.unlink()

    def close(self) -> None:
        """Let other processes train here; of a run that has not begun, nothing is left."""
        with contextlib.suppress(OSError):
            if not any(entry.name != LOCK for entry in self.path.iterdir()):
                (self.path / LOCK).unlink()
                self._unmake()
        os.close(self._lock)

    def _unmake(self) -> None:
        """Remove the folders that were made for the run, as far as they are empty."""
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _move_aside(self) -> None:
        files.move_aside(self.path)
        self._made = _make(self.path)
        old, self._lock = self._lock, _lock(self.path)
        os.close(old)

    def require_room(self, room: Room) -> None:
        """Say what room the checkpoints of the run need and what is free, and refuse to begin where it is too little.

        Raises:
          RunError: it is.
        """
        with self._writing():
            free = shutil.disk_usage(self.path).free
        there = _bytes_of_checkpoints(self.path)
        once = f"{_size(room.once)} of frozen variables once, and " if room.once else ""
        needed = f"up to {_size(room.bytes)} for checkpoints: {once}{_size(room.each)} for each of up to {room.most}"
        self.room = f"it needs {needed}; {_size(free + there)} are free" + (" or its own" if there else "")
        if room.bytes > free + there:
            raise RunError(
                f"{self.path}: {_size(free)} are free where it lies, and a run needs {needed}; make room, lower `keep` "
                "or `keep_best`, or take another `logdir`"
            )

    @property
    def begun(self) -> bool:
        """Whether the run has settings: it goes on, and does not begin."""
        return (self.path / SETTINGS).exists()

    def settings(self) -> RunSettings:
        """Return the settings of the run.

        Raises:
          RunError: they are damaged.
        """
        return read_settings(self.path)

    def settle(
        self, settings: RunSettings, *, may_change: Sequence[str] = (), network: Sequence[str] = ()
    ) -> list[str]:
        """Store the settings of a new run, or check that a run that goes on was made with the same.

        Args:
          settings: of this start.
          may_change: names among `settings.settings` that are noted where they change, and not refused.
          network: how the variables of the last checkpoint differ from the graph's, a line each.

        Returns:
          A line for each setting that has changed, or could not be compared.

        Raises:
          RunError: settings differ; all of them are listed.
        """
        settings = RunSettings.from_json(settings.to_json())
        notes: list[str] = []
        if self.begun:
            before = self.settings()
            differences = compare(before, settings, may_change)
            # Every change of the step changes the digest of its graph too: told where nothing else tells it in words.
            _refuse_changed(self.path, differences.refused or ([] if network else differences.of_graph), network)
            settings, notes = merged(before, settings, may_change), differences.notes
        self.write(SETTINGS, settings.to_json())
        return notes

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file of the run.

        Raises:
          RunError: it cannot be written.
        """
        with self._writing():
            files.write_json(self.path / name, value)

    def frozen(self) -> FrozenRecord:
        """Return the digests of what was frozen when the run began, and what was compared since.

        Raises:
          RunError: they are lost or damaged.
        """
        return read_frozen(self.path)

    def latest(self) -> tuple[str, RunState] | None:
        """Return the prefix of the last whole checkpoint and its state, or None if there is none.

        Raises:
          RunError: the state is damaged, or belongs to another checkpoint.
        """
        return latest(self.path)

    def prefix(self, step: int, *, best: bool = False) -> str:
        """Return the prefix of the checkpoint of a step, as `tf.train.Saver.restore` takes it."""
        return str((self.path / "best" if best else self.path) / f"{STEM}-{step}")

    def save(
        self,
        checkpoints: Checkpoints,
        step: int,
        snapshot: Snapshot | None = None,
        *,
        best: bool = False,
        **beside: Any,
    ) -> None:
        """Save a checkpoint and what goes beside it. A failure leaves every older one whole.

        Args:
          checkpoints: what writes them.
          step: the number of steps made.
          snapshot: as `Checkpoints.write` takes it.
          best: save in `best/`.
          beside: `state` and `sidecars`, as `Checkpoints.write` takes them.

        Raises:
          RunError: it could not be written, for want of space say.
        """
        try:
            checkpoints.write(self.prefix(step, best=best), snapshot, **beside)
        except (OSError, tf.errors.OpError) as error:
            raise RunError(f"cannot save step {step} in {self.path}: {message(error)}; {self.last_good()}") from None

    def last_good(self) -> str:
        """Say which checkpoint a run that fails can go on from."""
        steps = checkpoint_steps(self.path)
        return f"the last good checkpoint is {self.prefix(max(steps))}" if steps else "the run has no checkpoint yet"

    def has(self, step: int, *, best: bool = False) -> bool:
        """Say whether there is a checkpoint of a step."""
        return Path(f"{self.prefix(step, best=best)}.index").exists()

    def recover_best(self, step: int) -> bool:
        """Say whether there is a best checkpoint of a step; a lost one is taken from the last ones where it is."""
        if not self.has(step, best=True) and self.has(step):
            with self._writing():
                copy(Path(self.prefix(step)), Path(self.prefix(step, best=True)))
        return self.has(step, best=True)

    def keep(self, steps: Iterable[int], best: Iterable[int]) -> None:
        """Write TensorFlow's `checkpoint` files for these steps and delete the run's other checkpoints.

        Raises:
          RunError: it cannot be written.
        """
        with self._writing():
            for folder, kept in ((self.path, sorted(steps)), (self.path / "best", sorted(best))):
                if kept:
                    folder.mkdir(exist_ok=True)
                    lines = [f'model_checkpoint_path: "{STEM}-{kept[-1]}"']
                    lines += [f'all_model_checkpoint_paths: "{STEM}-{step}"' for step in kept]
                    _write_changed(folder / "checkpoint", "\n".join([*lines, ""]).encode())
                for step in checkpoint_steps(folder).difference(kept):
                    # The index goes first: what is left of a deletion that was cut short is not a checkpoint.
                    for file in sorted(folder.glob(f"{STEM}-{step}.*"), key=lambda file: file.suffix != ".index"):
                        file.unlink()


def _write_changed(path: Path, data: bytes) -> None:
    """Write a file, if it does not hold this already: the best checkpoints are mostly those of the save before."""
    if not path.exists() or path.read_bytes() != data:
        files.write_bytes(path, data)


def _make(path: Path) -> list[Path]:
    """Make a folder and those that it is in, and return what was made, the innermost first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def _lock(path: Path) -> int:
    file = path / LOCK
    while True:
        there = file.exists()
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(handle, file):  # It was removed by whoever held it.
                os.close(handle)
                continue
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            return handle
        except BlockingIOError:
            holder = os.read(handle, 20).decode() or "unknown"
            os.close(handle)
            raise RunError(f"{path} is in use by process {holder}; wait for it or take another `logdir`") from None
        except OSError:
            if not there:
                file.unlink()
            os.close(handle)
            raise


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


# --- whose directory it is ---


def _refuse_foreign(path: Path) -> None:
    """Refuse to write into a directory that holds files and no run; nothing is written there or moved.

    Raises:
      RunError: it does, or is a file.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise RunError(f"{path} is a file; a run directory is needed")
    entries = {entry.name for entry in path.iterdir()}
    if entries <= {LOCK} or _is_run(path, entries) or _is_beginning(path, entries):
        return
    others = sorted(entries - {LOCK})
    if any(re.fullmatch(rf"{re.escape(STEM)}-\d+{re.escape(SUFFIX)}", name) for name in entries):
        raise RunError(f"{path} has lost its {SETTINGS}; put it back, or move the run aside yourself and begin anew")
    raise RunError(
        f"{path} holds files and no run ({', '.join(others[:5])}); take another `logdir`. Only a run is moved aside by "
        "`overwrite=True`"
    )


def _is_run(path: Path, entries: set[str]) -> bool:
    """Say whether there are settings of ours, or damaged ones beside what else a run has."""
    if SETTINGS not in entries:
        return False
    with contextlib.suppress(RunError):
        read_settings(path)
        return True
    return FROZEN in entries or any(name.startswith(f"{STEM}-") for name in entries)


def _is_beginning(path: Path, entries: set[str]) -> bool:
    """Say whether there is nothing but what a start writes before its first checkpoint."""
    ours = {LOCK, SAVING, PLAN, FROZEN, "train.log"}
    return LOCK in entries and all(name in ours or _is_begun(path / name) for name in entries)


def _is_begun(path: Path) -> bool:
    if path.name.startswith(".") and path.name.endswith(files.PART):
        return True
    if path.name == "best":
        return path.is_dir() and not any(path.iterdir())
    events = path.name in ("train", "validation", "results") and path.is_dir()
    return events and all(file.name.startswith("events.out.tfevents.") for file in path.iterdir())


# --- what the files hold ---


def _refuse_changed(path: Path, settings: Sequence[str], network: Sequence[str]) -> None:
    parts = []
    if settings:
        parts.append("\n  ".join([f"{path} was made with other settings:", *settings]))
    if network:
        head = f"{path} was made with another network than the graph, by the variables of its last checkpoint:"
        parts.append("\n  ".join([head, *network]))
    if parts:
        raise RunError(
            "\n".join(parts) + "\nstart with the same to go on, take another `logdir`, or move it aside by "
            "`overwrite=True`"
        )


def _bytes_of_checkpoints(path: Path) -> int:
    """Return the bytes that the data of checkpoints takes on disk; a file with several names counts once."""
    stats = [file.stat() for folder in (path, path / "best") for file in folder.glob(f"{STEM}-*.data-*")]
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}.values())


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[RunDirectory]:
    """Hold a run directory for as long as the block lasts; see `RunDirectory`."""
    directory = RunDirectory(path, overwrite=overwrite)
    try:
        yield directory
    finally:
        directory.close()
