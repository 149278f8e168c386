"""Large protocol buffers: told by their first fields, walked up to a limit, their numbers left in the file.

A repeated field of numbers is packed (all in one field) or not (a field for each), and a reader has to take both, also
mixed: protobuf.dev/programming-guides/encoding, "Packed Repeated Fields".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, protobuf, reading
from tfxfer.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field
from tfxfer.formats.tensors import Tensor

MAX_FIELDS = 600_000  # of a whole file; a second of work at most
MAX_LISTED = 100_000  # of one message whose fields are kept, at 250 bytes each
Numbers = Sequence[Any]  # the values of one repeated field: memoryviews of packed ones, ints of others


def outline(data: protobuf.Bytes, most: int = 1000) -> dict[int, Any]:
    """Return the first value of each tag among the first fields of what may be a message, to tell what it is.

    It ends where the bytes are not a field. A field that goes beyond their end is there as far as it goes, so that a
    file that is cut short can be told too.
    """
    values: dict[int, Any] = {}
    position = 0
    try:
        for _ in range(most):
            key, position = protobuf.varint(data, position, "")
            number = 0
            if key & 7 in (VARINT, BYTES):
                number, position = protobuf.varint(data, position, "")
            size = {VARINT: 0, BYTES: number, FIXED32: 4, FIXED64: 8}[key & 7]
            values.setdefault(key, data[position : position + size] if key & 7 == BYTES else number)
            position += size
    except (WeightsError, KeyError):
        pass
    return values


class Walk:
    """A walk over the messages of one file, which ends with an error where there are too many fields in all."""

    def __init__(self, where: str) -> None:
        """Start; `where` names the file in the error messages."""
        self.where = where
        self._left = MAX_FIELDS

    def fields(self, message: protobuf.Bytes) -> Iterator[Field]:
        """Split a message as `protobuf.scan` does.

        Raises:
          WeightsError: the bytes are not a message, or those of the file hold more fields than the limit.
        """
        for field in protobuf.scan(message, self.where):
            self._left -= 1
            if self._left < 0:
                raise WeightsError(f"{self.where} is refused: its messages hold more than {MAX_FIELDS:,} fields")
            yield field

    def listed(self, message: protobuf.Bytes) -> list[Field]:
        """Split a message whose fields are kept.

        Raises:
          WeightsError: as `fields`, or the message holds more than MAX_LISTED.
        """
        fields = list(itertools.islice(self.fields(message), MAX_LISTED + 1))
        if len(fields) > MAX_LISTED:
            raise WeightsError(f"{self.where} is refused: a message of it holds more than {MAX_LISTED:,} fields")
        return fields


def numbers(message: Iterable[Field], field: int, wire: int) -> Numbers:
    """Return the values of one repeated field of numbers, packed or not, in the order of the file."""
    return [value for key, value in message if key >> 3 == field and key & 7 in (wire, BYTES)]


def integers(numbers: Numbers, where: str, most: int = 64) -> tuple[int, ...]:
    """Return a few varints as signed ints, such as the dimensions of a shape.

    Raises:
      WeightsError: there are more than `most` bytes of packed ones or ints of others for that, or they are corrupt.
    """
    values: list[int] = []
    for piece in numbers:
        position = 0
        while not isinstance(piece, int) and position < len(piece) and len(values) <= most:
            value, position = protobuf.varint(piece, position, where)
            values.append(protobuf.signed(value))
        values += [protobuf.signed(piece)] if isinstance(piece, int) else []
        if len(values) > most:
            raise WeightsError(f"{where}: a shape of more than {most} dimensions is none that numpy can hold")
    return tuple(values)


def size(numbers: Numbers, width: int) -> int:
    """Return how many bytes numbers of `width` bytes each take; of packed ones what they take, whatever they are."""
    return sum(width if isinstance(piece, int) else len(piece) for piece in numbers)


def place(data: np.ndarray, view: memoryview) -> int:
    """Return at which byte of `data` a view of it begins."""
    address = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address - data.__array_interface__["data"][0] if len(view) else 0


def plain(
    data: np.ndarray, numbers: Numbers, dtype: np.dtype, shape: tuple[int, ...], where: str, *, width: int
) -> Tensor:
    """Describe numbers of a fixed size as an array that is not read yet.

    Args:
      data: uint8 [n], the file, of which the packed numbers are views.
      numbers: as `numbers` gives them; `size` of them has to be what the array takes.
      dtype: little-endian, of the array; of a complex one an element takes two of the numbers.
      shape: of the array.
      where: the file and the array in it, for the error messages.
      width: how many bytes each number takes.
    """
    if len(numbers) == 1 and not isinstance(numbers[0], int):
        return reading.tensor(data, place(data, numbers[0]), dtype, shape, where)
    pieces = [np.array(run, f"<u{width}").view(np.uint8) if isinstance(run, list) else run for run in _runs(numbers)]

    def read() -> np.ndarray:
        joined, position = buffers.aligned((size(numbers, width),), np.dtype(np.uint8)), 0
        for piece in pieces:
            raw = piece if isinstance(piece, np.ndarray) else _bytes(data, piece)
            buffers.copied(raw, joined[position : position + len(raw)])
            position += len(raw)
        return reading.array(joined, 0, dtype, shape, where)

    return Tensor(shape, dtype.newbyteorder("="), read)


def varints(data: np.ndarray, numbers: Numbers, dtype: np.dtype, shape: tuple[int, ...], where: str) -> Tensor:
    """Describe varints as an array that is not read yet; how many there are is seen when it is read.

    Args:
      data: uint8 [n], the file, of which the packed numbers are views.
      numbers: as `numbers` gives them.
      dtype: of the array: integers or booleans, or what has the bits of the integers of its size (bfloat16).
      shape: of the array.
      where: the file and the array in it, for the error messages.
    """

    def read() -> np.ndarray:
        flat, position = buffers.aligned(shape, dtype).reshape(-1), 0
        for piece in _decoded(data, numbers, where):
            if position + len(piece) > len(flat):
                break
            flat[position : position + len(piece)] = _cast(piece, dtype, where)
            position += len(piece)
        else:
            if position == len(flat):
                flat.flags.writeable = False
                return flat.reshape(shape)
        raise WeightsError(f"{where} is corrupt: it does not hold the {len(flat):,} numbers of {dtype} {shape}")

    return Tensor(shape, dtype, read)


def _bytes(data: np.ndarray, view: memoryview) -> np.ndarray:
    start = place(data, view)
    return data[start : start + len(view)]


def _runs(numbers: Numbers) -> Iterator[memoryview | list[int]]:
    run: list[int] = []
    for piece in numbers:
        if isinstance(piece, int):
            run.append(piece)
            continue
        if run:
            yield run
        yield piece
        run = []
    if run:
        yield run


def _decoded(data: np.ndarray, numbers: Numbers, where: str) -> Iterator[np.ndarray]:
    """Yield the numbers as vectors of uint64."""
    for run in _runs(numbers):
        if isinstance(run, list):
            yield np.array(run, np.uint64)
        else:
            yield from unpacked(_bytes(data, run), where)


def unpacked(raw: np.ndarray, where: str) -> Iterator[np.ndarray]:
    """Yield packed varints, uint8 [n], as vectors of uint64, piece by piece.

    Raises:
      WeightsError: a number has more than ten bytes, or the last is not finished.
    """
    rest = np.empty(0, np.uint8)
    for piece in buffers.seen(raw, np.dtype(np.uint8)):
        whole = np.concatenate([rest, piece])
        ends = np.flatnonzero(whole < 128) + 1
        rest = whole[ends[-1] if len(ends) else 0 :]
        lengths = np.diff(ends, prepend=0)
        if max(lengths.max(initial=0), len(rest)) > 10:
            raise WeightsError(f"{where} is corrupt: a number in it is too long")
        yield _joined(whole, ends - lengths, lengths)
    if len(rest):
        raise WeightsError(f"{where} is corrupt: a number in it ends too early")


def _joined(raw: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    values = np.zeros(len(starts), np.uint64)
    for k in range(int(lengths.max(initial=0))):
        longer = lengths > k
        values[longer] |= (raw[starts[longer] + k] & 127).astype(np.uint64) << np.uint64(7 * k)
    return values


def _cast(values: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    """Return uint64 as a dtype: the low bits of what fits, signed or not; true is what is not 0."""
    if dtype == np.bool_:
        return values != 0
    signed, bits = values.view(np.int64), 8 * dtype.itemsize
    low, high = -(1 << (bits - 1)) if dtype.kind != "u" else 0, (1 << bits - (dtype.kind == "i")) - 1
    if bits < 64 and len(values) and not low <= int(signed.min()) <= int(signed.max()) <= high:
        raise WeightsError(f"{where} is corrupt: {int(signed.min())} or {int(signed.max())} does not fit into {dtype}")
    return values.astype(f"u{dtype.itemsize}").view(dtype)


def take(total: int, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Say what is wrong if `total` bytes are not what an array takes; the empty string where they are."""
    wanted = math.prod(shape) * dtype.itemsize
    return "" if total == wanted else f"{dtype} {shape} takes {wanted:,} bytes, the file holds {total:,}"
