"""MATLAB's files of version 7.3: HDF5, with the elements of cells behind references.

Source: no document of The MathWorks; files that MATLAB wrote, and hdf5storage/Marshallers.py, which lists what MATLAB
notes in attributes: MATLAB_class, MATLAB_empty, MATLAB_int_decode, MATLAB_object_decode, MATLAB_sparse.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from tfxfer.formats import hdf5
from tfxfer.formats.mat5 import MAX_DEPTH, MAX_TEXT, Limits, Value
from tfxfer.formats.tensors import Tensor, unreadable

_NUMBERS = {"double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_KNOWN = {"", "cell", "struct", "char", "logical", *_NUMBERS}  # the empty one is what other programs write


def variables(data: np.ndarray, where: str) -> dict[str, Value]:
    """List the variables of a file by name, as `mat5.variables` does.

    Dimensions come in the order of MATLAB: in the file they stand the other way round.

    Raises:
      WeightsError: the file is cut short or corrupt.
    """
    root = hdf5.root(data, where)
    walk = _Walk(root)
    return {name: walk.linked(root, name, ()) for name in root.links if not name.startswith("#")}


class _Walk:
    """Makes values of objects, each once, however many references lead to it."""

    def __init__(self, root: hdf5.Object) -> None:
        self._file = root.file
        self._made: dict[int, Value] = {}
        self._limits = Limits(len(root.file.data))

    def linked(self, group: hdf5.Object, name: str, above: tuple[int, ...]) -> Value:
        """Return the value that a link of a group leads to; `above` are the addresses that lead to the group."""
        link = group.links[name]
        if isinstance(link, str):
            return group.child(name).tensor
        return self._at(link, f"{group.path}/{name}".lstrip("/"), above)

    def _at(self, address: int, path: str, above: tuple[int, ...]) -> Value:
        place = f"{self._file.where}: {path}"
        if address in self._made:
            return self._made[address]
        if address in above:
            return unreadable(f"{place} refers to what it lies in")
        if len(above) == MAX_DEPTH:
            return unreadable(f"{place} lies in more than {MAX_DEPTH} cells and structs; it is not read")
        if not 0 < address < len(self._file.data):
            return unreadable(f"{place} refers to nothing: the file has no object at byte {address:,}")
        self._limits.value(path, self._file.where)
        value = self._made[address] = self._value(hdf5.Object(self._file, address, path), (*above, address))
        return value

    def _value(self, item: hdf5.Object, above: tuple[int, ...]) -> Value:
        place, kind = f"{self._file.where}: {item.path}", next(iter(item.texts("MATLAB_class") or ()), "")
        if kind not in _KNOWN or item.has("MATLAB_object_decode") or item.has("MATLAB_sparse"):
            words = "a sparse matrix" if item.has("MATLAB_sparse") else f"of MATLAB's class {kind!r}"
            return unreadable(f"{place} is {words}, which is not an array of numbers")
        if item.number("MATLAB_empty"):
            return "" if kind == "char" else None
        if not item.is_dataset:
            return self._struct(item, kind, above)
        if item.references is not None:
            return [self._at(address, f"{item.path}/{index}", above) for index, address in enumerate(item.references)]
        return _text(item.tensor) if kind == "char" else _array(item.tensor, kind == "logical")

    def _struct(self, group: hdf5.Object, kind: str, above: tuple[int, ...]) -> Value:
        if kind == "struct" and group.links and all(_is_column(group, name) for name in group.links):
            return self._structs(group, above)
        return {name: self.linked(group, name, above) for name in group.links}

    def _structs(self, group: hdf5.Object, above: tuple[int, ...]) -> Value:
        # An array of structs: of each field a dataset of references, one for each struct.
        columns = {name: group.child(name).references or [] for name in group.links}
        count = max(map(len, columns.values()))
        return [
            {
                name: self._at(column[index], f"{group.path}/{index}/{name}", above)
                for name, column in columns.items()
                if index < len(column)
            }
            for index in range(count)
        ]


def _is_column(group: hdf5.Object, name: str) -> bool:
    # A field that is a cell has references too, and says so.
    child = group.child(name)
    return child.references is not None and not child.has("MATLAB_class")


def _text(tensor: Tensor) -> str | None:
    # One number for each character, in a column since dimensions stand the other way round.
    if tensor.fault or tensor.nbytes > MAX_TEXT or tensor.dtype.kind != "u" or tensor.shape[1:] not in ((), (1,)):
        return None
    codec = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}.get(tensor.dtype.itemsize, "latin-1")
    return tensor.read().astype(tensor.dtype.newbyteorder("<")).tobytes().decode(codec, "replace")


def _array(tensor: Tensor, logical: bool) -> Tensor | None:
    if not math.prod(tensor.shape):
        return None
    if tensor.fault:
        return dataclasses.replace(tensor, shape=tensor.shape[::-1])
    dtype = np.dtype(bool) if logical else tensor.dtype
    flat = sum(size > 1 for size in tensor.shape) < 2 and not logical
    return Tensor(tensor.shape[::-1], dtype, functools.partial(_turned, tensor, dtype), tensor.stream if flat else None)


def _turned(tensor: Tensor, dtype: np.dtype) -> np.ndarray:
    return tensor.read().T.astype(dtype, copy=False)
