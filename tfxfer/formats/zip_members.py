"""Zip archives, as far as `.npz` and `.keras` need them: `zipfile` reads the directory and unpacks.

Stored members are not read by `zipfile` but in place, as parts of the mapped file: only what is wanted of them is read.

Source of the two records that are looked at here: PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.14 to 4.3.16
(end of the directory).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers
from tfxfer.formats.reading import Cursor
from tfxfer.formats.tensors import Tensor

MAGIC = (b"PK\3\4", b"PK\5\6")  # of an archive, and of an empty one
MAX_MEMBERS = 50_000
MAX_DIRECTORY = 32 << 20  # bytes
_ENTRY, _END, _LOCATOR64 = b"PK\1\2", b"PK\5\6", b"PK\6\7"
_LOCAL = struct.Struct("<4s4xH16xHH")  # signature, method, size of the name, size of the extra field
_STEP = 1 << 20  # bytes that are unpacked at a time
# What zipfile raises for archives that it cannot read. None of them is a WeightsError.
_FAULTS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, UnicodeDecodeError, struct.error)


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
      archive, info: the archive and the entry of its directory.
      packed: uint8 [bytes in the archive], a part of the archive.
      where: the archive, for the error messages.
    """

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    packed: np.ndarray
    where: str

    @property
    def size(self) -> int:
        """The number of bytes when unpacked."""
        return self.info.file_size

    @property
    def stored(self) -> bool:
        """Whether it is not compressed."""
        return self.info.compress_type == zipfile.ZIP_STORED

    @functools.cached_property
    def crc(self) -> int:
        """The CRC-32 of the bytes in the archive, which are read once for it.

        Raises:
          WeightsError: the file has changed since it was opened.
        """
        return crc(self.packed)

    def __str__(self) -> str:
        return f"{self.where}: member {self.info.filename!r}"

    def head(self, count: int) -> bytes:
        """Return the first bytes, never unpacking more; fewer where it is shorter.

        Raises:
          WeightsError: the member is cut short or corrupt.
        """
        if self.stored:
            return self.packed[:count].tobytes()
        if not count:  # For zlib, 0 means all.
            return b""
        try:
            # Not by zipfile, which would check the sum of a short member: that is for those who read its values.
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(buffers.fetched(self.packed[:_STEP]).data, count)
        except zlib.error as error:
            raise WeightsError(f"{self} is corrupt: {error}") from None

    def unpack_into(self, skip: int, result: np.ndarray) -> None:
        """Unpack it, leaving out the first `skip` bytes; the rest must fill `result` and pass the checksum.

        Args:
          skip: the bytes before what is wanted.
          result: uint8 [size - skip], which is written.

        Raises:
          WeightsError: the member is corrupt, or gives more or less than it announces.
        """
        # zipfile stops at the size that is announced: by one byte more, a member that goes on is seen.
        longer = copy.copy(self.info)
        longer.file_size += 1
        try:
            with self.archive.open(longer) as file:
                count = len(file.read(skip))
                for start in range(0, len(result), _STEP):
                    piece = np.frombuffer(file.read(min(_STEP, len(result) - start)), np.uint8)
                    result[start : start + len(piece)] = piece
                    count += len(piece)
                if count < skip + len(result) or file.read(1):
                    raise EOFError("it has another size")
        except _FAULTS as error:
            raise WeightsError(
                f"{self} does not unpack to the {self.size:,} bytes it announces: the file is damaged ({error}); "
                "copy it again"
            ) from None

    def whole(self) -> np.ndarray:
        """Return all bytes, uint8 [size]; if it is stored uncompressed, as part of the archive and unchecked.

        Raises:
          WeightsError: the member is corrupt, or gives more or less than it announces.
        """
        if self.stored:
            return self.packed
        result = np.empty(self.size, np.uint8)
        self.unpack_into(0, result)
        return result

    def check(self, crc: int) -> None:
        """Compare a CRC-32 of all bytes with the one in the archive.

        Raises:
          WeightsError: they differ.
        """
        if crc != self.info.CRC:
            raise WeightsError(f"{self} fails its checksum: the file is damaged; copy it again")


def members(data: np.ndarray, where: str) -> dict[str, Member]:
    """List the files in an archive by name, in the order of its directory. Every local header is checked.

    Args:
      data: uint8 [n], the whole archive.
      where: the file, for the error messages.

    Raises:
      WeightsError: the archive is cut short, corrupt or encrypted, a name leads out of it or comes twice, or a member
        is compressed otherwise than by deflate.
    """
    count = _announced(data, where)
    try:
        archive = zipfile.ZipFile(_Bytes(data, where))
    except _FAULTS as error:
        raise WeightsError(f"{where} is corrupt: its directory is damaged: {error}") from None
    result: dict[str, Member] = {}
    for info in archive.infolist():
        _refuse_entry(info, where)
        if info.filename in result:
            raise WeightsError(f"{where} is corrupt: it holds {info.filename!r} twice")
        start = _start(data, info, where)
        result[info.filename] = Member(archive, info, data[start : start + info.compress_size], where)
    if len(result) != count:
        raise WeightsError(f"{where} is corrupt: it announces {count:,} members and holds {len(result):,}")
    return result


def crc(content: np.ndarray) -> int:
    """Return the CRC-32 of bytes, uint8 [n], which may be part of a mapped file.

    Raises:
      WeightsError: the file has changed since it was opened.
    """
    return functools.reduce(lambda sum_, piece: zlib.crc32(piece.data, sum_), buffers.seen(content, content.dtype), 0)


def checked_once(tensors: Mapping[str, Tensor], member: Member, content: np.ndarray) -> dict[str, Tensor]:
    """Let the first read of any tensor compare the checksum of the member that holds them all.

    Args:
      tensors: the tensors; those with a fault stay as they are.
      member: the member.
      content: its bytes, uint8 [size].
    """
    check = functools.cache(lambda: member.check(crc(content)))

    def read(tensor: Tensor) -> np.ndarray:
        check()
        return tensor.read()

    return {
        name: tensor if tensor.fault else dataclasses.replace(tensor, read=functools.partial(read, tensor), stream=None)
        for name, tensor in tensors.items()
    }


class _Bytes(io.RawIOBase):
    """The bytes of an archive as a file for `zipfile`; a mapped file is read and not touched in the mapping."""

    def __init__(self, data: np.ndarray, where: str) -> None:
        self._data = data
        self._where = where
        self._position = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, len(self._data))[whence]
        if self._position < 0:
            raise OSError("a part of it would lie before the beginning of the file")
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._position + size
        piece = self._data[self._position : end]
        self._position += len(piece)
        if len(piece) > MAX_DIRECTORY:
            raise WeightsError(f"{self._where} is hostile: its directory takes {len(piece):,} bytes")
        content = buffers.fetched(piece).tobytes()
        if (entries := content.count(_ENTRY)) > MAX_MEMBERS:
            raise WeightsError(f"{self._where} announces {entries:,} members, more than {MAX_MEMBERS:,}")
        return content


def _announced(data: np.ndarray, where: str) -> int:
    """Return how many members the end of the directory announces; `zipfile` does not look at that number."""
    # The end record stands before a comment of at most 64 KiB.
    start = max(0, len(data) - 22 - 0xFFFF)
    at = start + data[start:].tobytes().rfind(_END)
    if at < start:
        raise WeightsError(
            f"{where} is cut short: a zip archive ends with a directory, which is missing; copy it again"
        )
    try:
        count, size = struct.unpack_from("<HI", data.data, at + 10)
        if at >= 20 and data[at - 20 : at - 16].tobytes() == _LOCATOR64:
            count, size = struct.unpack_from("<QQ", data.data, struct.unpack_from("<Q", data.data, at - 12)[0] + 32)
    except (struct.error, OverflowError):
        raise WeightsError(f"{where} is corrupt: the end of its directory is damaged") from None
    if count > MAX_MEMBERS and count * 46 <= size:
        raise WeightsError(f"{where} announces {count:,} members, more than {MAX_MEMBERS:,}")
    if size > len(data) or count * 46 > size:
        raise WeightsError(f"{where} is corrupt: its directory of {count:,} members goes beyond the end of the file")
    return count


def _refuse_entry(info: zipfile.ZipInfo, where: str) -> None:
    name, size, packed = info.filename, info.file_size, info.compress_size
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WeightsError(f"{where}: member {name!r} is encrypted, or compressed otherwise than by deflate")
    if ".." in name.replace("\\", "/").split("/"):
        raise WeightsError(f"{where} is hostile: the name {name!r} of a member leads out of the archive")
    if info.compress_type == zipfile.ZIP_STORED and packed != size:
        raise WeightsError(f"{where} is corrupt: member {name!r} is stored in {packed:,} bytes and has {size:,}")
    # Deflate can shrink by a factor of 1032 at most.
    if size > 1040 * packed + 1024:
        raise WeightsError(f"{where} is hostile: member {name!r} announces {size:,} bytes in {packed:,}")


def _start(data: np.ndarray, info: zipfile.ZipInfo, where: str) -> int:
    """Return where the bytes of a member begin: behind a local header, which must tell of the same member."""
    cursor = Cursor(data.data, where, info.header_offset)
    signature, method, name_size, extra_size = cursor.unpack(_LOCAL)
    name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    if (signature, method) != (MAGIC[0], info.compress_type) or cursor.take(name_size) != name:
        raise WeightsError(f"{where} is corrupt: member {info.filename!r} is not where its directory says")
    cursor.take(extra_size)
    start = cursor.position
    cursor.take(info.compress_size)
    return start
