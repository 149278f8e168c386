"""Zip archives whose members are stored and not compressed, so that they can be used as they are mapped."""

from __future__ import annotations

import struct
import zipfile
from typing import IO

from tfxfer.formats.buffers import ALIGNMENT

_PADDING = 0xD935  # the number that Android's zipalign gives to what only fills
_LOCAL, _ZIP64 = 30, 20  # bytes of a local header and of its extra field for sizes beyond 4 GiB
_LARGE = 1 << 31  # bytes, from which on zipfile wants that field


def member(archive: zipfile.ZipFile, file: IO[bytes], name: str, size: int) -> IO[bytes]:
    """Begin a member whose content is a multiple of 64 bytes behind the beginning of the archive.

    Args:
      archive: to which it is added.
      file: what the archive writes to.
      name: its name.
      size: the bytes that will be written to it.
    """
    entry = zipfile.ZipInfo(name)  # of 1980, so that the same arrays give the same bytes
    entry.external_attr = 0o644 << 16
    large = size > _LARGE // 2
    entry.extra = _fill(file.tell() + _LOCAL + _ZIP64 * large + len(entry.filename.encode()))
    return archive.open(entry, "w", force_zip64=large)


def _fill(position: int) -> bytes:
    """Return an extra field, of 4 bytes and zeros, that ends at a multiple of 64."""
    zeros = -(position + 4) % ALIGNMENT
    return struct.pack("<HH", _PADDING, zeros) + b"\0" * zeros
