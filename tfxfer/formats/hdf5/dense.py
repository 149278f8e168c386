"""Links and attributes of objects that have many: a B-tree of version 2 over a fractal heap."""

from __future__ import annotations

from collections.abc import Iterator

from tfxfer.errors import WeightsError
from tfxfer.formats.hdf5.file import MAX_DEPTH, UNDEFINED, File
from tfxfer.formats.reading import Cursor

# Where the ID of the heap object stands in a record of a B-tree: links by name, attributes by name (III.A.2).
_ID_AT = {5: 4, 8: 0}


def records(file: File, heap_address: int, tree_address: int) -> Iterator[Cursor]:
    """Yield the messages that a heap holds, in the order of the B-tree that lists them.

    Raises:
      WeightsError: either is corrupt, or a message is too large for the heap proper.
    """
    if heap_address == UNDEFINED:
        return
    heap = Heap(file, heap_address)
    for record, kind in _tree(file, tree_address):
        yield Cursor(heap.get(Cursor(record, file.where, _ID_AT[kind])), file.where)


def _tree(file: File, address: int) -> Iterator[tuple[memoryview, int]]:
    # III.A.2. How many bytes a count takes depends on how many records a node can hold.
    cursor = file.cursor(address, b"BTHD")
    _, kind, node_size, size, depth = (cursor.number(width) for width in (1, 1, 4, 2, 2))
    cursor.take(2)
    root, count = cursor.number(8), cursor.number(2)
    if kind not in _ID_AT or depth > MAX_DEPTH or not 11 <= size <= node_size:
        raise file.corrupt("an index is damaged")
    most = (node_size - 10) // size
    count_size, total, pointers = _width(most), most, []
    for level in range(depth):
        pointers.append(8 + count_size + (_width(total) if level else 0))
        most = (node_size - 10 - pointers[-1]) // (size + pointers[-1])
        total = (most + 1) * total + most
    yield from _node(file, (root, count), (kind, size, count_size), pointers)


def _node(
    file: File, node: tuple[int, int], sizes: tuple[int, int, int], pointers: list[int]
) -> Iterator[tuple[memoryview, int]]:
    (address, count), (kind, size, count_size) = node, sizes
    cursor = file.cursor(address, b"BTIN" if pointers else b"BTLF")
    cursor.take(2)
    for _ in range(count):
        file.step()
        yield cursor.take(size), kind
    for _ in range(count + 1 if pointers else 0):
        pointer = Cursor(cursor.take(pointers[-1]), file.where)
        yield from _node(file, (pointer.number(8), pointer.number(count_size)), sizes, pointers[:-1])


def _width(limit: int) -> int:
    # The bytes that HDF5 gives to a number up to this limit.
    return max(limit.bit_length() + 7, 8) // 8


class Heap:
    """A fractal heap (III.G): blocks whose sizes double from row to row of a table, in which objects have an offset."""

    def __init__(self, file: File, address: int) -> None:
        """Read its header."""
        self.file = file
        cursor = file.cursor(address, b"FRHP")
        _, _, filters, _, max_object = (cursor.number(width) for width in (1, 2, 2, 1, 4))
        cursor.take(96)
        self.columns, self.first, self.largest = cursor.number(2), cursor.number(8), cursor.number(8)
        bits, _, self.root, self.rows = (cursor.number(width) for width in (2, 2, 8, 2))
        if filters or not self.columns or not self.first or bits > 64:
            raise file.corrupt("a heap is damaged, or compressed")
        self.offset_size = (bits + 7) // 8
        self.length_size = min(_width(self.largest), _width(max_object))

    def get(self, identity: Cursor) -> memoryview:
        """Return an object by the ID that stands at the cursor.

        Raises:
          WeightsError: the heap has no such object, or it lies outside of the heap because of its size.
        """
        if identity.number(1) & 0x30:
            raise WeightsError(
                f"{self.file.where}: an attribute larger than its heap takes is not read; "
                "write the file anew with h5py's File(..., libver='earliest')"
            )
        offset, length = identity.number(self.offset_size), identity.number(self.length_size)
        address, start = self._block(self.root, self.rows, 0, offset, 0)
        cursor = self.file.cursor(address, b"FHDB")
        return Cursor(cursor.data, self.file.where, address + offset - start).take(length)

    def _block(self, address: int, rows: int, start: int, offset: int, depth: int) -> tuple[int, int]:
        # Find the address and the first offset of the direct block that holds an offset.
        if not rows:
            return address, start
        cursor = self.file.cursor(address, b"FHIB")
        cursor.take(9 + self.offset_size)
        size = self.first
        for row in range(rows if depth < MAX_DEPTH else 0):
            self.file.step()
            if row > 1:
                size *= 2
            if offset < start + self.columns * size:
                column = (offset - start) // size
                cursor.take(8 * column)
                below = 0 if size <= self.largest else self._rows(size)
                return self._block(cursor.number(8), below, start + column * size, offset, depth + 1)
            start += self.columns * size
            cursor.take(8 * self.columns)
        raise self.file.corrupt("an object is not in its heap")

    def _rows(self, size: int) -> int:
        # The rows of an indirect block that covers `size` bytes.
        return (size // (self.columns * self.first)).bit_length()
