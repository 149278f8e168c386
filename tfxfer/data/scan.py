"""Looking through pictures before they are used: which of them can be decoded, and what the digest of each is."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfxfer import files
from tfxfer.data import decoding
from tfxfer.data.decoding import MOST_PIXELS
from tfxfer.data.pictures import in_parallel
from tfxfer.errors import DataError

log = logging.getLogger("tfxfer")

FORMAT = "tfxfer pictures 2"
FORMATS = ("tfxfer pictures 1", FORMAT)  # The first had size and time alone: all files are read again, and compared.
# A file that changed so shortly before it was looked at could change again within one tick of the file system's clock.
TICK_NS = 2_000_000_000
AT_ONCE = 4096  # after as many, the index is written, and there is a line in the log


class Scanned(NamedTuple):
    """A file's digest, or why it cannot be used; the other is empty.

    Attributes:
      digest: SHA-256 of its bytes, in hex.
      reason: beginning with a verb, whose subject is the path.
      lasting: whether the reason lies in the file's bytes.
    """

    digest: str = ""
    reason: str = ""
    lasting: bool = True


# Size in bytes, times of the last change of the contents and of the entry in ns, inode. Contents can be replaced and be
# given the old size and time (cp -p, rsync, tar); the time of the entry then differs, which nobody can set. All are 0
# where the file may have changed just when it was looked at: it is then read and compared next time.
Stamp = tuple[int, int, int, int]
NO_STAMP: Stamp = (0, 0, 0, 0)
Known = dict[str, tuple[Stamp, Scanned]]


def scan(
    paths: Sequence[str], *, index: str | os.PathLike[str] | None = None, most_pixels: int = MOST_PIXELS
) -> list[Scanned]:
    """Decode pictures once, in parallel, to see which can be.

    Args:
      paths: of the files.
      index: a file that remembers the results: a picture of the same path, size, times of change and inode is not read
        again, and one of the same path and bytes not decoded again. It is made, or replaced by the new results.
      most_pixels: pictures of more are set aside, before they are decoded.

    Returns:
      A result for each path.

    Raises:
      DataError: the index is another file, or it lies in a folder that is not there.
      OSError: the index cannot be written.
    """
    keys = {path: os.path.abspath(path) for path in dict.fromkeys(paths)}
    known = _load(Path(index), most_pixels) if index else {}
    stamps = {path: _stamp(path) for path in keys}
    results: Known = {
        path: known[key] for path, key in keys.items() if key in known and _is_unchanged(stamps[path], known[key][0])
    }
    digests = {path: known[key][1].digest for path, key in keys.items() if key in known}
    new = [path for path in keys if path not in results]
    for start in range(0, len(new), AT_ONCE):
        part = new[start : start + AT_ONCE]
        scanned = in_parallel(lambda path: _scan_file(path, most_pixels, digests.get(path, "")), part)
        results |= {path: (stamps[path] or NO_STAMP, result) for path, result in zip(part, scanned, strict=True)}
        if index:
            _save(Path(index), most_pixels, {keys[path]: result for path, result in results.items()})
        log.info("looked through %s of %s pictures", f"{len(results):,}", f"{len(keys):,}")
    return [results[path][1] for path in paths]


def _is_unchanged(stamp: Stamp | None, known: Stamp) -> bool:
    return stamp == known != NO_STAMP


def _scan_file(path: str, most_pixels: int, known_digest: str) -> Scanned:
    """Read a picture, and decode it if its digest is not that of a good picture that lay there before."""
    try:
        data = decoding.read_file(path, most_pixels)
    except DataError as error:
        return Scanned(reason=str(error), lasting=False)
    digest = decoding.sha256(data)
    if digest == known_digest:
        return Scanned(digest)
    try:
        decoding.verify(data, most_pixels)
    except DataError as error:
        return Scanned(reason=str(error))
    return Scanned(digest)


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) < TICK_NS:
        return NO_STAMP
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _save(index: Path, most_pixels: int, results: Known) -> None:
    rows = {
        key: [*stamp[:2], result.digest, result.reason, *stamp[2:]]
        for key, (stamp, result) in results.items()
        if result.lasting
    }
    files.write_bytes(index, json.dumps({"format": FORMAT, "most_pixels": most_pixels, "pictures": rows}).encode())


def _row(size: int, changed: int, digest: str, reason: str, entry: int = 0, inode: int = 0) -> tuple[Stamp, Scanned]:
    return (int(size), int(changed), int(entry), int(inode)), Scanned(str(digest), str(reason))


def _load(index: Path, most_pixels: int) -> Known:
    """Return what the index has, by absolute path; nothing where it is not there or was made with another limit."""
    if not index.parent.is_dir():
        raise DataError(f"the index {index} cannot be written: the folder {index.parent} does not exist")
    try:
        value = json.loads(index.read_bytes())
        if value["format"] not in FORMATS:
            raise KeyError
        rows = value["pictures"].items() if value["most_pixels"] == most_pixels else ()
        return {key: _row(*row) for key, row in rows}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"the index {index} cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{index} is not an index of pictures; delete it, or name another file as index") from None
