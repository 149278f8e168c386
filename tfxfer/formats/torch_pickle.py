"""The pickles of PyTorch, on the machine that builds data and calls nothing.

The bytes of the tensors are not in the pickle: it names storages by persistent ids. What is built of a tensor is where
it lies in its storage; of a module, its state as data.

Source: PyTorch 2.13, torch/serialization.py (`_save`, `_legacy_save`, `_load`, `_legacy_load`) for the persistent ids
and for what follows the pickle in the old form; torch/_utils.py and torch/_tensor.py (`_rebuild_*`) for the arguments
of the functions; torch/csrc/Module.cpp and torch/storage.py for the names of dtypes and storages.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import ml_dtypes
import numpy as np

from tfxfer.formats import pickle_parser
from tfxfer.formats.pickle_parser import Function, Key, Odd, Raw
from tfxfer.formats.reading import Cursor

MAX_OPCODES = 400_000  # a tensor takes about 30, and an optimizer has two more for each

# The magic number 0x1950a86a20f9469cfc6c, pickled: what a file of the old form begins with.
_OLD = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)

_DTYPES: dict[str, Any] = {
    "uint8": np.uint8,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
}
# What NumPy has no dtype for, and the bytes of an element.
_FOREIGN = {"complex32": 4, "qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1, "float4_e2m1fn_x2": 1}
_STORAGES = {
    "Byte": "uint8",
    "Char": "int8",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Half": "float16",
    "Float": "float32",
    "Double": "float64",
    "BFloat16": "bfloat16",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "ComplexHalf": "complex32",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
    "Untyped": "uint8",
    "_Untyped": "uint8",
}
_REBUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_ODD = {
    "_rebuild_sparse_tensor": "a sparse tensor; make it dense by `to_dense()` and save it again",
    "_rebuild_sparse_csr_tensor": "a sparse tensor; make it dense by `to_dense()` and save it again",
    "_rebuild_nested_tensor": "a nested tensor; save what its `unbind()` gives",
    "_rebuild_qtensor": "a quantized tensor; save what its `dequantize()` gives",
    "_rebuild_meta_tensor_no_storage": "a tensor on the device `meta`, which has no values",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device; save what its `cpu()` gives",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device; save what its `cpu()` gives",
    "_rebuild_wrapper_subclass": "a tensor of a class without a storage; save what it stands for as a plain tensor",
}


class Kind(NamedTuple):
    """The dtype of a tensor or of a storage: its name, NumPy's dtype or None, the bytes of an element."""

    name: str
    dtype: np.dtype | None
    itemsize: int


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A row of elements outside the pickle, or a part of one.

    Attributes:
      key: its name.
      kind: the dtype of its elements.
      total: the elements of the whole.
      start, count: the part, in elements.
    """

    key: str
    kind: Kind
    total: int
    start: int
    count: int

    @property
    def nbytes(self) -> int:
        """The bytes of the whole."""
        return self.total * self.kind.itemsize


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Where a tensor lies in a storage: offset and strides in elements of `kind`, none negative."""

    storage: Storage
    kind: Kind
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Module(Odd):
    """A module of TorchScript, whose state holds its tensors and modules by name."""


def begins(head: bytes) -> bool:
    """Say whether the first 32 bytes of a file are those of PyTorch's old form."""
    return _OLD.match(head) is not None


def read_old(data: np.ndarray, where: str) -> tuple[Any, dict[str, np.ndarray]]:
    """Read a file of the old form: three pickles, that of the object, one of the keys, and the storages in their order.

    Args:
      data: uint8 [n], the whole file.
      where: the file, for the error messages.

    Returns:
      What the pickle builds, and the bytes of each storage by its key, as parts of `data`.

    Raises:
      WeightsError: the file is cut short or corrupt, or its pickle wants more than the machine does.
    """
    cursor = Cursor(data.data, where)
    for _ in ("the magic number", "the version of the protocol", "facts about the machine that wrote"):
        TorchMachine(cursor).run()
    machine = TorchMachine(cursor)
    root = machine.run()
    keys = TorchMachine(cursor).run()
    storages: dict[str, np.ndarray] = {}
    for key in map(machine.text, keys if isinstance(keys, list) else ()):
        storage = machine.storages.get(key)
        if storage is None or key in storages or cursor.number(8) != storage.total:
            raise machine.fail(f"storage {key!r} is not the one that the pickle announces")
        start = cursor.position
        cursor.take(storage.nbytes)
        storages[key] = data[start : cursor.position]
    return root, storages


class TorchMachine(pickle_parser.Machine):
    """The machine with what tensors consist of.

    Attributes:
      storages: what the pickle says of each storage, by its key.
    """

    opcodes: ClassVar[Mapping[bytes, Callable[[Any], object]]] = {
        **pickle_parser.Machine.opcodes,
        b"Q": lambda m: m.persistent(),
    }
    known: ClassVar[Mapping[tuple[str, str], str]] = {
        **pickle_parser.Machine.known,
        **{("torch._utils", name): name for name in (*_REBUILDERS, *_PARAMETERS)},
        **{(module, "_rebuild_from_type_v2"): "_rebuild_from_type" for module in ("torch._tensor", "torch.tensor")},
        **{(module, "_rebuild_from_type"): "_rebuild_from_type" for module in ("torch._tensor", "torch.tensor")},
        ("torch", "Size"): "Size",
        ("torch", "Tensor"): "Tensor",
        ("torch.nn.parameter", "Parameter"): "Tensor",
        ("torch.nn.parameter", "Buffer"): "Tensor",
    }
    most_opcodes: ClassVar[int] = MAX_OPCODES

    def __init__(self, cursor: Cursor) -> None:
        """Start at the first opcode, which `cursor` is before."""
        super().__init__(cursor)
        self.storages: dict[str, Storage] = {}

    def function(self, module: str, name: str) -> None:
        """Push a dtype, a class of storages, or what the machine below knows."""
        kind = _kind(module, name)
        if kind is not None:
            self.push(kind)
        elif module == "torch._utils" and name in _ODD:
            self.push(Odd(_ODD[name]))
        elif module.split(".")[0] == "__torch__":
            self.push(Module("an object of a class of TorchScript"))
        else:
            super().function(module, name)

    def persistent(self) -> None:
        """Push the storage, or the class of a module, that a persistent id names."""
        match self.pop():
            case (Raw() as word, _, *_) as parts if self.text(word) in ("storage", "module"):
                self.push(self._storage(parts) if self.text(word) == "storage" else parts[1])
            case _:
                raise self.fail("a persistent id that names no storage")

    def _storage(self, parts: tuple[Any, ...]) -> Storage | Odd:
        match parts[1:]:
            case (Odd() as odd, *_):
                return odd
            case (Kind() as kind, Raw() as name, _, int() as count, *view) if count >= 0:
                key = self.text(name)
            case _:
                raise self.fail("the persistent id of a storage is malformed")
        whole = Storage(key, kind, count, 0, count)
        if self.storages.setdefault(key, whole).nbytes != whole.nbytes:
            raise self.fail(f"storage {key!r} has {self.storages[key].nbytes:,} bytes, and then {whole.nbytes:,}")
        match view:
            case [] | [None]:
                return whole
            case [(Raw(), int() as start, int() as size)] if start >= 0 and size >= 0 and start + size <= count:
                return dataclasses.replace(whole, start=start, count=size)
        raise self.fail(f"a part of storage {key!r} does not lie in it")

    def called(self, name: str, arguments: object) -> object:
        """Return what PyTorch's functions would make of their arguments, or those that the machine below knows."""
        match name, arguments:
            case "Size", (tuple() as sizes,):
                return sizes
            case "_rebuild_tensor" | "_rebuild_tensor_v2", (Storage() as storage, offset, shape, strides, *more):
                return self._view(storage, storage.kind, (offset, shape, strides), more[2:])
            case "_rebuild_tensor_v3", (Storage(), _, _, _, _, _, Odd() as odd, *_):
                return odd
            case "_rebuild_tensor_v3", (Storage() as storage, offset, shape, strides, _, _, Kind() as kind, *more):
                return self._view(storage, kind, (offset, shape, strides), more)
            case "_rebuild_parameter" | "_rebuild_parameter_with_state", (View() as view, *_):
                return view
            case "_rebuild_from_type", (Function() as inner, Function("Tensor"), tuple() as inside, _) if (
                inner.name in _REBUILDERS + _PARAMETERS
            ):
                return self.called(inner.name, inside)
            case "_rebuild_from_type", (Odd() as odd, *_) | (_, Odd() as odd, *_):
                return odd
        return super().called(name, arguments)

    def _view(self, storage: Storage, kind: Kind, place: tuple[Any, Any, Any], metadata: list[Any]) -> View | Odd:
        offset, shape, strides = place
        if not (_counts((offset,)) and _counts(shape) and _counts(strides) and len(shape) == len(strides)):
            raise self.fail("the offset, the shape or the strides of a tensor are negative or malformed")
        if any(metadata):
            return Odd("a view that conjugates or negates; save what its `resolve_conj().resolve_neg()` gives")
        return View(storage, kind, offset, shape, strides)


def _counts(values: object) -> bool:
    return type(values) is tuple and all(type(value) is int and value >= 0 for value in values)


def _kind(module: str, name: str) -> Kind | None:
    """Return the dtype or the class of storages that a name stands for; None where it is neither."""
    if name.endswith("Storage") and module in ("torch", "torch.cuda", "torch.storage"):
        name = _STORAGES.get(name.removesuffix("Storage"), "")
    elif module != "torch":
        return None
    if name in _DTYPES:
        return Kind(name, np.dtype(_DTYPES[name]), np.dtype(_DTYPES[name]).itemsize)
    return Kind(name, None, _FOREIGN[name]) if name in _FOREIGN else None


def parts_of(value: object) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the tensors of a module, and the modules in it, by name; None of what is not a module.

    A module of `torch.nn` keeps them in `_parameters`, `_buffers` and `_modules`, one of TorchScript side by side.
    """
    state = value.state if isinstance(value, Odd) else None
    if not isinstance(state, dict):
        return None
    if isinstance(value, Module):
        return _of_type(state, View), _of_type(state, Module)
    inside = [state.get(Key("str", name)) for name in ("_parameters", "_buffers", "_modules")]
    if not all(isinstance(part, dict) for part in inside):
        return None
    parameters, buffers, modules = inside
    return {**_of_type(parameters, object), **_of_type(buffers, object)}, _of_type(modules, Odd)


def _of_type(state: Any, kind: type) -> dict[str, Any]:
    return {key.text: value for key, value in state.items() if isinstance(value, kind) and value is not None}
