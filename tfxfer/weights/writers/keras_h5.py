"""Keras's `.h5` files of weights, in the layout of Keras 2, which `keras.Model.load_weights` reads to this day.

Every scope is a layer: `conv1/kernel` becomes the weight `conv1/kernel:0` of the layer `conv1`, and an array without a
scope a layer of its own. Keras goes by order: the layers stand as the arrays come, or, where those come by name and
nobody chose that, `conv10` behind `conv9`; in a layer come kernels, bias, gamma, beta, moving mean, moving variance.

h5py writes the headers into memory and leaves room, with each large array at a multiple of 64 bytes; headers and values
are then written to the disk without it, since HDF5 fails in a way of its own, and crashes, where the disk is full while
it closes a file. bfloat16 is a float of 16 bits that HDF5 describes, and h5py and Keras read as float32.

Source: keras/src/legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from tfxfer import extras, names
from tfxfer.formats.buffers import ALIGNMENT
from tfxfer.formats.tensors import Tensor
from tfxfer.weights import streams
from tfxfer.weights.roles import BIAS, KERNEL, role

if TYPE_CHECKING:
    import h5py

WORDS = "Keras HDF5 file"

_KINDS = "biuf"
_KERNELS = ("depthwise_kernel", KERNEL, "pointwise_kernel", "recurrent_kernel")
_ORDER = (*_KERNELS, BIAS, "gamma", "beta", "moving_mean", "moving_variance")
_OTHER_NAMES = {
    "scale": "gamma",
    "offset": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
    "running_std": "moving_variance",
}
_RESERVED = ("model_weights", "top_level_model_weights")
_ATTRIBUTE = 64_000  # bytes; HDF5 keeps no more in a header
_MOST_DIMENSIONS = 32
_PAGE = 4096  # bytes
_ZEROS = bytes(_PAGE)
ALIGNED_FROM = 4096  # bytes; HDF5 becomes slow where it aligns every small thing


def by_number(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Guess the order of layers where names come in that of the alphabet: `conv10` behind `conv9`."""
    every = list(tensors)
    if every == sorted(every):
        every.sort(key=names.by_number)
    return {name: tensors[name] for name in every}


def order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Sort names as Keras takes their arrays."""
    return [name for members in layered(tensors).values() for name in members]


def faults(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Say of each tensor that such a file cannot hold why.

    Raises:
      MissingPackageError: h5py is not installed.
    """
    extras.load("h5py")
    paths = {_path(name): name for name in tensors}
    found = {name: _fault(name, tensor) for name, tensor in tensors.items()}
    for path, name in paths.items():
        scope = path
        while scope := scope.rpartition("/")[0]:
            if scope in paths:
                found[name] = found[name] or f"it would lie below {paths[scope]}, which is not a group"
    return {name: fault for name, fault in found.items() if fault}


def _fault(name: str, tensor: Tensor) -> str:
    if "\0" in name or not all(name.split("/")) or "." in name.split("/"):
        return "HDF5 has no such name: a part of it is empty, '.', or has a NUL"
    if name.split("/")[0] in _RESERVED:
        return f"Keras keeps the names of {names.listed(_RESERVED)} for itself"
    if len(_layer(name).encode()) > _ATTRIBUTE or len(tensor.shape) > _MOST_DIMENSIONS:
        return f"its name is too long, or it has more than {_MOST_DIMENSIONS} dimensions"
    dtype = tensor.dtype
    if dtype == ml_dtypes.bfloat16 or (
        dtype.type.__module__ == "numpy" and dtype.kind in _KINDS and dtype.itemsize <= 8
    ):
        return ""
    return f"it would not be read back: a Keras file holds numbers, and not {'strings' if dtype.hasobject else dtype}"


def write(paths: list[Path], tensors: Mapping[str, Tensor]) -> None:
    """Write the one file of `paths`, one tensor at a time.

    Raises:
      OSError: the disk is full.
      WeightsError: values are missing or fail their checksum.
    """
    headers = _Sparse()
    places = _write_headers(headers, tensors)
    with paths[0].open("wb") as raw:
        headers.copy_to(raw)
        for name, place in places.items():
            raw.seek(place)
            streams.put(raw, tensors[name])


class _Sparse(io.RawIOBase):
    """A file in memory that takes no room for what was never written, which reads as zeros."""

    def __init__(self) -> None:
        super().__init__()
        self._pages: dict[int, bytearray] = {}
        self._position = self._size = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        return self._size

    def write(self, data: Any) -> int:
        raw = memoryview(data).cast("B")
        for page, start, done, count in self._parts(len(raw)):
            self._pages.setdefault(page, bytearray(_PAGE))[start : start + count] = raw[done : done + count]
        self._position += len(raw)
        self._size = max(self._size, self._position)
        return len(raw)

    def readinto(self, buffer: Any) -> int:
        raw = memoryview(buffer).cast("B")
        wanted = max(0, min(len(raw), self._size - self._position))
        for page, start, done, count in self._parts(wanted):
            raw[done : done + count] = self._pages.get(page, _ZEROS)[start : start + count]
        self._position += wanted
        return wanted

    def _parts(self, size: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield page, place in the page, bytes before it and in it, for the next bytes."""
        done = 0
        while done < size:
            page, start = divmod(self._position + done, _PAGE)
            count = min(size - done, _PAGE - start)
            yield page, start, done, count
            done += count

    def copy_to(self, file: IO[bytes]) -> None:
        """Write what is there to an empty file, which then has the same size.

        Raises:
          OSError: the disk is full.
        """
        for page, content in sorted(self._pages.items()):
            file.seek(page * _PAGE)
            file.write(content[: max(0, self._size - page * _PAGE)])
        file.truncate(self._size)


def _write_headers(headers: _Sparse, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Write everything but the values; return where in the file those of each tensor belong, if it has any."""
    import h5py

    places = {}
    aligned = {"alignment_threshold": ALIGNED_FROM, "alignment_interval": ALIGNMENT}
    with h5py.File(headers, "w", libver="earliest", **aligned) as file:
        # What Keras looks for: without a version it takes the file for one of Keras 1.
        file.attrs["keras_version"], file.attrs["backend"] = b"2.15.0", b"tensorflow"
        layers = layered(tensors)
        _set_texts(file, "layer_names", list(layers))
        for layer, members in layers.items():
            group = file.require_group(layer)
            _set_texts(group, "weight_names", [f"{name}:0" for name in members])
            for name in members:
                place = _make_room(group, f"{name}:0", tensors[name])
                places.update({name: place} if tensors[name].nbytes else {})
    return places


def layered(tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Sort names into layers, both in the order in which Keras takes them."""
    layers: dict[str, list[str]] = {}
    for name in tensors:
        layers.setdefault(_layer(name), []).append(name)
    return {layer: sorted(members, key=lambda name: _rank(name, tensors)) for layer, members in layers.items()}


def _layer(name: str) -> str:
    return name.rpartition("/")[0] or name


def _path(name: str) -> str:
    return f"{_layer(name)}/{name}:0"


def _rank(name: str, tensors: Mapping[str, Tensor]) -> int:
    last = name.rpartition("/")[2]
    last = _OTHER_NAMES.get(last, last)
    kind = last if last in _ORDER else role(name, tensors[name].shape, tensors)
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _set_texts(group: h5py.Group, attribute: str, texts: Sequence[str]) -> None:
    """Set an attribute of texts; cut into several, with a number behind the name, where HDF5 could not hold it."""
    raw = [text.encode() for text in texts]
    each = max(1, _ATTRIBUTE // max(map(len, raw)))
    if len(raw) <= each:
        group.attrs[attribute] = np.array(raw)
        return
    for number, start in enumerate(range(0, len(raw), each)):
        group.attrs[f"{attribute}{number}"] = np.array(raw[start : start + each])


def _make_room(group: h5py.Group, path: str, tensor: Tensor) -> int:
    """Make an array without values, and return where in the file they belong, if there are any."""
    import h5py
    from h5py import h5d, h5p, h5s

    early = h5p.create(h5p.DATASET_CREATE)
    early.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5d.FILL_TIME_NEVER)
    space = h5s.create_simple(tensor.shape) if tensor.shape else h5s.create(h5s.SCALAR)
    made = h5d.create(group.id, None, _type(tensor.dtype), space, dcpl=early)
    group[path] = h5py.Dataset(made)
    return made.get_offset()


def _type(dtype: np.dtype) -> Any:
    from h5py import h5t

    if dtype != ml_dtypes.bfloat16:
        return h5t.py_create(dtype)
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)  # the places of sign, exponent and mantissa, in bits
    kind.set_size(2)
    kind.set_ebias(127)
    return kind
