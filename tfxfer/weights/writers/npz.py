"""Numpy's `.npz` archives, stored and not compressed, without a pickle: `np.load` reads them.

The values of each array begin at a multiple of 64 bytes in the file, which numpy itself does not see to, so that they
can be used as they are mapped.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfxfer.formats.tensors import Tensor
from tfxfer.formats.zip_members import MAX_MEMBERS
from tfxfer.weights import streams
from tfxfer.weights.writers import archives

WORDS = "NumPy .npz archive"

_KINDS = "biufcSU"
_LONGEST = 65_000  # bytes of a name


def faults(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Say of each tensor that an archive cannot hold why."""
    found = {name: _dtype_fault(tensor.dtype) or _name_fault(name, tensors) for name, tensor in tensors.items()}
    if len(tensors) > MAX_MEMBERS:
        found[next(iter(tensors))] = f"it is one of {len(tensors):,}, and {MAX_MEMBERS:,} is the most"
    return {name: fault for name, fault in found.items() if fault}


def _dtype_fault(dtype: np.dtype) -> str:
    if dtype.hasobject:
        return "NumPy keeps strings of any length as a pickle, which tfxfer does not write"
    return "" if dtype.type.__module__ == "numpy" and dtype.kind in _KINDS else f"NumPy's files have no dtype {dtype}"


def _name_fault(name: str, tensors: Mapping[str, Tensor]) -> str:
    if name.startswith("/") or ".." in name.replace("\\", "/").split("/") or "\0" in name:
        return "as the name of a file in an archive it would lead out of it, or be cut short"
    bare = name.removesuffix(".npy")
    if bare != name and bare in tensors:
        return f"NumPy would take {bare} for it, whose file in the archive is called {name}; rename one of the two"
    return "its name is too long" if len(name.encode()) > _LONGEST else ""


def write(paths: list[Path], tensors: Mapping[str, Tensor]) -> None:
    """Write the one file of `paths`, one tensor at a time.

    Raises:
      OSError: the disk is full.
      WeightsError: values are missing or fail their checksum.
    """
    with paths[0].open("wb") as whole, zipfile.ZipFile(whole, "w") as archive:
        for name, tensor in tensors.items():
            header = _header(tensor)
            with archives.member(archive, whole, f"{name}.npy", len(header) + tensor.nbytes) as file:
                file.write(header)
                streams.put(file, tensor)


def _header(tensor: Tensor) -> bytes:
    header = io.BytesIO()  # a multiple of 64 long
    descr = np.lib.format.dtype_to_descr(tensor.dtype)
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": tensor.shape})
    return header.getvalue()
