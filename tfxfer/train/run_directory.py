"""The run directory: what a training leaves on disk, and how it is found again.

    settings.json                   what was asked for; a run goes on only under the same settings
    plan.json, frozen.json          what was restored; digests of what must not move
    model.ckpt-N.{index,data...,meta}   the last checkpoints, N the number of steps made; see `tfxfer.train.checkpoints`
    model.ckpt-N.state.json         where training stood: epoch sums, the whole history, the best so far; see `history`
    best/                           the best checkpoints by validation
    checkpoint                      TensorFlow's own list of them, with relative paths
    train.log                       the log
    train/, validation/, results/   events for TensorBoard; see `tfxfer.tensorboard.results` for the last
    test.json, mistakes/            what the last test gave; see `tfxfer.evaluation.test_results`

A checkpoint is written in a folder beside, flushed, and moved in, its index last: one that has an index is whole.
`settings.json` comes first. A directory without it that holds nothing but what a start writes is a beginning, of a
process that was killed; one that holds anything else is somebody else's, and nothing is written to it or moved.
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
from tfxfer.restore.session import message
from tfxfer.train import run_state as state
from tfxfer.train.checkpoints import SAVING, Checkpoints, Room, copy

STEM = "model.ckpt"
LOCK = ".lock"
SETTINGS = "settings.json"
# Settings that are digests, and what it means that one has changed.
GRAPH = {"graph", "update"}
_WORDS = {
    "graph": "the graph computes something else (layers, activations, padding, dropout, the graph's seed)",
    "update": "a step changes variables in another way (gradients, optimizers, what is run beside them)",
    "training_data": "there are other training images or labels",
    "validation_data": "there are other validation images or labels",
    "restored": "the weights that are restored have other values",
}
# Settings that runs of before do not have.
SINCE = {"optimizer", "learning_rate", "loss", "multipliers", "clip_norm", "processes", "train_feeds", "eval_feeds"}


class RunDirectory:
    """A run directory that this process holds; no other process can train in it until it is closed.

    Attributes:
      path: the directory.
      room: the room that it needs and has, in words, as `require_room` found it.
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

    def settings(self) -> dict[str, Any]:
        """Return the settings of the run.

        Raises:
          RunError: they are damaged.
        """
        path = self.path / SETTINGS
        stored = _read_json(path)
        if not isinstance(stored, dict):
            raise RunError(f"{path} is damaged: it is not a JSON object; {_CURE}")
        return stored

    def settle(
        self,
        settings: Mapping[str, Any],
        growing: Iterable[str] = (),
        free: Iterable[str] = (),
        network: Iterable[str] = (),
    ) -> list[str]:
        """Store the settings of a new run, or check that a run that goes on was made with the same.

        A setting that is None on one side, or that an older version did not store, cannot be compared and passes.

        Args:
          settings: name to any value that JSON can hold.
          growing: the settings, numbers all, that may become larger.
          free: the settings that may change, since no bit of what is trained depends on them.
          network: how the variables of the last checkpoint differ from the graph's, a line each.

        Returns:
          A line for each setting that has changed, or could not be compared.

        Raises:
          RunError: settings differ; all of them are listed.
        """
        wanted = json.loads(json.dumps(settings))
        had = self.settings() if self.begun else {}
        changed, notes = _compare(had, wanted, set(growing), set(free)) if had else ([], [])
        # Every change of the step changes the digest of its graph too: told where nothing else tells it in words.
        plain = [row for name, row in changed if name not in GRAPH]
        _refuse_changed(self.path, plain or ([] if network else [row for _, row in changed]), list(network))
        known = {name: value for name, value in wanted.items() if value is not None or name not in had}
        with self._writing():
            # What has no use any more stays: it was asked for when the run began.
            files.write_json(self.path / SETTINGS, {**had, **known, **{n: wanted.get(n) for n in free if n in wanted}})
        return notes

    def read(self, name: str) -> Any:
        """Return what a JSON file of the run holds, or None if there is no such file."""
        path = self.path / name
        return _read_json(path) if path.exists() else None

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file of the run.

        Raises:
          RunError: it cannot be written.
        """
        with self._writing():
            files.write_json(self.path / name, value)

    def frozen(self) -> dict[str, str]:
        """Return the digests of what was frozen when the run began, by name.

        Raises:
          RunError: they are lost or damaged.
        """
        path = self.path / "frozen.json"
        record = _read_json(path) if path.exists() else None
        if record is None:
            raise RunError(
                f"{self.path} has lost its frozen.json, so that nothing proves that frozen variables did not move; "
                "put it back, or begin anew by `overwrite=True`"
            )
        match record:
            case {"method": str(), "variables": dict() as digests, "checks": list()} if all(
                isinstance(digest, str) for digest in digests.values()
            ):
                return digests
        raise RunError(f"{path} is damaged: it does not hold digests by name and what was checked; {_CURE}")

    def latest(self) -> tuple[str, dict[str, Any]] | None:
        """Return the prefix of the last whole checkpoint and its state, or None if there is none.

        Raises:
          RunError: the state is damaged, or belongs to another checkpoint.
        """
        return _latest(self.path)

    def prefix(self, step: int, *, best: bool = False) -> str:
        """Return the prefix of the checkpoint of a step, as `tf.train.Saver.restore` takes it."""
        return str((self.path / "best" if best else self.path) / f"{STEM}-{step}")

    def save(
        self, checkpoints: Checkpoints, step: int, *, best: bool = False, sidecars: Mapping[str, Any] | None = None
    ) -> str:
        """Save a checkpoint and what goes beside it, and return its prefix. A failure leaves every older one whole.

        Args:
          checkpoints: what writes them.
          step: the number of steps made.
          best: save in `best/`.
          sidecars: suffix to value: `{"state": ...}` becomes `<prefix>.state.json`.

        Raises:
          RunError: it could not be written, for want of space say.
        """
        prefix = self.prefix(step, best=best)
        try:
            checkpoints.write(prefix, sidecars=sidecars)
        except (OSError, tf.errors.OpError) as error:
            what = f"cannot save step {step} in {self.path}: {message(error)}"
            raise RunError(f"{what}; {self.last_good()}") from None
        return prefix

    def last_good(self) -> str:
        """Say which checkpoint a run that fails can go on from."""
        steps = _steps(self.path)
        return f"the last good checkpoint is {self.prefix(max(steps))}" if steps else "there is no checkpoint yet"

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
    if not Path(path, SETTINGS).exists():
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
    with_state = [step for step in _steps(path) if (path / f"{STEM}-{step}.state.json").exists()]
    if not with_state:
        return None
    last, *earlier = sorted(with_state, reverse=True)
    prefix = path / f"{STEM}-{last}"
    try:
        return str(prefix), state.read(prefix)
    except RunError as error:
        raise RunError(f"{error}; {cure(path, last, earlier)}") from None


def cure(path: Path, step: int, earlier: Iterable[int] | None = None) -> str:
    """Say how a run goes on whose checkpoint of a step is damaged."""
    before = [other for other in (_steps(path) if earlier is None else earlier) if other < step]
    if not before:
        return "there is no checkpoint before it; begin anew by `overwrite=True`"
    return (
        f"delete its files ({STEM}-{step}.*) to go on from the one before, {STEM}-{max(before)}, "
        "or begin anew by `overwrite=True`"
    )


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
    if any(re.fullmatch(rf"{re.escape(STEM)}-\d+\.state\.json", name) for name in entries):
        raise RunError(f"{path} has lost its {SETTINGS}; put it back, or move the run aside yourself and begin anew")
    raise RunError(
        f"{path} holds files and no run ({', '.join(others[:5])}); take another `logdir`. Only a run is moved aside by "
        "`overwrite=True`"
    )


def _is_run(path: Path, entries: set[str]) -> bool:
    """Say whether there are settings of ours, or damaged ones beside what else a run has."""
    if SETTINGS not in entries:
        return False
    try:
        stored = json.loads((path / SETTINGS).read_bytes())
    except (OSError, ValueError, RecursionError):
        stored = None
    if isinstance(stored, dict) and {"epochs", "batch_size"} <= set(stored):
        return True
    return "frozen.json" in entries or any(name.startswith(f"{STEM}-") for name in entries)


def _is_beginning(path: Path, entries: set[str]) -> bool:
    """Say whether there is nothing but what a start writes before its first checkpoint."""
    ours = {LOCK, SAVING, "plan.json", "frozen.json", "train.log"}
    return LOCK in entries and all(name in ours or _is_begun(path / name) for name in entries)


def _is_begun(path: Path) -> bool:
    if path.name.startswith(".") and path.name.endswith(files.PART):
        return True
    if path.name == "best":
        return path.is_dir() and not any(path.iterdir())
    events = path.name in ("train", "validation", "results") and path.is_dir()
    return events and all(file.name.startswith("events.out.tfevents.") for file in path.iterdir())


# --- what the files hold ---

_CURE = "put it back, or begin anew by `overwrite=True`, which moves the run aside"


def _compare(
    had: Mapping[str, Any], wanted: Mapping[str, Any], growing: set[str], free: set[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return name and line of each setting that has changed, and a line for each that may have, or cannot be known."""
    changed, notes = [], []
    for name in {**had, **wanted}:
        before, now = had.get(name), wanted.get(name)
        if (before or None) == (now or None) or (name in growing and (now or 0) >= (before or 0)):
            continue
        row = f"{name}: {_WORDS[name]}" if name in _WORDS else f"`{name}`: was {_show(before)}, now {_show(now)}"
        if name in free or (name == "learning_rate" and _is_longer(had, wanted) and _schedules(before, now)):
            notes.append(row)
        elif not _comparable(name, before, now, name in had):
            notes.append(f"{name}: cannot be compared with what the run began with")
        else:
            changed.append((name, row))
    return changed, notes


def _refuse_changed(path: Path, settings: list[str], network: list[str]) -> None:
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


def _comparable(name: str, before: Any, now: Any, recorded: bool) -> bool:
    if name in _WORDS:
        both = before is not None and now is not None
        return both and (not isinstance(before, dict) or before.get("by") == now.get("by"))
    return recorded or name not in SINCE


def _is_longer(had: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether a run has become longer: a schedule that ends with the run is another then."""
    return (wanted.get("epochs") or 0) > (had.get("epochs") or 0)


def _schedules(before: Any, now: Any) -> bool:
    return isinstance(before, dict) and isinstance(now, dict)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: it is not JSON ({error}); {_CURE}") from None


def _steps(folder: Path) -> set[int]:
    found = (re.fullmatch(rf"{re.escape(STEM)}-(\d+)\.index", file.name) for file in folder.glob(f"{STEM}-*.index"))
    return {int(match[1]) for match in found if match}


def _bytes_of_checkpoints(path: Path) -> int:
    """Return the bytes that the data of checkpoints takes on disk; a file with several names counts once."""
    found = [file.stat() for folder in (path, path / "best") for file in folder.glob(f"{STEM}-*.data-*")]
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in found}.values())


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


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
