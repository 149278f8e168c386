"""TensorFlow checkpoints of format V2, as `tf.train.Saver` restores them and `tf.train.load_checkpoint` reads them.

One data file, in which every tensor begins at a multiple of 64 bytes, so that it can be used as it is mapped; the index
is as `weights.bundle` reads it. A checkpoint of TensorFlow 2's objects cannot be written: its graph of objects is that
of a program.

Source: tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from tfxfer.formats.buffers import ALIGNMENT
from tfxfer.formats.leveldb import masked
from tfxfer.formats.protobuf import BYTES, FIXED32, tag
from tfxfer.formats.tensors import Tensor
from tfxfer.weights import slices, streams
from tfxfer.weights.tf_types import DTYPES, QUANTIZED
from tfxfer.weights.writers import wire

WORDS = "TensorFlow checkpoint V2"

_ENUMS = {dtype: enum for enum, dtype in DTYPES.items() if enum not in QUANTIZED}
_HEADER = wire.field(tag(1), 1) + wire.field(tag(3, BYTES), wire.field(tag(1), 1))  # one data file, version 1


def parts(prefix: Path) -> list[Path]:
    """Return the files of a checkpoint in the order in which they are put in place, the index last."""
    return [prefix.with_name(f"{prefix.name}{suffix}") for suffix in (".data-00000-of-00001", ".index")]


def order(tensors: Mapping[str, Tensor]) -> list[str]:
    """Sort names as the index has them: by their bytes."""
    return sorted(tensors, key=str.encode)


def faults(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Say of each tensor that a checkpoint cannot hold why."""
    found = {name: _fault(name, tensor.dtype) for name, tensor in tensors.items()}
    return {name: fault for name, fault in found.items() if fault}


def _fault(name: str, dtype: np.dtype) -> str:
    if not name or slices.is_key(name.encode("utf-8", "surrogatepass")):
        return "its name is empty or begins with a NUL, which a checkpoint keeps for itself"
    return "" if dtype in _ENUMS else f"TensorFlow has no dtype {dtype}"


def write(paths: list[Path], tensors: Mapping[str, Tensor], *, alignment: int = ALIGNMENT) -> None:
    """Write the two files that `parts` names, one tensor at a time.

    Args:
      paths: the files.
      tensors: what to write.
      alignment: of what number of bytes the place of each tensor is a multiple.

    Raises:
      OSError: the disk is full.
      WeightsError: values are missing or fail their checksum.
    """
    entries = [(b"", _HEADER)]
    with paths[0].open("wb") as file:
        for name in order(tensors):
            file.write(b"\0" * (-file.tell() % alignment))
            entries.append((name.encode(), _put(file, tensors[name])))
    paths[1].write_bytes(wire.table(entries))


def _put(file: BinaryIO, tensor: Tensor) -> bytes:
    """Write the values of a tensor and return its BundleEntryProto."""
    offset = file.tell()
    crc = _put_strings(file, tensor) if tensor.dtype.hasobject else _put_numbers(file, tensor)
    shape = b"".join(wire.field(tag(2, BYTES), wire.field(tag(1), size) if size else b"") for size in tensor.shape)
    entry = wire.field(tag(1), _ENUMS[tensor.dtype]) + wire.field(tag(2, BYTES), shape)
    entry += wire.field(tag(4), offset) if offset else b""
    entry += wire.field(tag(5), file.tell() - offset) if file.tell() > offset else b""
    return entry + wire.field(tag(6, FIXED32), masked(crc))


def _put_numbers(file: BinaryIO, tensor: Tensor) -> int:
    crc = 0

    def see(piece: np.ndarray) -> None:
        nonlocal crc
        crc = google_crc32c.extend(crc, piece)

    streams.put(file, tensor, see)
    return crc


def _put_strings(file: BinaryIO, tensor: Tensor) -> int:
    # WriteStringTensor: the lengths as varints, their masked checksum, the bytes; the checksum runs over the lengths as
    # fixed32 (fixed64 from 4 GiB on), the masked one, and the bytes.
    texts = [text for piece in streams.pieces(tensor) for text in piece.tolist()]
    crc = 0
    for text in texts:
        crc = google_crc32c.extend(crc, len(text).to_bytes(4 if len(text) < 1 << 32 else 8, "little"))
    check = masked(crc).to_bytes(4, "little")
    file.write(b"".join(wire.varint(len(text)) for text in texts) + check)
    crc = google_crc32c.extend(crc, check)
    for text in texts:
        crc = google_crc32c.extend(crc, text)
        file.write(text)
    return crc
