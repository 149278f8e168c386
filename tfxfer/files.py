"""Writing files so that a reader sees the old file or the new one, and never a part of one."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

PART = ".part"


def write_bytes(path: Path, data: bytes, *, flush: bool = True) -> None:
    """Write beside the file, flush to disk, then rename over it; on any failure the old file stays.

    Args:
      path: the file.
      data: what it is to hold.
      flush: whether to have it on disk, safe from a power cut, before it is renamed.

    Raises:
      OSError: the folder is missing or not writable, or the disk is full.
    """
    handle, part = _opened_beside(path)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    if flush:
        sync_folder(path.parent)


def beside(path: Path) -> Path:
    """Make an empty file in the folder of `path`, under a name of its own, to be written and renamed to `path`.

    Raises:
      OSError: the folder is missing or not writable.
    """
    handle, part = _opened_beside(path)
    os.close(handle)
    return part


def _opened_beside(path: Path) -> tuple[int, Path]:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
    except OSError as error:  # of a name that nobody gave
        missing = "" if path.parent.is_dir() else f", for the folder {path.parent} does not exist"
        raise OSError(error.errno, f"{error.strerror}{missing}", str(path)) from None
    os.fchmod(handle, 0o666 & ~_umask())
    return handle, Path(name)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, indented, keys in the order given; floats read back to the same bits."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def old_name(path: Path) -> Path:
    """Return `<path>.old-N`, the first of these names that nothing has, not even a dangling link."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.old-{number}")):
        number += 1
    return aside


def move_aside(path: Path) -> Path:
    """Rename a file, folder or link to `old_name(path)`, and return that.

    Raises:
      OSError: nothing is there, or the folder that it is in is not writable.
    """
    return path.rename(old_name(path))


def sync(path: Path) -> None:
    """Flush a file that is already written to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Flush a folder's list of names, so that a rename in it outlives a power cut."""
    sync(path)


def _umask() -> int:
    """Return the process's umask: mkstemp makes private files, a checkpoint is to be as readable as any other."""
    current = os.umask(0)
    os.umask(current)
    return current
