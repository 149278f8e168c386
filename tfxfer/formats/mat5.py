"""MATLAB's files of version 5, which MATLAB 5 to 7 and SciPy write: structs, cells, texts and arrays.

They are read here and not by `scipy.io.loadmat`, which reads a variable as a whole, and so a network with all its
weights. Nor does it survive hostile files: 10,000 cells within one another end the process, and a file of 184 bytes
that announces many cells takes 2 GB (SciPy 1.17).

Source: "MAT-File Format" by The MathWorks, chapter 1, "Level 5 MAT-File Format"; for the classes that it does not tell
of (16, 17), `scipy/io/matlab/_mio5_params.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, reading
from tfxfer.formats.tensors import Tensor, shape_fault, unreadable

# A struct by its fields; a cell, or an array of structs, in the order of MATLAB, the first index fastest; a text; an
# array; None for what has no elements, such as [].
Value: TypeAlias = "dict[str, Value] | list[Value] | str | Tensor | None"

MAX_VALUES = 50_000  # structs, cells, texts and arrays in a file
MAX_DEPTH = 64  # of cells and structs
MAX_PATH = 4096  # letters of the fields and indices that lead to a value
MAX_PATHS = 16 << 20  # the same of all values
MAX_TEXT = 1 << 16  # bytes of a text, of the names of a struct's fields, of a shape
KEPT = 1 << 20  # bytes up to which a compressed array is kept when the file is opened
ALL_KEPT = 16 << 20  # the same of all such arrays
MAX_GROWTH = 32  # times the size of the file, and MAX_INFLATED more: what a whole file may inflate to
MAX_INFLATED = 256 << 20

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHARACTERS, _OPAQUE = 1, 2, 4, 17
_COMPLEX, _LOGICAL = 0x800, 0x200
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_DTYPES = dict(zip(range(6, 16), ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), strict=True))
_CODECS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_OTHERS = {3: "an object", 5: "a sparse matrix", 16: "a function handle", 17: "an object"}
_STEP = 1 << 18  # bytes that are unpacked at a time


def variables(data: np.ndarray, where: str) -> dict[str, Value]:
    """List the variables of a file by name, in its order. Of values, small ones at most are read.

    Args:
      data: uint8 [n], the whole file.
      where: the file, for the error messages.

    Raises:
      WeightsError: the file is cut short, corrupt, or announces far more than it can hold.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[_HEADER - 2 : _HEADER].tobytes())
    if order is None:
        raise WeightsError(f"{where} is cut short or corrupt: its header does not tell the order of its bytes")
    found: dict[str, Value] = {}
    limits = Limits(len(data))
    for source in _sources(data, order, where, limits):
        name, value = Walk(source, order, where, limits).variable()
        if name in found:
            raise WeightsError(f"{where} is corrupt: it holds the variable {name} twice")
        if name:  # what has none is MATLAB's own, such as the workspace of a function handle
            found[name] = value
    return found


class Limits:
    """How much of a file may still be looked at, unpacked and kept."""

    def __init__(self, size: int) -> None:
        """Set them for a file of `size` bytes."""
        self._values = MAX_VALUES
        self._paths = MAX_PATHS
        self._inflated = MAX_INFLATED + MAX_GROWTH * size
        self._kept = ALL_KEPT

    def value(self, path: str, where: str) -> None:
        """Count one more value.

        Args:
          path: the fields and indices that lead to it.
          where: the file, for the error message.

        Raises:
          WeightsError: there were MAX_VALUES already, or the path is too long.
        """
        self._values -= 1
        self._paths -= len(path)
        if min(self._values, self._paths) < 0 or len(path) > MAX_PATH:
            raise WeightsError(
                f"{where} is hostile: its cells and structs hold more than {MAX_VALUES:,} values, or their names take "
                f"more than {MAX_PATHS:,} letters in all or {MAX_PATH:,} on the way to one value"
            )

    def inflate(self, size: int, where: str) -> None:
        """Count a variable that unpacks to `size` bytes.

        Raises:
          WeightsError: that is more than weights can be compressed by.
        """
        self._inflated -= size
        if self._inflated < 0:
            raise WeightsError(
                f"{where} is refused: it announces {size:,} bytes in a compressed variable, far more than such a file "
                "holds of weights. If they are genuine, write them without compression, as SciPy's savemat does"
            )

    def keeps(self, size: int) -> bool:
        """Say whether `size` bytes more are to be kept, and count them."""
        if size > min(KEPT, self._kept):
            return False
        self._kept -= size
        return True


@dataclasses.dataclass(frozen=True)
class Held:
    """Bytes that are at hand, uint8 [n]: in memory, or as they lie in the file."""

    content: np.ndarray

    def __call__(self) -> np.ndarray:
        """Return them."""
        return self.content


class Plain:
    """The bytes of a variable that is not compressed.

    Attributes:
      position: how many of them were passed.
    """

    def __init__(self, raw: np.ndarray, where: str) -> None:
        """Take its bytes, uint8 [n], with the tag."""
        self._raw = raw
        self._where = where
        self.position = 0

    def begin(self, size: int) -> None:
        """Begin with a variable of `size` bytes, all of which are in the file."""

    def skip(self, size: int) -> np.ndarray:
        """Pass over bytes, and return them as part of the file.

        Raises:
          WeightsError: there are not so many.
        """
        start, self.position = self.position, self.position + size
        if self.position > len(self._raw):
            raise WeightsError(f"{self._where} is cut short or corrupt: {size:,} bytes are missing in a variable")
        return self._raw[start : self.position]

    def take(self, size: int) -> bytes:
        """Return the next bytes; raises as `skip` does."""
        return self.skip(size).tobytes()

    def values(self, size: int) -> Callable[[], np.ndarray]:
        """Pass over the values of an array, and return what gives their bytes; raises as `skip` does."""
        return Held(self.skip(size))

    def finish(self) -> None:
        """End the variable: nothing stands behind it."""


class Inflated:
    """The bytes of a compressed variable, unpacked as they are asked for and not kept; otherwise as `Plain`."""

    def __init__(self, packed: np.ndarray, where: str, limits: Limits) -> None:
        """Take its bytes in the file, uint8 [n], without the tag."""
        self._packed = packed
        self._where = where
        self._limits = limits
        self._stream = Stream(packed, where)
        self._idle: list[Stream] = []  # where the last read ended: what is read in order is unpacked once

    @property
    def position(self) -> int:
        """How many unpacked bytes were passed."""
        return self._stream.position

    def begin(self, size: int) -> None:
        """Begin with a variable of `size` bytes.

        Raises:
          WeightsError: that is more than weights can be compressed by.
        """
        self._limits.inflate(size, self._where)

    def skip(self, size: int) -> None:
        """Pass over bytes.

        Raises:
          WeightsError: there are not so many, or they do not unpack.
        """
        for _ in self._stream.pieces(size):
            pass

    def take(self, size: int) -> bytes:
        """Return the next bytes; raises as `skip` does."""
        return self._stream.take(size)

    def values(self, size: int) -> Callable[[], np.ndarray]:
        """Pass over the values of an array, and return what gives their bytes; raises as `skip` does.

        Few are kept. For many, the variable is unpacked once more, up to them.
        """
        if self._limits.keeps(size):
            return Held(np.frombuffer(self.take(size), np.uint8))
        start = self.position
        self.skip(size)
        return functools.partial(self._read, start, size)

    def finish(self) -> None:
        """End the variable.

        Raises:
          WeightsError: it fails its checksum.
        """
        self._stream.finish()

    def _read(self, start: int, size: int) -> np.ndarray:
        try:
            stream = self._idle.pop()  # of several threads, one gets it
        except IndexError:
            stream = Stream(self._packed, self._where)
        if stream.position > start:
            stream = Stream(self._packed, self._where)
        for _ in stream.pieces(start - stream.position):
            pass
        result, at = buffers.aligned((size,), np.dtype(np.uint8)), 0
        for piece in stream.pieces(size):
            result[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        self._idle[:] = [stream]
        return result


class Stream:
    """Bytes as zlib packed them.

    Attributes:
      position: how many unpacked bytes were passed.
    """

    def __init__(self, packed: np.ndarray, where: str) -> None:
        """Start at the beginning."""
        self._packed = packed
        self._where = where
        self._machine = zlib.decompressobj()
        self._next = 0  # the first packed byte that was not read
        self._ready = memoryview(b"")
        self.position = 0

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes, some at a time.

        Raises:
          WeightsError: there are not so many, they do not unpack, or the file has changed.
        """
        while size:
            if not self._ready:
                self._ready = self._fill()
            piece, self._ready = self._ready[:size], self._ready[size:]
            self.position += len(piece)
            size -= len(piece)
            yield piece

    def take(self, size: int) -> bytes:
        """Return the next bytes; raises as `pieces` does."""
        if size > len(self._ready):
            return b"".join(self.pieces(size))
        piece, self._ready = self._ready[:size], self._ready[size:]
        self.position += size
        return piece.tobytes()

    def finish(self) -> None:
        """Go to the end, where the checksum stands; what may follow the variable is left alone.

        Raises:
          WeightsError: it is wrong or missing.
        """
        if not self._ready and not self._machine.eof:
            self._ready = memoryview(self._unpack())
            if not self._machine.eof and not self._ready:
                raise self._too_early()

    def _fill(self) -> memoryview:
        content = self._unpack()
        if not content:
            raise self._too_early()
        return memoryview(content)

    def _unpack(self) -> bytes:
        """Return the next bytes that unpack; none at the end."""
        content, packed = b"", b"x"
        while packed and not content and not self._machine.eof:
            packed = self._machine.unconsumed_tail or self._read()
            try:
                content = self._machine.decompress(packed, _STEP)
            except zlib.error as error:
                raise WeightsError(
                    f"{self._where} is corrupt: a compressed variable does not unpack: {error}"
                ) from None
        return content

    def _read(self) -> bytes:
        piece = self._packed[self._next : self._next + _STEP]
        self._next += len(piece)
        return buffers.fetched(piece).tobytes()

    def _too_early(self) -> WeightsError:
        return WeightsError(f"{self._where} is cut short or corrupt: a compressed variable ends too early")


def _sources(data: np.ndarray, order: str, where: str, limits: Limits) -> Iterator[Plain | Inflated]:
    position = _HEADER
    while position < len(data):
        tag = data[position : position + 8].tobytes()
        kind, size = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (_MATRIX, 8)
        end = position + 8 + size
        if end > len(data):
            raise WeightsError(
                f"{where} is cut short or corrupt: a variable takes {end:,} bytes, the file has {len(data):,}"
            )
        if kind not in (_MATRIX, _COMPRESSED):
            raise WeightsError(f"{where} is corrupt: what stands at byte {position:,} is not a variable")
        if kind == _MATRIX:
            yield Plain(data[position:end], where)
        else:
            yield Inflated(data[position + 8 : end], where, limits)
        position = end


class Element(NamedTuple):
    """The tag of an element: the kind of its values, how many bytes they take, and these if they stand in the tag."""

    kind: int
    size: int
    small: bytes


class Header(NamedTuple):
    """What stands before the content of a value, where it ends, and where it belongs.

    Attributes:
      kind: its class.
      flags: whether it is complex or logical.
      shape: its dimensions.
      end: the position behind its last byte.
      path: the fields and indices that lead to it.
      depth: how many cells and structs it lies in.
    """

    kind: int
    flags: int
    shape: tuple[int, ...]
    end: int
    path: str
    depth: int


class Part(NamedTuple):
    """The real or the imaginary part of an array: the dtype in the file, and what gives the bytes."""

    stored: np.dtype
    raw: Callable[[], np.ndarray]


class Walk:
    """A walk through one variable, from its first byte to its last."""

    def __init__(self, source: Plain | Inflated, order: str, where: str, limits: Limits) -> None:
        """Start at its tag.

        Args:
          source: its bytes.
          order: `<` where the least significant byte of a number comes first, else `>`.
          where: the file, for the error messages.
          limits: what is left of those of the file.
        """
        self._source = source
        self._order = order
        self._where = where
        self._limits = limits

    def variable(self) -> tuple[str, Value]:
        """Return its name and its value.

        Raises:
          WeightsError: it is cut short or corrupt.
        """
        element = self._tag()
        if element.kind != _MATRIX:
            raise self._corrupt("a compressed variable holds something else")
        self._source.begin(element.size)
        found = self._matrix(element.size, "", 0)
        self._source.finish()
        return found

    def _matrix(self, size: int, path: str, depth: int) -> tuple[str, Value]:
        """Read a value of `size` bytes behind its tag; return its name, if it is a variable, and the value."""
        self._limits.value(path, self._where)
        if not size:
            return "", None
        end = self._source.position + size
        name, header = self._header(end, path, depth)
        value = self._value(header)
        if self._source.position > end:
            raise self._corrupt(f"{header.path} is longer than it announces")
        self._source.skip(end - self._source.position)
        return name, value

    def _header(self, end: int, path: str, depth: int) -> tuple[str, Header]:
        flags = self._integers("I")[:1]
        shape = () if not flags or flags[0] & 0xFF == _OPAQUE else self._integers("i")
        name = self._content()[1].decode("utf-8", "replace")
        if not flags:
            raise self._corrupt(f"{path or name} does not tell its class")
        return name, Header(flags[0] & 0xFF, flags[0], shape, end, path or name, depth)

    def _value(self, header: Header) -> Value:
        place, shape = f"{self._where}: {header.path}", header.shape
        if header.kind not in {_CELL, _STRUCT, _CHARACTERS, *_DTYPES}:
            words = _OTHERS.get(header.kind, f"a value of the unknown class {header.kind}")
            return unreadable(f"{place} is {words}, which is not an array of numbers", shape)
        if fault := shape_fault(shape):
            raise WeightsError(f"{place}: {fault}")
        if header.kind in (_CELL, _STRUCT):
            if header.depth == MAX_DEPTH:
                return unreadable(f"{place} lies in more than {MAX_DEPTH} cells and structs; it is not read", shape)
            return self._cell(header) if header.kind == _CELL else self._struct(header)
        if header.kind == _CHARACTERS:
            return self._text(header)
        return self._array(header) if math.prod(shape) else None

    def _cell(self, header: Header) -> Value:
        return [self._inner(header, f"/{index}") for index in range(math.prod(header.shape))]

    def _struct(self, header: Header) -> Value:
        width = self._integers("i")[:1]
        text = self._content()[1]
        if not width or width[0] < 1:
            raise self._corrupt(f"the fields of {header.path} have names of no length")
        names = [text[start : start + width[0]].partition(b"\0")[0] for start in range(0, len(text), width[0])]
        fields = [name.decode("utf-8", "replace") for name in names]
        if len(set(fields)) < len(fields):
            raise self._corrupt(f"two fields of {header.path} have one name")
        if math.prod(header.shape) == 1:
            return {field: self._inner(header, f"/{field}") for field in fields}
        count = math.prod(header.shape) if fields else 0
        return [{field: self._inner(header, f"/{index}/{field}") for field in fields} for index in range(count)]

    def _inner(self, header: Header, name: str) -> Value:
        element = self._tag()
        if element.kind != _MATRIX or self._source.position + element.size > header.end:
            raise self._corrupt(f"{header.path}{name} is missing, or longer than what it lies in")
        return self._matrix(element.size, header.path + name, header.depth + 1)[1]

    def _text(self, header: Header) -> str | None:
        if header.end - self._source.position > MAX_TEXT or len(header.shape) != 2 or header.shape[0] > 1:
            return None  # several lines, or a document
        kind, content = self._content()
        codec = _CODECS.get(kind, "latin-1")
        if codec in ("utf-16", "utf-32"):
            codec += "-le" if self._order == "<" else "-be"
        return content.decode(codec, "replace")

    def _array(self, header: Header) -> Tensor:
        place, complex_ = f"{self._where}: {header.path}", bool(header.flags & _COMPLEX)
        logical = bool(header.flags & _LOGICAL)
        dtype = np.dtype(bool if logical else _DTYPES[header.kind])
        parts = [self._part(header, place) for _ in range(1 + complex_)]
        fits = all(np.can_cast(part.stored, dtype, "same_kind") or logical for part in parts)
        if not fits or (complex_ and dtype.kind != "f"):
            kinds = " and ".join(str(part.stored) for part in parts)
            return unreadable(f"{place} has the dtype {dtype} and holds {kinds}, which is not read", header.shape)
        return _complex(parts, dtype, header.shape, place) if complex_ else _real(parts[0], dtype, header.shape, place)

    def _part(self, header: Header, place: str) -> Part:
        element = self._tag()
        if element.kind not in _STORED:
            raise self._corrupt(f"{header.path} holds values of the unknown kind {element.kind}")
        stored = np.dtype(self._order + _STORED[element.kind])
        size = math.prod(header.shape) * stored.itemsize
        if element.size != size:
            raise WeightsError(
                f"{place} is corrupt: {stored} {header.shape} takes {size:,} bytes, the file holds {element.size:,}"
            )
        if element.small:
            small = np.frombuffer(element.small, np.uint8)
            return Part(stored, lambda: small)
        if self._source.position + size > header.end:
            raise self._corrupt(f"{header.path} is longer than it announces")
        part = Part(stored, self._source.values(size))
        self._pad(size, header.end)
        return part

    def _integers(self, code: str) -> tuple[int, ...]:
        content = self._content()[1]
        count = len(content) // 4
        return struct.unpack_from(f"{self._order}{count}{code}", content)

    def _content(self) -> tuple[int, bytes]:
        """Return the kind and the bytes of an element that is short: a shape, a name, a text."""
        element = self._tag()
        if element.small or not element.size:
            return element.kind, element.small
        if element.size > MAX_TEXT:
            raise self._corrupt(f"a name, a text or a shape takes {element.size:,} bytes")
        content = self._source.take(element.size)
        self._pad(element.size)
        return element.kind, content

    def _tag(self) -> Element:
        raw = self._source.take(8)
        word, size = struct.unpack(f"{self._order}II", raw)
        if not word >> 16:
            return Element(word, size, b"")
        if word >> 16 > 4:
            raise self._corrupt(f"{word >> 16} bytes stand where there is room for 4")
        return Element(word & 0xFFFF, word >> 16, raw[4 : 4 + (word >> 16)])

    def _pad(self, size: int, end: int | None = None) -> None:
        # An element takes a multiple of 8 bytes; the last of a value may do without.
        pad = -size % 8
        self._source.skip(pad if end is None else min(pad, end - self._source.position))

    def _corrupt(self, what: str) -> WeightsError:
        return WeightsError(f"{self._where} is corrupt: {what}")


def _real(part: Part, dtype: np.dtype, shape: tuple[int, ...], where: str) -> Tensor:
    flat = sum(size > 1 for size in shape) < 2
    if isinstance(part.raw, Held) and part.stored.newbyteorder("=") == dtype:
        return reading.tensor(part.raw.content, 0, part.stored, shape, where, not flat)
    return Tensor(shape, dtype, functools.partial(_read, part, dtype, shape, where))


def _complex(parts: list[Part], dtype: np.dtype, shape: tuple[int, ...], where: str) -> Tensor:
    whole = np.result_type(dtype, np.complex64)

    def read() -> np.ndarray:
        result = np.empty(shape, whole, order="F")
        result.real = _read(parts[0], dtype, shape, where)
        result.imag = _read(parts[1], dtype, shape, where)
        return result

    return Tensor(shape, whole, read)


def _read(part: Part, dtype: np.dtype, shape: tuple[int, ...], where: str) -> np.ndarray:
    return reading.array(part.raw(), 0, part.stored, shape, where, fortran=True).astype(dtype, copy=False)
