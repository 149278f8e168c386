"""PyTorch's `.pth` files in the zip form of PyTorch 1.6 and later, which `torch.load(weights_only=True)` reads.

A pickle names the tensors, in the order of an OrderedDict, as a state dict is; it is what torch.save writes for one,
byte for byte. The values of each stand in a member of their own, at a multiple of 64 bytes, stored and not compressed.
As for torch.save into a buffer, the folder in the archive is called `archive`, so that the bytes do not depend on where
the file lies.

Source: torch/serialization.py (`_save`, `_load`), torch/_tensor.py (`_reduce_ex_internal`), torch/_utils.py
(`_rebuild_tensor_v2`, `_rebuild_tensor_v3`) and caffe2/serialize/inline_container.cc; CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import itertools
import sys
import zipfile
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from tfxfer.formats.tensors import Tensor
from tfxfer.weights import streams
from tfxfer.weights.writers import archives

WORDS = "PyTorch .pth file"

# A storage knows the dtype of its numbers by its class.
STORAGES = {
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.complex128): "ComplexDoubleStorage",
    np.dtype(np.complex64): "ComplexFloatStorage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.int32): "IntStorage",
    np.dtype(np.int16): "ShortStorage",
    np.dtype(np.int8): "CharStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
}
# For those that came later, PyTorch 2.1 to 2.7, it is of bytes, and the tensor names the dtype.
UNTYPED = {
    np.dtype(np.uint16): "uint16",
    np.dtype(np.uint32): "uint32",
    np.dtype(np.uint64): "uint64",
    np.dtype(ml_dtypes.float8_e4m3fn): "float8_e4m3fn",
    np.dtype(ml_dtypes.float8_e4m3fnuz): "float8_e4m3fnuz",
    np.dtype(ml_dtypes.float8_e5m2): "float8_e5m2",
    np.dtype(ml_dtypes.float8_e5m2fnuz): "float8_e5m2fnuz",
    np.dtype(ml_dtypes.float8_e8m0fnu): "float8_e8m0fnu",
}
MAX_TENSORS = 13_000  # each takes some 40 steps of a pickle, and a reader bounds them
_BATCH = 1000  # entries of a dict that pickle puts in at once


def faults(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Say of each tensor that such a file cannot hold why."""
    found = {
        name: f"PyTorch has no dtype {'for strings' if tensor.dtype.kind in 'OSU' else tensor.dtype}"
        for name, tensor in tensors.items()
        if tensor.dtype not in STORAGES and tensor.dtype not in UNTYPED
    }
    if len(tensors) > MAX_TENSORS:
        found[next(iter(tensors))] = f"it is one of {len(tensors):,}, and {MAX_TENSORS:,} is the most"
    return found


def write(paths: list[Path], tensors: Mapping[str, Tensor]) -> None:
    """Write the one file of `paths`, one tensor at a time.

    Raises:
      OSError: the disk is full.
      WeightsError: values are missing or fail their checksum.
    """
    with paths[0].open("wb") as whole, zipfile.ZipFile(whole, "w") as archive:

        def add(name: str, content: bytes) -> None:
            with archives.member(archive, whole, f"archive/{name}", len(content)) as file:
                file.write(content)

        add("data.pkl", _Pickle().state_dict(tensors))
        add("byteorder", sys.byteorder.encode())
        for number, tensor in enumerate(tensors.values()):
            with archives.member(archive, whole, f"archive/data/{number}", tensor.nbytes) as file:
                streams.put(file, tensor)
        add("version", b"3\n")


class _Pickle:
    """A pickle of protocol 2 in the making: every value that is not a number is noted in a memo, and said once."""

    def __init__(self) -> None:
        self.code = bytearray(b"\x80\x02")
        self.memo: dict[Hashable, int] = {}

    def state_dict(self, tensors: Mapping[str, Tensor]) -> bytes:
        """Return the pickle of a state dict."""
        self.ordered_dict()
        entries = enumerate(tensors.items())
        while batch := list(itertools.islice(entries, _BATCH)):
            self.code += b"(" if len(batch) > 1 else b""
            for number, (name, tensor) in batch:
                self.text(name, known=False)
                self.tensor(str(number), tensor)
            self.code += b"u" if len(batch) > 1 else b"s"
        return bytes(self.code) + b"."

    def tensor(self, key: str, tensor: Tensor) -> None:
        """Add the call that rebuilds a tensor from its storage."""
        later = UNTYPED.get(tensor.dtype)
        self.name(f"torch._utils _rebuild_tensor_v{3 if later else 2}")
        self.code += b"(("
        self.text("storage")
        self.name("torch.storage UntypedStorage" if later else f"torch {STORAGES[tensor.dtype]}")
        self.text(key, known=False)
        self.text("cpu")
        self.number(tensor.nbytes if later else tensor.size)
        self.code += b"t"
        self.note()
        self.code += b"QK\0"  # the storage of this persistent id, from its first number
        self.numbers(tensor.shape)
        self.numbers(_strides(tensor.shape))
        self.code += b"\x89"  # requires no gradient
        self.ordered_dict()  # of hooks
        if later:
            self.name(f"torch {later}")
        self.code += b"t"
        self.note()
        self.code += b"R"
        self.note()

    def ordered_dict(self) -> None:
        """Add an empty OrderedDict."""
        self.name("collections OrderedDict")
        self.code += b")R"
        self.note()

    def name(self, name: str) -> None:
        """Add a function or a class: its module, a blank, its name."""
        self.once(("name", name), b"c" + name.replace(" ", "\n").encode() + b"\n")

    def text(self, text: str, known: bool = True) -> None:
        """Add a text.

        Args:
          text: what is added.
          known: whether it is one that comes with every tensor.
        """
        raw = text.encode()
        code = b"X" + len(raw).to_bytes(4, "little") + raw
        if known:
            self.once(("text", text), code)
        else:
            self.code += code
            self.note()

    def once(self, key: Hashable, code: bytes) -> None:
        """Add what makes a value, or what recalls it from the memo."""
        if key in self.memo:
            self.code += _indexed(b"hj", self.memo[key])
        else:
            self.code += code
            self.note(key)

    def note(self, key: Hashable = None) -> None:
        """Note the last value in the memo."""
        index = len(self.memo)
        self.memo[index if key is None else key] = index
        self.code += _indexed(b"qr", index)

    def numbers(self, values: tuple[int, ...]) -> None:
        """Add a tuple of numbers."""
        many = len(values) > 3
        self.code += b"(" if many else b""
        for value in values:
            self.number(value)
        self.code += b"t" if many else (b")", b"\x85", b"\x86", b"\x87")[len(values)]
        if values:
            self.note()

    def number(self, value: int) -> None:
        """Add a number that is not negative."""
        for opcode, size, limit in ((b"K", 1, 1 << 8), (b"M", 2, 1 << 16), (b"J", 4, 1 << 31)):
            if value < limit:
                self.code += opcode + value.to_bytes(size, "little")
                return
        size = value.bit_length() // 8 + 1
        self.code += b"\x8a" + bytes([size]) + value.to_bytes(size, "little")


def _indexed(opcodes: bytes, index: int) -> bytes:
    return opcodes[:1] + bytes([index]) if index < 256 else opcodes[1:] + index.to_bytes(4, "little")


def _strides(shape: Iterable[int]) -> tuple[int, ...]:
    """Return how many numbers lie between neighbours of each dimension, as PyTorch counts."""
    steps = itertools.accumulate((max(size, 1) for size in reversed(tuple(shape))), int.__mul__, initial=1)
    return tuple(steps)[-2::-1]
