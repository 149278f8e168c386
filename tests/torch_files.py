"""PyTorch's files without PyTorch: what `torch.save` writes, from the names of its functions, and what it would not."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bfloat16": "BFloat16Storage",
    "complex64": "ComplexFloatStorage",
}


class Global(NamedTuple):
    """A function or class by its name."""

    module: str
    name: str


class Call(NamedTuple):
    """A call of a function; `state` is what BUILD gives to what comes out."""

    function: Global
    arguments: tuple[Any, ...]
    state: Any = None


class Persistent(NamedTuple):
    """What is pickled as a persistent id."""

    parts: Any


class Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """A pickler that writes names which need not exist here."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]  # noqa: RUF012

    def persistent_id(self, obj: object) -> Any:
        return obj.parts if isinstance(obj, Persistent) else None

    def save_name(self, obj: Global) -> None:
        self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())

    def save_call(self, obj: Call) -> None:
        self.save(obj.function)
        self.save(obj.arguments)
        self.write(b"R")
        if obj.state is not None:
            self.save(obj.state)
            self.write(b"b")

    dispatch[Global] = save_name
    dispatch[Call] = save_call


def dumps(value: object, protocol: int = 2) -> bytes:
    """Pickle a value in which names, calls and persistent ids may stand."""
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def storage(key: str, count: int, kind: str = "FloatStorage") -> Persistent:
    """Return the persistent id of a storage."""
    return Persistent(("storage", Global("torch", kind), key, "cpu", count))


def view(store: Persistent, shape: Any, strides: Any, offset: Any = 0, *, rebuild: str = "_rebuild_tensor_v2") -> Call:
    """Return a tensor that lies in a storage."""
    return Call(Global("torch._utils", rebuild), (store, offset, shape, strides, False, {}))


class Saved:
    """Tensors on their way to a file.

    Attributes:
      storages: the bytes by key, and how many elements they are.
    """

    def __init__(self) -> None:
        self.storages: dict[str, tuple[int, bytes]] = {}

    def tensor(self, array: np.ndarray) -> Call:
        """Return an array as a tensor with a storage of its own."""
        key = str(len(self.storages))
        self.storages[key] = (array.size, array.tobytes())
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
        return view(storage(key, array.size, STORAGES[array.dtype.name]), array.shape, strides[: array.ndim])

    def archive(self, path: Path, root: object, **options: Any) -> Path:
        """Write the zip form."""
        return archive(path, dumps(root), {key: data for key, (_, data) in self.storages.items()}, **options)

    def old(self, path: Path, root: object) -> Path:
        """Write the old form."""
        return old(path, dumps(root), self.storages)


def archive(
    path: Path,
    pickled: bytes,
    storages: Mapping[str, bytes],
    *,
    order: bytes | None = b"little",
    method: int = zipfile.ZIP_STORED,
    prefix: str = "archive/",
) -> Path:
    """Write the zip form of a pickle and its storages."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(f"{prefix}data.pkl", pickled)
        if order is not None:
            file.writestr(f"{prefix}byteorder", order)
        for key, data in storages.items():
            file.writestr(f"{prefix}data/{key}", data)
        file.writestr(f"{prefix}version", b"3\n")
    return path


def old(path: Path, pickled: bytes, storages: Mapping[str, tuple[int, bytes]]) -> Path:
    """Write the old form of a pickle and its storages, each with the number of its elements."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    rows = [struct.pack("<q", count) + data for count, data in storages.values()]
    path.write_bytes(b"".join([MAGIC, dumps(1001), dumps(facts), pickled, dumps(list(storages)), *rows]))
    return path


def sparse_archive(path: Path, pickled: bytes, storages: Mapping[str, tuple[int, bytes]]) -> Path:
    """Write the zip form with storages of any size that begin with some bytes and go on with a hole; without CRC-32."""
    entries = []
    with path.open("wb") as file:
        for name, size, data in [
            ("a/data.pkl", len(pickled), pickled),
            *((f"a/data/{key}", size, data) for key, (size, data) in storages.items()),
        ]:
            sizes = struct.pack("<LLLHH", 0, size, size, len(name), 0)
            entries.append((name, sizes, file.tell()))
            file.write(b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 0, 0, 33) + sizes + name.encode() + data)
            file.seek(size - len(data), 1)
        start = file.tell()
        for name, sizes, offset in entries:
            file.write(b"PK\1\2" + struct.pack("<HHHHHH", 20, 20, 0, 0, 0, 33) + sizes)
            file.write(struct.pack("<HHHLL", 0, 0, 0, 0, offset) + name.encode())
        size = file.tell() - start
        file.write(b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, len(entries), len(entries), size, start, 0))
    return path
