"""safetensors files: a JSON header, and behind it the values.

Source: github.com/huggingface/safetensors, README "Format" and safetensors/src/tensor.rs for the dtypes and the checks.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.reading import Cursor
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable

METADATA = "__metadata__"  # what is not a tensor in a header
MAX_HEADER = 16 << 20  # bytes; some 30,000 tensors take a tenth of this

DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


def begins(head: bytes) -> bool:
    """Say whether the first 16 bytes of a file may be those of a safetensors file."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def read(path: Path) -> dict[str, Tensor]:
    """List the tensors of a file, in the order of their bytes.

    Returns:
      Tensors by the names in the file. One of an unknown dtype is listed with the reason and refuses to be read.

    Raises:
      WeightsError: the header is corrupt, or the tensors do not lie end to end from its end to that of the file; every
        tensor concerned is named.
    """
    data, where = reading.map_file(path), str(path)
    entries, start = _header(data, where)
    faults = [f"{name}: {fault}" for name, entry in entries.items() if (fault := _fault(entry))]
    if not faults:
        entries = dict(sorted(entries.items(), key=lambda item: item[1]["data_offsets"]))
        faults = _gaps(entries, len(data) - start)
    if faults:
        raise WeightsError(f"{where} is corrupt or cut short:\n  {shown(faults)}\ncopy it again")
    return {name: _tensor(data, start, entry, f"{where}: {name}") for name, entry in entries.items()}


def _header(data: np.ndarray, where: str) -> tuple[dict[str, Any], int]:
    cursor = Cursor(data.data, where)
    size = cursor.number(8)
    if size > cursor.left:
        raise WeightsError(f"{where} is corrupt or cut short: it announces a header of {size:,} bytes")
    if size > MAX_HEADER:
        raise WeightsError(f"{where} is refused: its header of {size:,} bytes is larger than {MAX_HEADER:,}")
    entries = reading.parse_json(bytes(cursor.take(size)), where)
    if not isinstance(entries, dict):
        raise WeightsError(f"{where} is corrupt: its header is not a JSON object")
    entries.pop(METADATA, None)
    return entries, cursor.position


def _fault(entry: Any) -> str:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if _counts(
            [*shape, begin, end]
        ):
            pass
        case _:
            return "its dtype, shape or data_offsets are missing or malformed"
    if dtype not in DTYPES:  # its size says nothing; it is listed with the reason
        return "" if begin <= end else "its data_offsets are negative"
    if fault := shape_fault(tuple(shape)):
        return fault
    size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    return (
        ""
        if end - begin == size
        else f"{dtype} {tuple(shape)} takes {size:,} bytes, its data_offsets give {end - begin:,}"
    )


def _counts(values: list[Any]) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _gaps(entries: dict[str, Any], size: int) -> list[str]:
    faults, position, before = [], 0, "the header"
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        if begin != position:
            faults.append(f"{name}: {'overlaps' if begin < position else 'leaves a gap behind'} {before}")
        position, before = end, name
    if position != size:
        faults.append(f"the tensors take {position:,} bytes, {size:,} follow the header")
    return faults


def _tensor(data: np.ndarray, start: int, entry: dict[str, Any], where: str) -> Tensor:
    kind, shape = entry["dtype"], tuple(entry["shape"])
    if kind not in DTYPES:
        return unreadable(f"{where}: its dtype {kind[:20]!r} is unknown; known are {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[kind])
    offset = start + entry["data_offsets"][0]
    return reading.tensor(data, offset, dtype, shape, where)
