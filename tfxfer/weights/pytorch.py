"""PyTorch's files: state dicts and checkpoints of training (`.pth`, `.pt`, `.bin`), whole modules, TorchScript.

Two forms, of one kind of pickle: a zip archive (1.6 and later), with a member for every storage, and a file in which
the storages follow the pickle. Nothing in a pickle is called; see `formats/torch_pickle.py`, which also names the
source. The members `byteorder`, `.format_version` and `.storage_alignment` are those of `_save` in PyTorch 2.13's
torch/serialization.py.

Names are the keys that lead to a tensor, joined by `/`; within a module, by `.`, as `state_dict()` has them. Of these,

- the key of the dict that holds the weights falls away: the first of `OUTER` that is a dict of tensors, or a module,
  where no tensor but scalars stands beside it. What does keeps its own key, as `optimizer/state/0/exp_avg`. A key that
  has a `/` of its own, as of a file that was converted, is one name and stays.
- `module.` (DataParallel) and `_orig_mod.` (torch.compile) fall away where all tensors of a dict have them, but for
  counters such as `n_averaged` (AveragedModel).

Where two names would become one, all stay as they are. `Listed.sources` has the names in the file.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, reading, strided, torch_pickle, zip_members
from tfxfer.formats.reading import Cursor
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable
from tfxfer.formats.torch_pickle import Storage, View
from tfxfer.formats.zip_members import Member
from tfxfer.weights import identify, npy_dict

PICKLE = "data.pkl"
MAX_UNPACKED = 32 << 20  # bytes of a compressed pickle, and of a compressed storage beyond what is asked for
OUTER = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "params",
    "net",
    "network",
    "net_state_dict",
    "weights",
    "state_dict_ema",
    "model_ema",
    "params_ema",
    "ema",
)
WRAPPERS = ("module.", "_orig_mod.")


class Listed(NamedTuple):
    """What a file holds.

    Attributes:
      kind: the kind of file, in words.
      tensors: by name, in the order of the pickle.
      sources: the names in the file.
    """

    kind: str
    tensors: dict[str, Tensor]
    sources: dict[str, str]


class _Content(NamedTuple):
    """A pickle, what it builds, and the bytes of its storages.

    Attributes:
      root: what it builds.
      pickled: uint8 [n], what the pickle lies in.
      storages: the bytes by key; a member is a part of an archive.
      swapped: whether the values have the other byte order.
    """

    root: Any
    pickled: np.ndarray
    storages: Mapping[str, np.ndarray | Member]
    swapped: bool = False


def is_archive(members: Iterable[str]) -> bool:
    """Say whether a zip archive is PyTorch's, by the names of its members."""
    return _root(members) is not None


def read(path: Path) -> Listed:
    """List the tensors and numbers in a file of either form.

    Returns:
      Tensors by name; see above. Sparse, quantized and nested tensors, and objects of unknown classes, are listed with
      the reason. Values in an archive are checked against its CRC-32, where it has one: that of a whole storage,
      however little of it a tensor takes.

    Raises:
      WeightsError: the file is cut short or corrupt, a tensor lies outside its storage, or nothing can be read.
    """
    data, where = reading.map_file(path), str(path)
    if torch_pickle.begins(reading.head(path, 32)):
        kind = "PyTorch file of the old form"
        root, storages = torch_pickle.read_old(data, where)
        content = _Content(root, data, storages)
    else:
        kind, content = _archive(data, where)
    values: dict[str, Any] = {}
    walk = _Walk()
    for name, value in npy_dict.leaves(_Module.of(content.root), where, walk.items):
        if name in values:
            raise WeightsError(f"{where}: two arrays would both be called {name}")
        values[name] = value
    new = _renamed(values, walk.scopes, content.root)
    tensors = {new[name]: _tensor(value, content, f"{where}: {name}") for name, value in values.items()}
    if all(tensor.fault for tensor in tensors.values()):
        raise _nothing(path, kind, tensors)
    return Listed(kind, tensors, {new[name]: name for name in values})


def _nothing(path: Path, kind: str, tensors: Mapping[str, Tensor]) -> WeightsError:
    faults = "".join(f"\n  {fault}" for fault in [shown([tensor.fault for tensor in tensors.values()])] if fault)
    return WeightsError(
        f"{path} is a {kind} that holds no arrays that tfxfer reads{faults}\n"
        f"Where you trust the file, convert it by PyTorch:\n{identify.by_torch(path, 'TorchScript' in kind)}"
    )


# --- the archive ---


def _root(members: Iterable[str]) -> str | None:
    """Return what the names of all members begin with."""
    found = (name.removesuffix(PICKLE) for name in members if name.endswith(PICKLE) and name.count("/") <= 1)
    return next((root for root in found if not root or root.endswith("/")), None)


def _archive(data: np.ndarray, where: str) -> tuple[str, _Content]:
    members = zip_members.members(data, where)
    root = _root(members) or ""
    pickled = _unpacked(members[root + PICKLE])
    machine = torch_pickle.TorchMachine(Cursor(pickled.data, f"{where}: member {root + PICKLE!r}"))
    value = machine.run()
    storages = {key: _storage(storage, root, members, where) for key, storage in machine.storages.items()}
    kind = "TorchScript archive" if f"{root}constants.pkl" in members else "PyTorch archive"
    return kind, _Content(value, pickled, storages, _swapped(members.get(f"{root}byteorder"), where))


def _unpacked(member: Member) -> np.ndarray:
    if not member.stored and member.size > MAX_UNPACKED:
        raise WeightsError(f"{member} is a compressed pickle of {member.size:,} bytes, more than {MAX_UNPACKED:,}")
    content = member.whole()
    if member.info.CRC:
        member.check(zip_members.crc(content))
    return content


def _storage(storage: Storage, root: str, members: Mapping[str, Member], where: str) -> Member:
    member = members.get(f"{root}data/{storage.key}")
    if member is None:
        raise WeightsError(f"{where} is cut short or corrupt: its member {root}data/{storage.key} is missing")
    if member.size != storage.nbytes:
        raise WeightsError(f"{member} is corrupt: it has {member.size:,} bytes, its pickle says {storage.nbytes:,}")
    return member


def _swapped(member: Member | None, where: str) -> bool:
    order = b"little" if member is None else member.head(16)
    if order not in (b"little", b"big"):
        raise WeightsError(f"{where} is corrupt: its member 'byteorder' says {order!r}, neither little nor big")
    return order == b"big"


# --- tensors ---


def _tensor(value: Any, content: _Content, where: str) -> Tensor:
    if isinstance(value, Storage):
        return unreadable(f"{where} is a storage, of which no tensor says the shape")
    if not isinstance(value, View):
        return npy_dict.tensor(content.pickled, value, where)
    if fault := shape_fault(value.shape):
        raise WeightsError(f"{where}: {fault}")
    if value.kind.dtype is None:
        return unreadable(f"{where} is of PyTorch's dtype {value.kind.name}, which NumPy has not", value.shape)
    start = _start(value, where)
    if fault := strided.fault(value.kind.dtype, value.shape, value.strides):
        return unreadable(f"{where}: {fault}; save its `contiguous()` again", value.shape)
    storage = content.storages.get(value.storage.key)
    if storage is None:
        raise WeightsError(f"{where}: its storage {value.storage.key!r} is missing: the file is corrupt or cut short")
    if isinstance(storage, Member):
        return _of_member(value, storage, start, content.swapped, where)
    return strided.tensor(storage, start, value.kind.dtype, value.shape, value.strides, where)


def _start(view: View, where: str) -> int:
    """Return the byte of a storage at which a tensor begins; it lies within its part."""
    storage, itemsize = view.storage, view.kind.itemsize
    begin = view.offset * itemsize
    size = strided.span(view.shape, view.strides) * itemsize
    if size and begin + size > storage.count * storage.kind.itemsize:
        raise WeightsError(
            f"{where} is corrupt: {size:,} bytes at {begin:,} go beyond the end of its storage "
            f"({storage.count * storage.kind.itemsize:,} bytes)"
        )
    return storage.start * storage.kind.itemsize + begin if size else 0


def _of_member(view: View, member: Member, start: int, swapped: bool, where: str) -> Tensor:
    dtype, shape, strides = view.kind.dtype, view.shape, view.strides
    assert dtype is not None  # noqa: S101
    lay = functools.partial(
        strided.tensor, start=start, dtype=dtype, shape=shape, strides=strides, where=where, swapped=swapped
    )
    if member.stored:
        tensor = lay(member.packed)
        return _checked(tensor, member, lay) if member.info.CRC else tensor
    if member.size > math.prod(shape) * dtype.itemsize + MAX_UNPACKED:
        return unreadable(
            f"{where} is a part of a compressed storage of {member.size:,} bytes, which would have to be unpacked "
            "whole; unzip the archive and zip it again by `zip -0 -r`",
            shape,
        )
    return Tensor(shape, dtype, lambda: lay(member.whole()).read())


def _checked(tensor: Tensor, member: Member, lay: Callable[[np.ndarray], Tensor]) -> Tensor:
    """Let the values of a tensor be compared with the checksum of the member that they lie in.

    Args:
      tensor: the tensor.
      member: the member, which is not compressed.
      lay: describes the tensor in other bytes than those of the member.
    """
    if tensor.nbytes != member.size:
        return _checked_before(tensor, member)

    def stream() -> Iterator[np.ndarray]:
        crc = _Crc()
        yield from buffers.seen(member.packed, tensor.dtype, crc.add)
        member.check(crc.value)

    def read() -> np.ndarray:
        crc, plain = _Crc(), tensor.stream is not None
        values = buffers.aligned(*(tensor.shape, tensor.dtype) if plain else ((member.size,), member.packed.dtype))
        buffers.copied(member.packed, values, crc.add)
        member.check(crc.value)
        values.flags.writeable = False
        return values if plain else lay(values).read()

    return dataclasses.replace(tensor, read=read, stream=stream if tensor.stream else None)


def _checked_before(tensor: Tensor, member: Member) -> Tensor:
    """Let the checksum of a whole member be compared before a part of it is read: once for all of its parts."""

    def stream() -> Iterator[np.ndarray]:
        member.check(member.crc)
        yield from tensor.stream() if tensor.stream else ()

    def read() -> np.ndarray:
        member.check(member.crc)
        return tensor.read()

    return dataclasses.replace(tensor, read=read, stream=stream if tensor.stream else None)


class _Crc:
    """A CRC-32 that is taken piece by piece."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, piece: np.ndarray) -> None:
        self.value = zlib.crc32(piece.data, self.value)  # type: ignore[arg-type]


# --- names ---


class _Module(NamedTuple):
    """A module whose tensors are listed by name."""

    tensors: dict[str, Any]
    modules: dict[str, Any]

    @staticmethod
    def of(value: Any) -> Any:
        parts = torch_pickle.parts_of(value)
        return value if parts is None else _Module(*parts)


def _items(name: str, value: Any) -> list[tuple[str, Any]] | None:
    """List what a value holds, as `npy_dict.items` does; the name of a module ends with what separates its parts."""
    if isinstance(value, _Module):
        modules = [(f"{name}{key}.", _Module.of(inner)) for key, inner in value.modules.items()]
        return [(name + key, inner) for key, inner in value.tensors.items()] + modules
    items = npy_dict.items(name, value)
    if items is None:
        return None
    found = [(key, inner, _Module.of(inner)) for key, inner in items]
    return [(key if module is inner else f"{key}/", module) for key, inner, module in found]


class _Walk:
    """A walk through what a pickle builds, which notes where each value stands.

    Attributes:
      scopes: the names of the dict, list or outermost module that each value stands in, by the name of the value; a
        name that has a `/` of its own does not tell.
    """

    def __init__(self) -> None:
        self.scopes: dict[str, str] = {}

    def items(self, name: str, value: Any) -> list[tuple[str, Any]] | None:
        """List what a value holds, as `_items` does."""
        found = _items(name, value)
        scope = name
        if isinstance(value, _Module):
            scope = self.scopes.get(name, "") if name.endswith(".") else name.removesuffix("/")
        for inner, _ in found or ():
            self.scopes.setdefault(inner, scope)  # what only wraps another has its name
        return found


def _renamed(values: Mapping[str, Any], scopes: Mapping[str, str], root: Any) -> dict[str, str]:
    """Map the names in the file to those that are used.

    Args:
      values: what the file holds, by the names in the file.
      scopes: as `_Walk` notes them.
      root: what the pickle builds.
    """
    within = {name: f"{scope}/" if (scope := scopes.get(name, "")) else "" for name in values}
    arrays: dict[str, list[str]] = {}
    for name, value in values.items():
        if isinstance(value, View):
            arrays.setdefault(within[name], []).extend([name.removeprefix(within[name])] if value.shape else [])
    flat = bool(arrays.get(""))
    outer = next((f"{key}/" for key in OUTER if f"{key}/" in arrays), "") if isinstance(root, dict) and not flat else ""
    wrappers = {scope: _wrapper(lasts) for scope, lasts in arrays.items()}
    new = {
        name: scope.removeprefix(outer) + name.removeprefix(scope).removeprefix(wrappers.get(scope, ""))
        for name, scope in within.items()
    }
    return new if len(set(new.values())) == len(new) else {name: name for name in values}


def _wrapper(names: list[str]) -> str:
    """Return the wrappers' prefix that all names have; nothing where a name has a `/`, which is of no module."""
    if any("/" in name for name in names):
        return ""
    prefix = ""
    while wrapper := next(
        (part for part in WRAPPERS if names and all(name.startswith(prefix + part) for name in names)), ""
    ):
        prefix += wrapper
    return prefix if names and all(len(name) > len(prefix) for name in names) else ""
