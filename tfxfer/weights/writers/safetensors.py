"""safetensors files, as `weights.safetensors` reads them.

As the format's own library does, tensors of wide numbers come first, so that all are aligned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfxfer.formats.tensors import Tensor
from tfxfer.weights import streams
from tfxfer.weights.safetensors import DTYPES, MAX_HEADER, METADATA

WORDS = "safetensors file"

_NAMES = {np.dtype(kind): text for text, kind in DTYPES.items()}


def order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Sort names so that the tensors of wider numbers come first."""
    return sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)


def faults(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Say of each tensor that such a file cannot hold why."""
    found = {
        name: f"safetensors has no dtype {'for strings' if tensor.dtype.hasobject else tensor.dtype}"
        for name, tensor in tensors.items()
        if tensor.dtype not in _NAMES
    }
    if METADATA in tensors:
        found[METADATA] = "safetensors keeps this name for itself"
    if not found and len(_header(tensors)) > MAX_HEADER:
        found[next(iter(tensors))] = f"its name and those of the others take more than {MAX_HEADER:,} bytes"
    return found


def write(paths: list[Path], tensors: Mapping[str, Tensor]) -> None:
    """Write the one file of `paths`, one tensor at a time.

    Raises:
      OSError: the disk is full.
      WeightsError: values are missing or fail their checksum.
    """
    header = _header(tensors)
    with paths[0].open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in order(tensors):
            streams.put(file, tensors[name])


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    entries, end = {}, 0
    for name in order(tensors):
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    # The values begin behind 8 bytes and the header, at a multiple of 64.
    return text + b" " * (-(len(text) + 8) % 64)
