"""The tables of a FlatBuffer, read one field at a time; every offset is checked before it is followed.

A table begins with the distance back to its vtable, which says where in the table each field lies. Strings, vectors and
further tables lie elsewhere: the field holds the distance to them, always forward.

Source: flatbuffers.dev/internals, and the check of `flatbuffers::Verifier`.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from tfxfer.errors import WeightsError

MAX_TABLES = 100_000  # in one vector
MAX_TEXT = 1 << 16  # bytes of a string; the names of fused ops are long

_OFFSET, _BACK, _VTABLE = struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<HH")


@dataclasses.dataclass(frozen=True)
class Vector:
    """Where the elements of a vector lie: `count` of them, from the byte `start` of the file on."""

    start: int
    count: int


class Table:
    """A table; its fields are known by their number in the schema, from 0."""

    def __init__(self, data: memoryview, position: int, where: str) -> None:
        """Read where the fields lie.

        Args:
          data: the whole file.
          position: where the table begins.
          where: the file, for error messages.

        Raises:
          WeightsError: the table or its vtable goes beyond the file.
        """
        self.data = data
        self.where = where
        self.position = position
        self._vtable = position - self._unpack(_BACK, position)[0]
        self._vtable_size, self._size = self._unpack(_VTABLE, self._vtable)
        self._inside(self._vtable, self._vtable_size)
        self._inside(position, self._size)

    def __contains__(self, field: int) -> bool:
        """Say whether the file states a field."""
        return bool(self._place(field, 0))

    def number(self, field: int, form: str, default: int = 0) -> int:
        """Return a number, or the schema's default where the field is not stated.

        Args:
          field: its number.
          form: its format, as `struct` has it: "i", "I", "b", "B", "Q".
          default: the schema's.
        """
        packed = struct.Struct(f"<{form}")
        place = self._place(field, packed.size)
        return self._unpack(packed, place)[0] if place else default

    def table(self, field: int) -> Table | None:
        """Return the table that a field leads to; None where it is not stated."""
        place = self._target(field)
        return Table(self.data, place, self.where) if place else None

    def tables(self, field: int) -> Sequence[Table]:
        """Return the tables of a vector, each read when it is asked for; none where the field is not stated.

        Raises:
          WeightsError: there are more than MAX_TABLES.
        """
        vector = self.vector(field, 4)
        if vector.count > MAX_TABLES:
            raise WeightsError(f"{self.where} is refused: it holds a list of {vector.count:,} tables")
        return _Tables(self, vector)

    def vector(self, field: int, itemsize: int) -> Vector:
        """Return where the elements of a vector lie; an empty one where the field is not stated."""
        place = self._target(field)
        if not place:
            return Vector(0, 0)
        [count] = self._unpack(_OFFSET, place)
        self._inside(place + 4, count * itemsize)
        return Vector(place + 4, count)

    def numbers(self, field: int, dtype: str, most: int = 64) -> list[int]:
        """Return the numbers of a short vector.

        Raises:
          WeightsError: there are more than `most`.
        """
        vector = self.vector(field, np.dtype(dtype).itemsize)
        if vector.count > most:
            raise WeightsError(f"{self.where} is corrupt: {vector.count:,} numbers where at most {most} belong")
        return np.frombuffer(self.data, dtype, vector.count, vector.start).tolist()

    def text(self, field: int) -> str:
        """Return a string, empty where the field is not stated.

        Raises:
          WeightsError: it is longer than MAX_TEXT bytes, or is not UTF-8.
        """
        vector = self.vector(field, 1)
        raw = bytes(self.data[vector.start : vector.start + min(vector.count, MAX_TEXT + 1)])
        try:
            if len(raw) <= MAX_TEXT:
                return raw.decode()
        except UnicodeDecodeError:
            pass
        raise WeightsError(f"{self.where} is corrupt: {raw[:40]!r} is not UTF-8, or longer than {MAX_TEXT:,} bytes")

    def _place(self, field: int, size: int) -> int:
        """Return where the value of a field of `size` bytes lies; 0 where it is not stated."""
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_size:
            return 0
        start = int.from_bytes(self.data[self._vtable + entry : self._vtable + entry + 2], "little")
        if start + size > self._size:
            raise WeightsError(f"{self.where} is corrupt: a field lies outside of its table at byte {self.position:,}")
        return self.position + start if start else 0

    def _target(self, field: int) -> int:
        place = self._place(field, 4)
        return _followed(self, place) if place else 0

    def _unpack(self, form: struct.Struct, place: int) -> tuple[int, ...]:
        self._inside(place, form.size)
        return form.unpack_from(self.data, place)

    def _inside(self, start: int, size: int) -> None:
        if start < 0 or start + size > len(self.data):
            raise WeightsError(
                f"{self.where} is cut short or corrupt: {size:,} bytes at {start:,} go beyond the end of the file "
                f"({len(self.data):,} bytes)"
            )


class _Tables(Sequence[Table]):
    """The tables of a vector."""

    def __init__(self, owner: Table, vector: Vector) -> None:
        self._owner = owner
        self._vector = vector

    def __len__(self) -> int:
        return self._vector.count

    def __getitem__(self, index: int) -> Table:  # type: ignore[override]
        if not 0 <= index < self._vector.count:
            raise IndexError(index)
        owner = self._owner
        return Table(owner.data, _followed(owner, self._vector.start + 4 * index), owner.where)

    def __iter__(self) -> Iterator[Table]:
        return (self[index] for index in range(len(self)))


def root(data: memoryview, where: str) -> Table:
    """Return the first table of a FlatBuffer.

    Args:
      data: the whole file.
      where: the file, for error messages.

    Raises:
      WeightsError: it goes beyond the file.
    """
    return Table(data, int.from_bytes(data[:4], "little"), where)


def _followed(table: Table, place: int) -> int:
    return place + table._unpack(_OFFSET, place)[0]
