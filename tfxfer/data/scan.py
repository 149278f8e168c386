"""Looking through pictures before they are used: which of them can be decoded, and what the digest of each is."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tfxfer.data import decoding, picture_index
from tfxfer.data.decoding import MOST_PIXELS
from tfxfer.data.picture_index import NO_STAMP, Known, Scanned, Stamp
from tfxfer.data.pictures import in_parallel
from tfxfer.errors import DataError

log = logging.getLogger("tfxfer")

# A file that changed so shortly before it was looked at could change again within one tick of the file system's clock.
TICK_NS = 2_000_000_000
AT_ONCE = 4096  # after as many, the index is written, and there is a line in the log


def scan(
    paths: Sequence[str],
    *,
    index: str | os.PathLike[str] | None = None,
    most_pixels: int = MOST_PIXELS,
    whole: bool = True,
    way: str = "exact",
) -> list[Scanned]:
    """Look at pictures once, in parallel, to see which can be decoded.

    Args:
      paths: of the files.
      whole, way: whether the pixels of JPEGs are decoded, and how they will be; see `decoding.verify`.
      index: a file that remembers the results: a picture of the same path, size, times of change and inode is not read
        again, and one of the same path and bytes not decoded again. It is made, or replaced by the new results; of
        other pictures, those stay that were damaged though they looked well.
      most_pixels: pictures of more are set aside, before they are decoded.

    Returns:
      A result for each path.

    Raises:
      DataError: the index is another file, or it lies in a folder that is not there.
      OSError: the index cannot be written.
    """
    keys = {path: os.path.abspath(path) for path in dict.fromkeys(paths)}
    known = picture_index.load(Path(index), most_pixels) if index else {}
    noted = {key: (stamp, result) for key, (stamp, result) in known.items() if result.reason and not result.whole}
    # What was seen without the pixels is not enough for whom they are decoded now.
    known = {key: (stamp, result) for key, (stamp, result) in known.items() if result.whole or not whole}
    stamps = {path: _stamp(path) for path in keys}
    results: Known = {
        path: known[key] for path, key in keys.items() if key in known and _is_unchanged(stamps[path], known[key][0])
    }
    before = {path: known[key][1] for path, key in keys.items() if key in known}
    new = [path for path in keys if path not in results]
    for start in range(0, len(new), AT_ONCE):
        part = new[start : start + AT_ONCE]
        scanned = in_parallel(lambda path: _scan_file(path, most_pixels, before.get(path), whole, way), part)
        results |= {path: (stamps[path] or NO_STAMP, result) for path, result in zip(part, scanned, strict=True)}
        if index:
            rows = noted | {keys[path]: result for path, result in results.items()}
            picture_index.save(Path(index), most_pixels, rows)
        log.info("looked through %s of %s pictures", f"{len(results):,}", f"{len(keys):,}")
    seen = (results[path][1] for path in paths)
    return [result._replace(digest="") if result.reason else result for result in seen]


def _is_unchanged(stamp: Stamp | None, known: Stamp) -> bool:
    return stamp == known != NO_STAMP


def _scan_file(path: str, most_pixels: int, before: Scanned | None, whole: bool, way: str) -> Scanned:
    """Read a picture, and look at it if its digest is not that of the picture that lay there before."""
    try:
        data = decoding.read_file(path, most_pixels)
    except DataError as error:
        return Scanned(reason=str(error), lasting=False)
    digest = decoding.sha256(data)
    if before and digest == before.digest:
        return before
    try:
        decoding.verify(data, most_pixels, whole=whole, way=way)
    except DataError as error:
        return Scanned(digest, str(error), whole=whole)
    return Scanned(digest, whole=whole)


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) < TICK_NS:
        return NO_STAMP
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
