"""Arrays that lie in a pickle within dicts and lists, as VGG16 and the nets of caffe-tensorflow circulate in `.npy`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, pickle_parser, reading
from tfxfer.formats.pickle_parser import Array, Dtype, Odd
from tfxfer.formats.reading import Cursor
from tfxfer.formats.tensors import Tensor, shape_fault, unreadable

MAX_VALUES = 50_000
MAX_NAME = 4096  # characters
MAX_TEXT = 16 << 20  # characters of all names


def read(data: np.ndarray, start: int, where: str) -> dict[str, Tensor]:
    """List the arrays and numbers in the pickle at byte `start`, under the keys and indices that lead to them.

    Args:
      data: uint8 [n], the whole file.
      start: where the pickle begins.
      where: the file, for the error messages.

    Returns:
      Tensors in the order of the file; keys and indices are joined by `/`. Strings and None are left out; what else is
      not an array of numbers, booleans or strings is listed with the reason and refuses to be read.

    Raises:
      WeightsError: the pickle is cut short or corrupt, or builds anything but arrays, dicts, lists, tuples, strings and
        numbers.
    """
    found: dict[str, Tensor] = {}
    for name, value in leaves(pickle_parser.Machine(Cursor(data.data, where, start)).run(), where):
        if name in found:
            raise WeightsError(f"{where}: two arrays would both be called {name}")
        found[name] = tensor(data, value, f"{where}: {name}")
    return found


def items(name: str, value: Any) -> list[tuple[str, Any]] | None:
    """List what a dict, a list, a tuple or an array of objects holds, by full names; None of any other value."""
    if isinstance(value, dict):
        return [(f"{name}/{key.text}".removeprefix("/") if key.text else name, inner) for key, inner in value.items()]
    inside = (value.content or None) if isinstance(value, Array) else value
    if isinstance(value, Array) and isinstance(inside, list) and value.shape == ():
        return [(name, inner) for inner in inside]  # an array of objects that only wraps one
    if isinstance(inside, list) or type(inside) is tuple:  # and no string, which is a named tuple
        return [(f"{name}/{index}".removeprefix("/"), inner) for index, inner in enumerate(inside)]
    return None


def leaves(
    value: Any, where: str, items: Callable[[str, Any], list[tuple[str, Any]] | None] = items
) -> Iterator[tuple[str, Any]]:
    """Walk through what a pickle builds, down to what holds nothing else, but for strings and None.

    Args:
      value: what it builds.
      where: the file, for the error message.
      items: lists what a value holds, by full names, as `items` does.

    Raises:
      WeightsError: there are more than MAX_VALUES values, or their names take too much memory.
    """
    # A list may hold itself, or another a thousand times: what is looked at is bounded.
    waiting, text = [("", value)], 0
    for _ in range(MAX_VALUES):
        if not waiting:
            return
        name, value = waiting.pop()
        inner = items(name, value)
        text += sum(len(key) for key, _ in inner or ())
        if len(waiting) + len(inner or ()) > MAX_VALUES or len(name) > MAX_NAME or text > MAX_TEXT:
            break
        waiting += reversed(inner or ())
        if inner is None and value is not None and not isinstance(value, str | tuple | Dtype):
            yield name or "arr_0", value
    raise WeightsError(f"{where} is hostile: its dicts and lists hold more than {MAX_VALUES:,} values, or themselves")


def tensor(data: np.ndarray, value: Array | Odd | float, where: str) -> Tensor:
    """Describe what a pickle builds: an array, a number, or what is listed with its reason.

    Args:
      data: uint8 [n], the file that the pickle lies in.
      value: the array, the number, or words about something else.
      where: the file and the name, for the error messages.

    Raises:
      WeightsError: the array cannot be.
    """
    if isinstance(value, Odd):
        return unreadable(f"{where} is {value.words}")
    if not isinstance(value, Array):
        number = np.array(value)
        return Tensor((), number.dtype, lambda: number)
    shape, raw, dtype = value.shape, value.content, pickle_parser.plain_dtype(value.dtype)
    plain = isinstance(shape, tuple) and all(type(size) is int for size in shape)
    if dtype is None or not plain or not isinstance(raw, pickle_parser.Raw):
        return unreadable(f"{where} is not an array of numbers, booleans or strings")
    if fault := shape_fault(shape, dtype.itemsize):
        raise WeightsError(f"{where}: {fault}")
    size = math.prod(shape) * dtype.itemsize
    # A byte beyond 127 takes two as text.
    most = 2 * size if raw.encoding == pickle_parser.LATIN else size
    if not size <= raw.size <= most:
        raise WeightsError(f"{where} is corrupt: {dtype} {shape} takes {size:,} bytes, the file holds {raw.size:,}")
    if raw.encoding == pickle_parser.LATIN:
        read = functools.partial(_text_array, data, raw, dtype, shape, where, value.fortran)
        made = Tensor(shape, dtype.newbyteorder("="), read)
    else:
        made = reading.tensor(data, raw.start, dtype, shape, where, value.fortran)
    return made if value.axes is None else _transposed(made, value.axes)


def _transposed(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    shape = tuple(tensor.shape[axis] for axis in axes)
    return Tensor(shape, tensor.dtype, lambda: tensor.read().transpose(axes))


def _text_array(
    data: np.ndarray, raw: pickle_parser.Raw, dtype: np.dtype, shape: tuple[int, ...], where: str, fortran: bool
) -> np.ndarray:
    text = buffers.fetched(data[raw.start : raw.start + raw.size]).tobytes()
    content = pickle_parser.latin(text, raw.encoding)
    if content is None or len(content) != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"{where} is corrupt: its text does not stand for the bytes of {dtype} {shape}")
    return reading.array(np.frombuffer(content, np.uint8), 0, dtype, shape, where, fortran)
