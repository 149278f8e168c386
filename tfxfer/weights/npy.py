"""Numpy's `.npy` files: one array, or a pickled dict of arrays.

Source: numpy/lib/_format_impl.py, whose docstring is the specification. An array of objects is a pickle, which is not
unpickled but walked through: see `npy_dict` and `pickle_parser`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.formats.reading import Cursor
from tfxfer.formats.tensors import Tensor, shape_fault
from tfxfer.weights import npy_dict

MAGIC = b"\x93NUMPY"
HEADER_BYTES = 4096  # no dtype but a structured one takes so much
PLAIN = "arr_0"  # the name that `np.savez` gives to an array without one

# The fields of a structured dtype, one of which may be structured itself.
_FIELDS = r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]"
_VALUE = rf"(?:'[^']*'|True|False|\([^()]*\)|{_FIELDS})"
_PAIR = rf"'(?:descr|fortran_order|shape)'\s*:\s*{_VALUE}"
_HEADER = re.compile(rf"\{{\s*{_PAIR}\s*,\s*{_PAIR}\s*,\s*{_PAIR}\s*,?\s*\}}\s*")
_DTYPE = re.compile(r"[<>|=]?([biufc]\d{1,2}|[SU]\d{1,6}|O|\?)")


def read(path: Path) -> dict[str, Tensor]:
    """List the arrays of a file, from its header or from one walk over its pickle.

    Returns:
      One array `arr_0`; or, of pickled dicts and lists, every array under the keys and indices that lead to it, joined
      by `/`: `{"fc6": [W, b]}` gives `fc6/0` and `fc6/1`, `{"fc6": {"weights": W}}` gives `fc6/weights`.

    Raises:
      WeightsError: the file is cut short or corrupt, or its pickle holds anything but arrays, dicts, lists, tuples,
        strings and numbers.
    """
    data, where = reading.map_file(path), str(path)
    shape, dtype, fortran, start = header(data.data, where)
    if dtype.hasobject:
        return npy_dict.read(data, start, where)
    if len(data) != start + math.prod(shape) * dtype.itemsize:
        raise WeightsError(
            f"{where} is cut short or corrupt: {dtype} {shape} takes {math.prod(shape) * dtype.itemsize:,} "
            f"bytes, {len(data) - start:,} follow the header"
        )
    return {PLAIN: reading.tensor(data, start, dtype, shape, where, fortran)}


class NotNumbersError(WeightsError):
    """A header that is whole, of an array that is none of numbers, booleans or strings."""


def header(data: memoryview, where: str) -> tuple[tuple[int, ...], np.dtype, bool, int]:
    """Read the header of a `.npy` file; return shape, dtype, whether in Fortran order, and where the values begin.

    Raises:
      NotNumbersError: the array is one of dates, of structures, or the like.
      WeightsError: it is not such a header, or announces an array that cannot be.
    """
    cursor = Cursor(data, where)
    if cursor.take(6) != MAGIC:
        raise WeightsError(f"{where} is not a .npy file: it does not begin with \\x93NUMPY")
    major = cursor.number(2) & 0xFF
    if major not in (1, 2, 3):
        raise WeightsError(f"{where}: version {major} of the .npy format is unknown")
    size = cursor.number(2 if major == 1 else 4)
    if size >= HEADER_BYTES and bytes(data[cursor.position :][:16]).startswith(b"{'descr': ["):
        raise NotNumbersError(f"{where} is of a structured dtype, whose header takes {size:,} bytes")
    text = bytes(cursor.take(size)).decode("latin-1") if size < HEADER_BYTES else ""
    if not _HEADER.fullmatch(text):
        raise WeightsError(f"{where}: the .npy header is corrupt, or of a structured dtype: {text[:200]!r}")
    pairs = dict(re.findall(rf"'(descr|fortran_order|shape)'\s*:\s*({_VALUE})", text))
    if len(pairs) < 3:
        raise WeightsError(f"{where}: the .npy header is corrupt: {text[:200]!r}")
    if pairs["descr"].startswith("["):
        raise NotNumbersError(f"{where} is of a structured dtype: {text[:200]!r}")
    shape, dtype = _shape(pairs["shape"], where), _dtype(pairs["descr"].strip("'"), where)
    if fault := shape_fault(shape, dtype.itemsize):
        raise WeightsError(f"{where}: {fault}")
    return shape, dtype, pairs["fortran_order"] == "True", cursor.position


def _shape(text: str, where: str) -> tuple[int, ...]:
    # Python 2 wrote long integers as 3L.
    if not re.fullmatch(r"\((\s*-?\d{1,19}L?\s*,)*(\s*-?\d{1,19}L?)?\s*\)", text):
        raise WeightsError(f"{where}: the .npy header is corrupt: its shape is {text[:100]!r}")
    return tuple(int(size) for size in re.findall(r"-?\d+", text))


def _dtype(text: str, where: str) -> np.dtype:
    try:
        dtype = np.dtype(text) if _DTYPE.fullmatch(text) else None
    except TypeError:
        dtype = None
    if dtype is not None and dtype.itemsize:
        return dtype
    if dtype is not None:  # NumPy takes it for strings of any length, and makes room for one character or more
        raise NotNumbersError(f"{where}: the dtype {text!r} is of strings of no characters; leave the array out")
    hint = ", but raw bytes; NumPy writes bfloat16 so: save it as float32" if text.strip("<>|=") == "V2" else ""
    raise NotNumbersError(f"{where}: the dtype {text[:40]!r} is none of numbers, booleans or strings{hint}")
