"""Groups and datasets."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.hdf5 import chunks, dense, groups, headers, types
from tfxfer.formats.hdf5.file import UNDEFINED, File
from tfxfer.formats.reading import Cursor
from tfxfer.formats.tensors import Tensor, shape_fault, unreadable
from tfxfer.names import by_number

_DATASPACE, _LINK_INFO, _DATATYPE, _FILL, _LINK, _EXTERNAL = 0x01, 0x02, 0x03, 0x05, 0x06, 0x07
_LAYOUT, _FILTERS, _ATTRIBUTE, _SYMBOLS, _ATTRIBUTES = 0x08, 0x0B, 0x0C, 0x11, 0x15
_COMPACT, _CHUNKED = 0, 2
MAX_DEPTH = 32  # of groups
MAX_REFERENCES = 100_000  # in one dataset


def root(data: np.ndarray, where: str) -> Object:
    """Open the first group of a file.

    Args:
      data: uint8 [n], the whole file.
      where: the file, for the error messages.

    Raises:
      WeightsError: it is not an HDF5 file, is cut short, or corrupt.
    """
    file = File(data, where)
    return Object(file, file.root, "")


def in_order(group: Object) -> list[Object]:
    """List all arrays under a group by their paths, `layer_10` behind `layer_9`."""
    return sorted(group.datasets(), key=lambda dataset: by_number(dataset.path))


def named(found: Iterable[tuple[str, Object]]) -> dict[str, Tensor]:
    """Describe arrays under the names that they are given, or under their paths where several are given one name."""
    pairs = list(found)
    count = Counter(name for name, _ in pairs)
    unique = len(count) == len(pairs)
    return {name if unique or count[name] == 1 else dataset.path: dataset.tensor for name, dataset in pairs}


class Object:
    """A group or a dataset, by the address of its header.

    Attributes:
      path: the names that lead there, without a slash before the first.
    """

    def __init__(self, file: File, address: int, path: str) -> None:
        """Read the header (IV.A)."""
        self.file = file
        self.path = path
        self._messages = list(headers.messages(file, address))
        self._trail: list[tuple[str, Object]] = []  # where the path led that was asked for last

    @functools.cached_property
    def links(self) -> dict[str, int | str]:
        """What the group holds: the address of each object by its name, or in words a link to somewhere else."""
        found: dict[str, int | str] = {}
        for message in self._messages:
            body = self.file.part(message.start, message.end)
            if message.kind == _SYMBOLS:
                found.update(groups.symbols(self.file, body))
            elif message.kind == _LINK:
                found.update([groups.link(self.file, body)])
            elif message.kind == _LINK_INFO:
                found.update(groups.dense(self.file, body))
        return found

    def __contains__(self, name: str) -> bool:
        return name in self.links

    def child(self, name: str) -> Object:
        """Open what a link of this group leads to.

        Raises:
          WeightsError: the group has no such link.
        """
        path = f"{self.path}/{name}".lstrip("/")
        link = self.links.get(name)
        if link is None:
            raise self.file.corrupt(f"it should hold {path}, which does not exist")
        return Elsewhere(self.file, link, path) if isinstance(link, str) else Object(self.file, link, path)

    def __getitem__(self, path: str) -> Object:
        """Open what a path of names, relative to this group, leads to; see `child`.

        Paths that begin alike are best asked for one after the other: what they share is read once.
        """
        trail, found = iter(self._trail), self
        self._trail = []
        for name in filter(None, path.split("/")):
            known, again = next(trail, ("", self))
            if known != name:
                trail = iter(())
            found = again if known == name else found.child(name)
            self._trail.append((name, found))
        return found

    def datasets(self) -> Iterator[Object]:
        """Walk through all arrays under this group, in the order of the file.

        A link to another place or file is listed too, and refuses to be read.

        Raises:
          WeightsError: groups are nested too deep or hold one another.
        """
        return _datasets(self, ())

    @property
    def is_dataset(self) -> bool:
        """Whether it is an array and no group."""
        return any(message.kind == _LAYOUT for message in self._messages)

    def has(self, attribute: str) -> bool:
        """Say whether there is an attribute of this name."""
        return attribute in self._attributes

    def number(self, attribute: str) -> int:
        """Return an attribute of one whole number; 0 where there is none of this name, or it is something else."""
        message = self._attribute(attribute)
        return types.attribute_number(message) if message else 0

    def texts(self, attribute: str) -> list[str] | None:
        """Return the texts of an attribute, one or many; None where there is none of this name, or it is not text."""
        message = self._attribute(attribute)
        return types.attribute_texts(self.file, message) if message else None

    @functools.cached_property
    def references(self) -> list[int] | None:
        """The addresses that a dataset of references to objects holds, in order; None where it is something else.

        Raises:
          WeightsError: they are not all in the file, or more than MAX_REFERENCES.
        """
        if not self.is_dataset or not types.is_reference(self._body(_DATATYPE)):
            return None
        shape, place = types.dataspace(self._body(_DATASPACE)), f"{self.file.where}: {self.path}"
        if math.prod(shape) > MAX_REFERENCES:
            raise WeightsError(f"{place} is hostile: it holds more than {MAX_REFERENCES:,} references")
        return [int(address) for address in self._stored(shape, np.dtype("<u8"), place).read().flat]

    @functools.cached_property
    def tensor(self) -> Tensor:
        """The dataset as a tensor; one of anything but numbers is listed with dtype object and refuses to be read.

        Raises:
          WeightsError: its header is corrupt, or its bytes are not all in the file.
        """
        place = f"{self.file.where}: {self.path}"
        shape = types.dataspace(self._body(_DATASPACE))
        if fault := shape_fault(shape):
            raise WeightsError(f"{place}: {fault}")
        dtype = types.datatype(self._body(_DATATYPE), bfloat16=self.texts("dtype") == ["bfloat16"])
        if isinstance(dtype, str):
            return unreadable(f"{place} holds {dtype}, which tfxfer does not read", shape)
        if any(message.kind == _EXTERNAL for message in self._messages):
            return unreadable(f"{place} is refused: its values lie in another file", shape)
        return self._stored(shape, dtype, place)

    def _stored(self, shape: tuple[int, ...], dtype: np.dtype, place: str) -> Tensor:
        # IV.A.2.i, the data layout. Version 4 differs from 3 for chunks alone.
        layout, native = self._body(_LAYOUT), dtype.newbyteorder("=")
        version, kind = layout.number(1), layout.number(1)
        if (version, kind) not in {(3, 0), (3, 1), (3, 2), (4, 0), (4, 1)}:
            return unreadable(
                f"{place} is stored in a way (version {version}, class {kind}) that tfxfer does not "
                "read; write it anew with h5py's File(..., libver='earliest')",
                shape,
            )
        if kind == _CHUNKED:
            return chunks.tensor(self.file, layout, (shape, dtype), self._filters(), self._fill(dtype), place)
        if kind == _COMPACT:
            values = np.frombuffer(layout.take(layout.number(2)), np.uint8)
            address, stored = 0, len(values)
        else:
            values, address, stored = self.file.data, layout.number(8), layout.number(8)
        if address == UNDEFINED:  # never written
            fill = self._fill(dtype)
            return reading.repeated(lambda: np.full(1, fill, native), native, shape)
        size = math.prod(shape) * dtype.itemsize
        if stored < size or address + stored > len(values):
            there = max(0, min(stored, len(values) - address))
            raise WeightsError(
                f"{place} is cut short or corrupt: {dtype} {shape} takes {size:,} bytes, of which the file "
                f"holds {there:,}"
            )
        return reading.tensor(values, address, dtype, shape, place)

    def _fill(self, dtype: np.dtype) -> np.ndarray:
        # IV.A.2.f, the value of elements that were never written.
        for message in self._messages:
            if message.kind == _FILL:
                cursor = self.file.part(message.start, message.end)
                version, flags = cursor.number(1), cursor.number(1)
                cursor.take(0 if version == 3 else 1)
                defined = flags & 0x20 if version == 3 else cursor.number(1)
                size = cursor.number(4) if defined else 0
                if size == dtype.itemsize:
                    return np.frombuffer(cursor.take(size), dtype)[0]
        return np.zeros((), dtype)

    def _filters(self) -> list[int]:
        # IV.A.2.l, the filter pipeline: of each filter the number, flags, a name and some values.
        if not any(message.kind == _FILTERS for message in self._messages):
            return []
        cursor, found = self._body(_FILTERS), []
        first, count = cursor.number(1) == 1, cursor.number(1)
        cursor.take(6 if first else 0)
        for _ in range(count):
            found.append(cursor.number(2))
            name = cursor.number(2) if first or found[-1] >= 256 else 0
            _, values = cursor.number(2), cursor.number(2)
            cursor.take((name + 7) & ~7 if first else name)
            cursor.take(4 * (values + values % 2 if first else values))
        return found

    def _body(self, kind: int) -> Cursor:
        message = next((message for message in self._messages if message.kind == kind), None)
        if message is None:
            raise self.file.corrupt(f"the header of {self.path} lacks a message of type {kind}")
        return headers.body(self.file, message)

    def _attribute(self, name: str) -> Cursor | None:
        message = self._attributes.get(name)
        return Cursor(message.data, message.where, message.position) if message else None

    @functools.cached_property
    def _attributes(self) -> dict[str, Cursor]:
        found: dict[str, Cursor] = {}
        for message in self._attribute_messages():
            start = Cursor(message.data, message.where, message.position)
            found.setdefault(types.attribute_name(self.file, message), start)
        return found

    def _attribute_messages(self) -> Iterator[Cursor]:
        for message in self._messages:
            if message.kind == _ATTRIBUTE:
                yield self.file.part(message.start, message.end)
            elif message.kind == _ATTRIBUTES:
                body = self.file.part(message.start, message.end)
                body.take(1)
                body.take(2 if body.number(1) & 1 else 0)
                yield from dense.records(self.file, body.number(8), body.number(8))


class Elsewhere(Object):
    """A link to another place or file, which is not followed: it is listed as an array that is not read."""

    def __init__(self, file: File, words: str, path: str) -> None:
        """Note in words what the link is."""
        self.file = file
        self.path = path
        self._messages = []
        self._trail = []
        self._words = words

    @property
    def is_dataset(self) -> bool:
        """True, whatever the link leads to."""
        return True

    @functools.cached_property
    def references(self) -> list[int] | None:
        """None, whatever the link leads to."""
        return None

    @functools.cached_property
    def tensor(self) -> Tensor:
        """A tensor that refuses to be read."""
        return unreadable(f"{self.file.where}: {self.path} is {self._words}; only what the file itself holds is read")


def _datasets(group: Object, above: tuple[int | str, ...]) -> Iterator[Object]:
    # A group may have several names, and what is in it then has several too; none may lie within itself.
    for name, address in group.links.items():
        child = group.child(name)
        if child.is_dataset:
            yield child
        elif address in above or len(above) == MAX_DEPTH:
            raise group.file.corrupt(
                f"groups hold one another, or are nested more than {MAX_DEPTH} deep, at {child.path}"
            )
        else:
            yield from _datasets(child, (*above, address))
