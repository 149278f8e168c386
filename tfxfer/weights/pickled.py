"""Arrays that lie in a pickle within dicts and lists, as VGG16 and the nets of caffe-tensorflow circulate in `.npy`."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.weights import files, pickles
from tfxfer.weights.files import Cursor
from tfxfer.weights.pickles import Array
from tfxfer.weights.tensors import Tensor, shape_fault

MAX_VALUES = 50_000

_DTYPE = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,6}")


def read(data: np.ndarray, start: int, where: str) -> dict[str, Tensor]:
    """List the arrays and numbers in the pickle at byte `start`, under the keys and indices that lead to them.

    Args:
      data: uint8 [n], the whole file.
      start: where the pickle begins.
      where: the file, for the error messages.

    Returns:
      Tensors in the order of the file; keys and indices are joined by `/`. Strings and None are left out.

    Raises:
      WeightsError: the pickle is cut short or corrupt, or builds anything but arrays, dicts, lists, tuples, strings and
        numbers.
    """
    found: dict[str, Tensor] = {}
    for name, value in _leaves(pickles.Machine(Cursor(data.data, where, start)).run(), where):
        if name in found:
            raise WeightsError(f"{where}: two arrays would both be called {name}")
        found[name] = _tensor(data, value, f"{where}: {name}")
    return found


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Array | float]]:
    # A list may hold itself, or another a thousand times: what is looked at is bounded.
    waiting = [("", value)]
    for _ in range(MAX_VALUES):
        if not waiting:
            return
        name, value = waiting.pop()
        items = list(_items(value))
        if len(waiting) + len(items) > MAX_VALUES or len(name) > 4096:
            break
        waiting += [(f"{name}/{key}".removeprefix("/") if key else name, inner) for key, inner in reversed(items)]
        if isinstance(value, Array | bool | int | float) and not items:
            yield name or "arr_0", value
    raise WeightsError(f"{where} is hostile: its dicts and lists hold more than {MAX_VALUES:,} values, or themselves")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Array) and value.shape == () and isinstance(value.content, list):
        yield from (("", inner) for inner in value.content)  # an array of objects that only wraps one
    elif isinstance(value, dict):
        yield from value.items()
    else:
        inside = value.content if isinstance(value, Array) else value
        if isinstance(inside, list) or type(inside) is tuple:  # and no string, which is a named tuple
            yield from ((str(index), inner) for index, inner in enumerate(inside))


def _tensor(data: np.ndarray, value: Array | float, where: str) -> Tensor:
    if not isinstance(value, Array):
        number = np.array(value)
        return Tensor((), number.dtype, lambda: number)
    shape, raw, dtype = value.shape, value.content, _dtype(value.dtype)
    plain = isinstance(shape, tuple) and all(type(size) is int for size in shape)
    if dtype is None or not plain or not isinstance(raw, pickles.Raw):
        raise WeightsError(f"{where} is no array of numbers, booleans or strings")
    if fault := shape_fault(shape):
        raise WeightsError(f"{where}: {fault}")
    size = math.prod(shape) * dtype.itemsize
    if raw.size != size:
        raise WeightsError(f"{where} is corrupt: {dtype} {shape} takes {size:,} bytes, the file holds {raw.size:,}")
    view = functools.partial(files.view, data, raw.start, dtype, shape, where, value.fortran is True)
    return Tensor(shape, dtype.newbyteorder("="), view)


def _dtype(pickled: object) -> np.dtype | None:
    if not isinstance(pickled, pickles.Dtype) or not _DTYPE.fullmatch(pickled.text):
        return None
    try:
        dtype = np.dtype(pickled.text)
    except TypeError:  # such as f3
        return None
    return dtype.newbyteorder(">") if pickled.order == ">" else dtype
