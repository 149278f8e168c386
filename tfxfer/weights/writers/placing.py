"""Files made beside their places and put there together, with what was there moved aside; or nothing has changed."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfxfer import files
from tfxfer.errors import WeightsError

PAUSE = 0.05  # seconds
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to write where something is, or where nothing can be.

    Raises:
      WeightsError: something is there, and it is not to be moved aside; or the folder does not exist.
    """
    if not path.absolute().parent.is_dir():
        raise WeightsError(f"{path}: the folder {path.parent} does not exist; make it, or give another")
    if os.path.lexists(path) and not overwrite:
        raise WeightsError(f"{path} exists; take another name, or `overwrite=True`, which moves it aside")


def write_files(contents: Mapping[Path, bytes]) -> dict[Path, Path]:
    """Write files of one folder, all or none; what stands there is moved aside, to `<file>.old-N`, when they are whole.

    Returns:
      What was moved aside: the old path of each file, and the new one.

    Raises:
      OSError: the folder is missing or not writable, or the disk is full; then nothing has changed.
    """
    aside = {path: files.old_name(path) for path in contents if os.path.lexists(path)}
    with placed(list(contents), aside) as parts:
        for part, data in zip(parts, contents.values(), strict=True):
            part.write_bytes(data)
    return aside


@contextlib.contextmanager
def placed(paths: Sequence[Path], aside: Mapping[Path, Path]) -> Iterator[list[Path]]:
    """Yield a file for each path, to be written; in the end all are flushed and put in place, in the order given.

    Whatever goes wrong on the way, an interrupt among it, leaves none of them and everything as it was.

    Args:
      paths: where the files belong, all in one folder.
      aside: files that stand there, and where they are moved first.

    Raises:
      OSError: the folder is not writable, the disk is full, or somebody has put a file where one belongs.
    """
    parts: list[Path] = []
    try:
        for path in paths:
            parts.append(files.beside(path))
        with _flushed_early(parts):
            yield parts
        for part in parts:
            files.sync(part)
        _put(parts, paths, aside)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _flushed_early(parts: Sequence[Path]) -> Iterator[None]:
    """Flush files while they are written, so that the disk does not begin when the processor is done."""
    done, errors = threading.Event(), []

    def flush() -> None:
        try:
            while not done.wait(PAUSE):
                for part in parts:
                    files.sync(part)
        except OSError as error:  # which the kernel tells once
            errors.append(error)

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if errors:
        raise errors[0]


def _put(parts: Sequence[Path], paths: Sequence[Path], aside: Mapping[Path, Path]) -> None:
    try:
        for old, new in aside.items():
            _move(old, new)
        for part, path in zip(parts, paths, strict=True):
            _move(part, path)
        files.sync_folder(paths[0].parent)
    except BaseException:
        # What is on the disk says how far it came: an interrupt can fall between a rename and any note of it.
        for part, path in zip(parts, paths, strict=True):
            if not part.exists() or _is_same(part, path):
                path.unlink(missing_ok=True)
        for old, new in aside.items():
            if _is_same(old, new):
                new.unlink()
            elif os.path.lexists(new) and not os.path.lexists(old):
                os.rename(new, old)
        raise


def _move(old: Path, new: Path) -> None:
    """Rename a file, and fail where something is, which a rename would replace: a second name first, if there can be.

    Raises:
      OSError: something is there, or the folder is not writable.
    """
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError as error:
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, "somebody has put a file there meanwhile", str(new)) from None
        if error.errno not in _NO_LINKS:  # of the file system, or of folders
            raise
        os.rename(old, new)
    else:
        os.unlink(old)


def _is_same(one: Path, other: Path) -> bool:
    """Whether both are names of one file, as between the two steps of `_move`."""
    return os.path.lexists(one) and os.path.lexists(other) and os.path.samestat(os.lstat(one), os.lstat(other))
