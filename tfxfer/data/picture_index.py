"""What is remembered of pictures that were looked through: a file with a row for each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tfxfer import files
from tfxfer.errors import DataError

FORMAT = "tfxfer pictures 3"
# The first had size and time alone: all files are read again, and compared. In the second, all were looked at whole.
FORMATS = ("tfxfer pictures 1", "tfxfer pictures 2", FORMAT)


class Scanned(NamedTuple):
    """What a file is.

    Attributes:
      digest: SHA-256 of its bytes, in hex; empty if it cannot be read, and perhaps if it cannot be used.
      reason: why it cannot be used, beginning with a verb, whose subject is the path; empty if it can.
      lasting: whether the reason lies in the file's bytes.
      whole: whether the picture was decoded when it was looked at; else its header was read, and its end.
    """

    digest: str = ""
    reason: str = ""
    lasting: bool = True
    whole: bool = True


# Size in bytes, times of the last change of the contents and of the entry in ns, inode. Contents can be replaced and be
# given the old size and time (cp -p, rsync, tar); the time of the entry then differs, which nobody can set. All are 0
# where the file may have changed just when it was looked at: it is then read and compared next time.
Stamp = tuple[int, int, int, int]
NO_STAMP: Stamp = (0, 0, 0, 0)
Known = dict[str, tuple[Stamp, Scanned]]


def save(index: Path, most_pixels: int, results: Known) -> None:
    """Write what is known, by absolute path; reasons that do not last are left out.

    Raises:
      OSError: it cannot be written.
    """
    rows = {
        key: [*stamp[:2], result.digest, result.reason, *stamp[2:], *(() if result.whole else (False,))]
        for key, (stamp, result) in results.items()
        if result.lasting
    }
    files.write_bytes(index, json.dumps({"format": FORMAT, "most_pixels": most_pixels, "pictures": rows}).encode())


def load(index: Path, most_pixels: int) -> Known:
    """Return what the index has, by absolute path; nothing where it is not there or was made with another limit.

    Raises:
      DataError: it is another file, cannot be read, or lies in a folder that is not there.
    """
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


def _row(
    size: int, changed: int, digest: str, reason: str, entry: int = 0, inode: int = 0, whole: bool = True
) -> tuple[Stamp, Scanned]:
    scanned = Scanned(str(digest), str(reason), whole=bool(whole))
    return (int(size), int(changed), int(entry), int(inode)), scanned


def set_aside(index: Path, most_pixels: int, reasons: Mapping[tuple[str, str], str]) -> bool:
    """Note of pictures that looked well that they cannot be decoded, so that they are set aside the next time.

    Args:
      index: the file.
      most_pixels: as it was made with.
      reasons: why, by path and digest.

    Returns:
      Whether all of them are noted: not where the index is gone, or cannot be written.
    """
    try:
        known = load(index, most_pixels)
        for (path, digest), reason in reasons.items():
            stamp, _ = known[os.path.abspath(path)]
            known[os.path.abspath(path)] = stamp, Scanned(digest, reason, whole=False)
        save(index, most_pixels, known)
    except (DataError, OSError, KeyError):
        return False
    return True
