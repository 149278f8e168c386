"""Looking through pictures before they are used: which of them can be decoded, and what the digest of each is."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfxfer import files
from tfxfer.data import decoding
from tfxfer.data.decoding import MOST_PIXELS
from tfxfer.data.pictures import in_parallel
from tfxfer.errors import DataError

log = logging.getLogger("tfxfer")

FORMAT = "tfxfer pictures 1"
AT_ONCE = 4096  # after as many, the index is written, and there is a line in the log


class Scanned(NamedTuple):
    """What was found out about a file: its digest or why it cannot be used; the other is empty.

    Attributes:
      digest: SHA-256 of its bytes, in hex.
      reason: beginning with a verb, whose subject is the path.
      lasting: whether the reason lies in the file's bytes.
    """

    digest: str = ""
    reason: str = ""
    lasting: bool = True


Stamp = tuple[int, int]  # size in bytes, time of the last change in ns
Known = dict[str, tuple[Stamp, Scanned]]


def scan(
    paths: Sequence[str], *, index: str | os.PathLike[str] | None = None, most_pixels: int = MOST_PIXELS
) -> list[Scanned]:
    """Decode pictures once, in parallel, to see which can be.

    Args:
      paths: of the files.
      index: a file where all this is remembered: a picture of the same path, size and time of change is not decoded
        again. It is made, or replaced, by what is found now.
      most_pixels: pictures of more are set aside, before they are decoded.

    Returns:
      What was found out, one a path.

    Raises:
      DataError: the index is another file, or it lies in a folder that is not there.
      OSError: the index cannot be written.
    """
    distinct = {path: os.path.abspath(path) for path in dict.fromkeys(paths)}
    known = _load(Path(index), most_pixels) if index else {}
    stamps = {path: _stamp(path) for path in distinct}
    found: Known = {}
    for path, key in distinct.items():
        stamp = stamps[path]
        if stamp and key in known and known[key][0] == stamp:
            found[path] = known[key]
    new = [path for path in distinct if path not in found]
    for start in range(0, len(new), AT_ONCE):
        part = new[start : start + AT_ONCE]
        looked = in_parallel(lambda path: _look(path, most_pixels), part)
        found |= {path: (stamps[path] or (0, 0), one) for path, one in zip(part, looked, strict=True)}
        if index:
            _save(Path(index), most_pixels, {distinct[path]: one for path, one in found.items()})
        log.info("looked through %s of %s pictures", f"{len(found):,}", f"{len(distinct):,}")
    return [found[path][1] for path in paths]


def _look(path: str, most_pixels: int) -> Scanned:
    try:
        data = decoding.read_file(path, most_pixels)
    except DataError as error:
        return Scanned(reason=str(error), lasting=False)
    try:
        decoding.verify(data, most_pixels)
    except DataError as error:
        return Scanned(reason=str(error))
    return Scanned(decoding.sha256(data))


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _save(index: Path, most_pixels: int, found: Known) -> None:
    rows = {key: [*stamp, one.digest, one.reason] for key, (stamp, one) in found.items() if one.lasting}
    files.write_bytes(index, json.dumps({"format": FORMAT, "most_pixels": most_pixels, "pictures": rows}).encode())


def _load(index: Path, most_pixels: int) -> Known:
    """Return what the index has, by absolute path; nothing where it is not there or was made with another limit."""
    if not index.parent.is_dir():
        raise DataError(f"the index {index} cannot be written: there is no folder {index.parent}")
    try:
        value = json.loads(index.read_bytes())
        if value["format"] != FORMAT:
            raise KeyError
        rows = value["pictures"].items() if value["most_pixels"] == most_pixels else ()
        return {
            key: ((int(size), int(changed)), Scanned(str(digest), str(reason)))
            for key, (size, changed, digest, reason) in rows
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"the index {index} cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{index} is no index of pictures; delete it, or name another file as index") from None
