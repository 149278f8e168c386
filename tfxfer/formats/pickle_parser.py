"""Pickles without unpickling: a walk over the opcodes that builds arrays, containers and numbers, and no more.

No name in the file is ever looked up or called: the handful of functions that pickled arrays and dicts consist of are
known here by their names, and what they would do is done here. Of an object of any other class nothing is made but
words about it, so that the arrays beside it can be read. The bytes of the arrays stay in the file.

Python 3 with NumPy up to 1.16 wrote by protocol 2, which has no bytes: they stand as text, and a call of
`_codecs.encode(text, "latin1")` makes bytes of it.

Source: CPython's Lib/pickletools.py for the opcodes; array_reduce and array_setstate in numpy/_core/src/multiarray's
methods.c, and arraydescr_reduce in its descriptor.c, for what arrays and dtypes consist of.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats.reading import Cursor

MAX_OPCODES = 200_000  # an array takes about 30

_DTYPE = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,6}")
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_KNOWN = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    **{(module, name): name for module in _MODULES for name in ("_reconstruct", "scalar")},
    ("numpy.core.numeric", "_frombuffer"): "_frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "_frombuffer",
    ("_codecs", "encode"): "encode",
    ("collections", "OrderedDict"): "OrderedDict",
    ("collections", "defaultdict"): "defaultdict",
    **{
        (module, name): name
        for module in ("builtins", "__builtin__")
        for name in ("bytes", "dict", "list", "tuple", "int", "float", "str", "object")
    },
}
_DIGITS = re.compile(rb"-?\d+")
LATIN = "latin-1, as text in UTF-8"  # bytes that stand as text
MOST_BYTES = 1024  # of an integer
MOST_DIGITS = 20  # of an integer, with its sign
MOST_KEYS = 16  # in a tuple that is a key
MOST_FUNCTIONS = 1000  # that are not called
MOST_TEXT = 4096  # bytes of a key, or of a name


class Raw(NamedTuple):
    """Bytes or text that stay in the file, in an encoding of Python's or in LATIN."""

    start: int
    size: int
    encoding: str


class Key(NamedTuple):
    """The key of a dict: the name of its type, and the key as text."""

    kind: str
    text: str


@dataclasses.dataclass(eq=False, slots=True)
class Odd:
    """A value that is not an array, in words; and the state that the pickle would give to it, as data."""

    words: str
    state: Any = None


class Function(NamedTuple):
    """A function or class by its name; calling it is up to this module."""

    name: str


@dataclasses.dataclass
class Dtype:
    """A pickled numpy dtype."""

    text: str
    order: str = "="


@dataclasses.dataclass
class Array:
    """A pickled array: its values are bytes in the file, or a list where it is one of objects.

    Where `axes` are given, it is what lies in the file under `shape`, with its axes in that order.
    """

    shape: tuple[int, ...] = ()
    dtype: Dtype | None = None
    fortran: bool = False
    content: Raw | list[Any] | None = None
    axes: tuple[int, ...] | None = None


class Machine:
    """The stack machine of pickle, for the opcodes that arrays, containers and numbers need.

    Attributes:
      opcodes: what each opcode does.
      known: the functions that `called` knows: module and name, and the name there.
      most_opcodes: how many steps a pickle may take.
    """

    opcodes: ClassVar[Mapping[bytes, Callable[[Any], object]]]
    known: ClassVar[Mapping[tuple[str, str], str]] = _KNOWN
    most_opcodes: ClassVar[int] = MAX_OPCODES

    def __init__(self, cursor: Cursor) -> None:
        """Start at the first opcode, which `cursor` is before."""
        self.cursor = cursor
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.refusals: dict[str, str] = {}
        self.refused = 0
        self.objects = itertools.count()  # that are keys of dicts

    def run(self) -> Any:
        """Return what the pickle builds.

        Raises:
          WeightsError: it is cut short or corrupt, or wants more than this machine does.
        """
        for _ in range(self.most_opcodes):
            opcode = bytes(self.cursor.take(1))
            if opcode == b".":
                return self.pop()
            if opcode not in self.opcodes:
                raise WeightsError(
                    f"{self.cursor.where} is refused: opcode {opcode!r} of its pickle at {self.cursor.position - 1:,} "
                    "builds something else than arrays, dicts, lists, tuples, strings and numbers"
                )
            self.opcodes[opcode](self)
        raise WeightsError(f"{self.cursor.where} is hostile: its pickle takes more than {self.most_opcodes:,} steps")

    def fail(self, why: str) -> WeightsError:
        """Make the error for a pickle that cannot be."""
        return WeightsError(
            f"{self.cursor.where} is corrupt: its pickle is wrong before byte {self.cursor.position:,}: {why}"
        )

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the last value from the stack, which must not reach below the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.fail("a value is missing")
        return self.stack.pop()

    def pops(self, count: int) -> tuple[Any, ...]:
        """Take the last values, in the order in which they came."""
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise self.fail("a value is missing")
        values, self.stack[start:] = tuple(self.stack[start:]), []
        return values

    def marked(self) -> list[Any]:
        """Take all values since the last mark, and the mark."""
        if not self.marks:
            raise self.fail("a mark is missing")
        start = self.marks.pop()
        values, self.stack[start:] = self.stack[start:], []
        return values

    def text(self, raw: object) -> str:
        """Read a short string, such as a name."""
        if not isinstance(raw, Raw) or raw.size > MOST_TEXT:
            raise self.fail("a short string is missing")
        try:
            encoding = "utf-8" if raw.encoding == LATIN else raw.encoding
            return bytes(self.cursor.data[raw.start : raw.start + raw.size]).decode(encoding)
        except UnicodeDecodeError:
            raise self.fail("a string is not in its encoding") from None

    def raw(self, size: int, encoding: str) -> None:
        """Pass over a string whose length has `size` bytes."""
        length = self.cursor.number(size)
        self.push(Raw(self.cursor.position, length, encoding))
        self.cursor.take(length)

    def integer(self, size: int, signed: bool = True) -> None:
        """Push an integer of `size` bytes."""
        self.push(int.from_bytes(self.cursor.take(size), "little", signed=signed))

    def long(self, size: int) -> None:
        """Push an integer whose length has `size` bytes."""
        length = self.cursor.number(size)
        if length > MOST_BYTES:
            raise self.fail(f"an integer of {length:,} bytes")
        if length > 8:
            self.cursor.take(length)
            self.push(Odd(_long_words(length)))
        else:
            self.integer(length)

    def digits(self) -> None:
        """Push an integer in digits, as Python 2 writes what takes more than 32 bits; 00 and 01 are booleans."""
        text = self.cursor.until(b"\n", MOST_DIGITS + 1)
        if text in (b"00", b"01"):
            self.push(text == b"01")
            return
        if not _DIGITS.fullmatch(text) or not -(1 << 63) <= int(text) < 1 << 63:
            raise self.fail("an integer in digits has other characters, or more than 64 bits")
        self.push(int(text))

    def recall(self, size: int) -> None:
        """Push a value from the memo."""
        index = self.cursor.number(size)
        if index not in self.memo:
            raise self.fail(f"value {index} of its memo is missing")
        self.push(self.memo[index])

    def remember(self, index: int) -> None:
        """Note the last value in the memo."""
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def extend(self, values: list[Any]) -> None:
        """Append values to the list on the stack."""
        target = self.pop()
        if type(target) is list:
            target.extend(values)
        elif not isinstance(target, Odd):
            raise self.fail("a list is missing")
        self.push(target)

    def update(self, flat: list[Any]) -> None:
        """Put keys and values, in turns, into the dict on the stack."""
        target = self.pop()
        if isinstance(target, Odd):
            flat = []
        elif type(target) is not dict or len(flat) % 2:
            raise self.fail("a dict, or the value of a key, is missing")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            target[self.key(key)] = value
        self.push(target)

    def key(self, value: object) -> Key:
        """Return what tells a key of a dict from others, 1 from "1" for one: its type and its text.

        Objects, such as members of an enumeration, are numbered through the pickle.
        """
        if isinstance(value, Array):  # one of numpy's scalars, as np.str_
            value = self.scalar(value)
        if value is None or isinstance(value, bool | int | float):
            return Key(type(value).__name__, str(value))
        if type(value) is tuple and len(value) <= MOST_KEYS and not any(type(part) is tuple for part in value):
            text = "/".join(self.key(part).text for part in value)
            if len(text) > MOST_TEXT:
                raise self.fail(f"a key of {len(text):,} characters")
            return Key("tuple", text)
        if not isinstance(value, str | Raw | list | dict) and type(value) is not tuple:
            return Key("object", f"object {next(self.objects)}")
        return Key("str", value if isinstance(value, str) else self.text(value))

    def scalar(self, array: Array) -> object:
        """Return the value of one of numpy's scalars, as Python has it."""
        dtype, raw = plain_dtype(array.dtype), array.content
        if dtype is None or not isinstance(raw, Raw) or array.shape != () or raw.size > 2 * dtype.itemsize:
            raise self.fail("a key of a dict that is neither text nor a number")
        content = latin(bytes(self.cursor.data[raw.start : raw.start + raw.size]), raw.encoding)
        if content is None or len(content) != dtype.itemsize or not content:
            raise self.fail("a key of a dict does not have the bytes of its dtype")
        try:
            return np.frombuffer(content, dtype)[0].item()
        except (SystemError, ValueError):  # what NumPy raises for a character beyond Unicode
            raise self.fail("a key of a dict is not Unicode text") from None

    def function(self, module: str, name: str) -> None:
        """Push one of the few functions that arrays and dicts need, or words about any other."""
        known = self.known.get((module, name))
        self.push(Odd(self.refusal(f"{module}.{name}")) if known is None else Function(known))

    def refusal(self, name: str) -> str:
        """Return words about a function that is not called, the same string each time."""
        self.refused += 1
        if len(self.refusals) > MOST_FUNCTIONS or self.refused > 100 * MOST_FUNCTIONS:
            raise WeightsError(
                f"{self.cursor.where} is hostile: its pickle names more than {MOST_FUNCTIONS:,} functions, or some of "
                "them again and again"
            )
        if name in self.refusals:
            return self.refusals[name]
        self.refusals[name] = (
            f"refused: its pickle would call {name}; tfxfer reads arrays, dicts, lists, tuples, strings "
            "and numbers, and runs no code from a file"
        )
        return self.refusals[name]

    def call(self) -> None:
        """Do what numpy's functions would do with the arguments on the stack."""
        function, arguments = self.pops(2)
        made: object = dataclasses.replace(function) if isinstance(function, Odd) else None
        if isinstance(function, Function):
            made = self.called(function.name, arguments)
        if made is None:
            raise self.fail("a call that numpy's arrays do not need")
        self.push(made)

    def called(self, name: str, arguments: object) -> object:
        """Return what a function would make of its arguments; None where that is not known."""
        match name, arguments:
            case "defaultdict", (Odd(),):  # what a missing key would call
                return {}
            case _, (Odd() as odd, *_):
                return odd
            case "encode", (Raw() as raw, Raw() as encoding) if self.text(encoding) in ("latin1", "latin-1"):
                return raw._replace(encoding=LATIN) if raw.encoding == "utf-8" else None
            case "bytes", ():
                return Raw(self.cursor.position, 0, "latin-1")
            case ("defaultdict", (Function() | None,)) | (("OrderedDict" | "dict" | "defaultdict"), ()):
                return {}
            case "OrderedDict", (list() as pairs,) if all(type(p) in (list, tuple) and len(p) == 2 for p in pairs):
                return {self.key(pair[0]): pair[1] for pair in pairs}
        return _called(name, arguments, self.text)

    def make(self, count: int) -> None:
        """Stand in for an object of a class that is not known, with its arguments."""
        made = self.pops(count)[0]
        if not isinstance(made, Odd):
            raise self.fail("an object that is neither an array nor a dict")
        self.push(dataclasses.replace(made))

    def build(self) -> None:
        """Give an array or a dtype its state."""
        target, state = self.pops(2)
        if isinstance(target, Odd):
            target.state = state
        if isinstance(target, Odd | dict):  # the attributes of a dict are not among its values
            self.push(target)
            return
        if not isinstance(state, tuple):
            raise self.fail("a state is missing")
        if isinstance(target, Dtype) and len(state) >= 5:
            # Fields, or the unit of dates, which comes ninth: no dtype of numbers.
            plain = state[2:5] == (None, None, None) and len(state) < 9
            target.order, target.text = self.text(state[1]), target.text if plain else ""
        elif isinstance(target, Array) and len(state) == 5 and isinstance(state[3], int):
            _, target.shape, target.dtype, fortran, target.content = state
            target.fortran = bool(fortran)
        else:
            raise self.fail("a state that belongs to no array and no plain dtype")
        self.push(target)


@functools.cache
def _long_words(length: int) -> str:
    return f"an integer of {length} bytes, for which NumPy has no dtype"


def latin(content: bytes, encoding: str) -> bytes | None:
    """Return the bytes that a string stands for; None where text of LATIN is none."""
    if encoding != LATIN:
        return content
    try:
        return content.decode().encode("latin-1")
    except UnicodeError:
        return None


def plain_dtype(pickled: object) -> np.dtype | None:
    """Return a pickled dtype of numbers, booleans or strings; None for any other, as of strings of no characters."""
    if not isinstance(pickled, Dtype) or not _DTYPE.fullmatch(pickled.text):
        return None
    try:
        dtype = np.dtype(pickled.text)
    except TypeError:  # such as f3
        return None
    if not dtype.itemsize:  # NumPy takes it for strings of any length, and makes room for one character or more
        return None
    return dtype.newbyteorder(">") if pickled.order == ">" else dtype


def _called(name: str, arguments: object, text: Callable[[object], str]) -> Array | Dtype | None:
    match name, arguments:
        case "_reconstruct", (Function("ndarray"), *_):
            return Array()
        case "dtype", (Raw() as kind, *_):
            return Dtype(text(kind))
        case "scalar", (Dtype() as dtype, Raw() as content):
            return Array((), dtype, False, content)
        case "_frombuffer", (Raw() as content, Dtype() as dtype, tuple() as shape, Raw() as order, *axes):
            return _laid_out(Array(shape, dtype, False, content), text(order), axes)
    return None


def _laid_out(array: Array, order: str, axes: list[object]) -> Array | None:
    """Say how an array lies in its buffer, as NumPy 2.4 does for one that is in the order of neither C nor F."""
    match order, axes:
        case "K", [tuple() as places] if _is_permutation(places, len(array.shape)):
            return dataclasses.replace(array, axes=places)
        case (("C" | "F"), ([] | [None])):
            return dataclasses.replace(array, fortran=order == "F")
    return None


def _is_permutation(places: tuple[object, ...], count: int) -> bool:
    return all(type(place) is int for place in places) and set(places) == set(range(count)) and len(places) == count


def _float(machine: Machine) -> None:
    machine.push(struct.unpack(">d", machine.cursor.take(8))[0])


def _global(machine: Machine) -> None:
    module, name = machine.cursor.until(b"\n", 256), machine.cursor.until(b"\n", 256)
    machine.function(module.decode("utf-8", "replace"), name.decode("utf-8", "replace"))


def _stack_global(machine: Machine) -> None:
    module, name = machine.pops(2)
    machine.function(machine.text(module), machine.text(name))


def _frozen(machine: Machine) -> None:
    machine.marked()
    machine.push(Odd("a set"))


def _dict(machine: Machine) -> None:
    flat = machine.marked()
    machine.push({})
    machine.update(flat)


_OPCODES: dict[bytes, Callable[[Machine], object]] = {
    b"\x80": lambda m: m.cursor.take(1),  # PROTO
    b"\x95": lambda m: m.cursor.take(8),  # FRAME
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.integer(1, signed=False),
    b"M": lambda m: m.integer(2, signed=False),
    b"J": lambda m: m.integer(4),
    b"I": lambda m: m.digits(),
    b"\x8a": lambda m: m.long(1),
    b"\x8b": lambda m: m.long(4),
    b"G": _float,
    b"U": lambda m: m.raw(1, "latin-1"),  # the strings of Python 2
    b"T": lambda m: m.raw(4, "latin-1"),
    b"C": lambda m: m.raw(1, "latin-1"),
    b"B": lambda m: m.raw(4, "latin-1"),
    b"\x8e": lambda m: m.raw(8, "latin-1"),
    b"\x96": lambda m: m.raw(8, "latin-1"),  # BYTEARRAY8
    b"\x8c": lambda m: m.raw(1, "utf-8"),
    b"X": lambda m: m.raw(4, "utf-8"),
    b"\x8d": lambda m: m.raw(8, "utf-8"),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"0": lambda m: m.pop(),
    b"1": lambda m: m.marked(),
    b"l": lambda m: m.push(m.marked()),
    b"t": lambda m: m.push(tuple(m.marked())),
    b"\x85": lambda m: m.push(m.pops(1)),
    b"\x86": lambda m: m.push(m.pops(2)),
    b"\x87": lambda m: m.push(m.pops(3)),
    b"d": _dict,
    b"a": lambda m: m.extend([m.pop()]),
    b"e": lambda m: m.extend(m.marked()),
    b"s": lambda m: m.update(list(m.pops(2))),
    b"u": lambda m: m.update(m.marked()),
    b"q": lambda m: m.remember(m.cursor.number(1)),
    b"r": lambda m: m.remember(m.cursor.number(4)),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"h": lambda m: m.recall(1),
    b"j": lambda m: m.recall(4),
    b"c": _global,
    b"\x93": _stack_global,
    b"R": lambda m: m.call(),
    b"\x81": lambda m: m.make(2),  # NEWOBJ
    b"\x92": lambda m: m.make(3),  # NEWOBJ_EX
    b"\x8f": lambda m: m.push(Odd("a set")),
    b"\x90": lambda m: m.extend(m.marked()),  # ADDITEMS, to a set
    b"\x91": _frozen,
    b"b": lambda m: m.build(),
}
Machine.opcodes = _OPCODES
