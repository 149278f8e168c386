"""MNIST as it is published: four idx files, gzipped or not.

An idx file is a magic number (two zeros, the code of the dtype, the rank), the dimensions as big-endian uint32, and the
bytes. The format: http://yann.lecun.com/exdb/mnist. Fashion-MNIST and KMNIST come in the same files.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from tfxfer import names
from tfxfer.data.splits import Data, Split, check, labels_outside, stratified
from tfxfer.errors import DataError

SIZE = 28
CLASSES = 10
MAX_BYTES = 1 << 30  # EMNIST, the largest set in this format, has 0.55e9
IMAGES, LABELS = 3, 1  # ranks
FILES = (("train-images", IMAGES), ("train-labels", LABELS), ("t10k-images", IMAGES), ("t10k-labels", LABELS))
MAGIC = {rank: bytes([0, 0, 0x08, rank]) for rank in (IMAGES, LABELS)}  # 0x08: unsigned bytes

AGAIN = "download it again"
KINDS = {
    b"<": "an HTML or XML page, as failed downloads leave",
    b"\x1f\x8b": "gzip inside gzip",
    b"PK": "a zip archive",
    b"\x89PNG": "a PNG picture",
    b"vers": "a Git LFS pointer; fetch the file with `git lfs pull`",
    MAGIC[IMAGES]: "an idx file of images",
    MAGIC[LABELS]: "an idx file of labels",
    b"\0\0": "an idx file of another rank or dtype",
}


def mnist(directory: str | os.PathLike[str], seed: int = 0, validation: int = 5000) -> Data:
    """Read the four idx files of a directory; of the training files a stratified part becomes the validation split.

    Args:
      directory: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
        `t10k-labels-idx1-ubyte`, each also with `.idx` for `-idx`, and with or without `.gz`.
      seed: of the validation split, 0 to 2**32 - 1.
      validation: how many examples it takes from the training files.

    Returns:
      Images uint8 [n, 28, 28, 1] and labels int64 [n], 0 to 9; test is t10k.

    Raises:
      DataError: files are missing, cut short, damaged, no idx files, or do not belong together (all of these at once);
        or a class has too few examples for the split.
    """
    folder = Path(directory)
    arrays, problems = _read_all(folder)
    problems += [problem for half in ("train", "t10k") for problem in _disagreement(half, arrays)]
    if problems:
        raise DataError("\n  ".join([f"cannot read MNIST from {folder}:", *problems]))
    train, test = (Split(arrays[f"{half}-images"], arrays[f"{half}-labels"]) for half in ("train", "t10k"))
    kept, held_out = stratified(arrays["train-labels"], (len(train) - validation, validation), seed)
    class_names = tuple(str(digit) for digit in range(CLASSES))
    data = Data(train.take(kept), train.take(held_out), test, class_names, fixed_test=True)
    check(data)
    return data


def has_files(directory: str | os.PathLike[str]) -> bool:
    """Say whether one of MNIST's four files lies in a directory, by its name."""
    return any(_find(Path(directory), stem, rank) is not None for stem, rank in FILES)


def _read_all(folder: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return what can be read, by stem, and what is wrong with the rest."""
    arrays: dict[str, np.ndarray] = {}
    missing: list[str] = []
    problems: list[str] = []
    for stem, rank in FILES:
        path = _find(folder, stem, rank)
        if path is None:
            missing.append(f"{stem}-idx{rank}-ubyte")
            continue
        try:
            arrays[stem] = read_images(path) if rank == IMAGES else read_labels(path)
        except DataError as error:
            problems.append(str(error))
    if missing:
        wanted = f"missing, with or without .gz: {', '.join(missing)}"
        problems.append(f"{wanted}; {_contents(folder)}; put the files there, or name the directory that has them")
    return arrays, problems


def _find(folder: Path, stem: str, rank: int) -> Path | None:
    spellings = [f"{stem}{dot}idx{rank}-ubyte{gz}" for gz in ("", ".gz") for dot in "-."]
    # Files only, because one well-known archive has folders of these names beside them; and by os.path, which takes a
    # directory that may not be entered for one without the file.
    return next((folder / name for name in spellings if os.path.isfile(folder / name)), None)


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "the directory does not exist"
    try:
        entries = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"the directory cannot be listed ({error.strerror})"
    return f"the directory holds {names.listed(entries)}" if entries else "the directory is empty"


def _disagreement(half: str, arrays: dict[str, np.ndarray]) -> list[str]:
    images, labels = arrays.get(f"{half}-images"), arrays.get(f"{half}-labels")
    if images is None or labels is None or len(images) == len(labels):
        return []
    return [f"{half}: {len(images):,} images, but {len(labels):,} labels; take both files from one source"]


def read_images(path: Path) -> np.ndarray:
    """Read an idx file of 28x28 pictures as uint8 [n, 28, 28, 1].

    Raises:
      DataError: see `read_idx`; or the pictures have another size.
    """
    return read_idx(path, (SIZE, SIZE))[..., np.newaxis]


def read_labels(path: Path) -> np.ndarray:
    """Read an idx file of labels as int64 [n].

    Raises:
      DataError: see `read_idx`; or a label is not within 0..9.
    """
    labels = read_idx(path, ()).astype(np.int64)
    if outside := labels_outside(labels, CLASSES):
        raise DataError(f"{path}: {outside}; this is not MNIST, or the file is damaged")
    return labels


def read_idx(path: Path, example: tuple[int, ...]) -> np.ndarray:
    """Read an idx file of bytes, gzipped or not, whatever its name says.

    Memory is bounded by what the file really holds and by 1 GiB, not by what its header announces.

    Args:
      path: the file.
      example: the shape of one example, which the header must announce.

    Returns:
      uint8 [n, *example].

    Raises:
      DataError: it cannot be opened, is not such a file, is cut short, damaged, too large, or longer than it announces.
    """
    try:
        with path.open("rb") as file:
            zipped = file.peek(2)[:2] == b"\x1f\x8b"
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
            shape = _read_header(path, stream, example)
            return _read_bytes(path, stream, math.prod(shape)).reshape(shape)
    except EOFError:
        raise DataError(f"{path}: the gzip stream ends early, the file is cut short; {AGAIN}") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip stream is damaged ({error}); {AGAIN}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_header(path: Path, stream: BinaryIO, example: tuple[int, ...]) -> tuple[int, ...]:
    rank = 1 + len(example)
    header = stream.read(4 + 4 * rank)
    _check_magic(path, header[:4], MAGIC[rank])
    if len(header) < 4 + 4 * rank:
        raise DataError(f"{path}: ends within its header, after {len(header)} bytes; {AGAIN}")
    shape = struct.unpack(f">{rank}I", header[4:])
    if shape[1:] != example:
        raise DataError(f"{path}: announces examples of {_times(shape[1:])}, not {_times(example)}; this is not MNIST")
    if math.prod(shape) > MAX_BYTES:
        raise DataError(
            f"{path}: announces {_times(shape)} bytes, more than {MAX_BYTES:,}; its header is damaged, {AGAIN}"
        )
    return shape


def _check_magic(path: Path, got: bytes, wanted: bytes) -> None:
    if len(got) < 4:
        raise DataError(f"{path}: has only {len(got)} bytes; {AGAIN}")
    if got != wanted:
        kind = next((kind for start, kind in KINDS.items() if got.startswith(start)), "something else")
        raise DataError(
            f"{path}: its magic number is 0x{got.hex()}, not 0x{wanted.hex()}: this is not {KINDS[wanted]}, "
            f"but perhaps {kind}; put the published file there"
        )


def _read_bytes(path: Path, stream: BinaryIO, size: int) -> np.ndarray:
    # Piece by piece, because read(size) would allocate what a hostile header asks for; and one byte beyond, because
    # only at its end is a gzip stream found complete and its checksum right.
    content = bytearray()
    while len(content) <= size and (piece := stream.read(min(1 << 20, size + 1 - len(content)))):
        content += piece
    if len(content) < size:
        raise DataError(f"{path}: holds {len(content):,} of the {size:,} bytes that its header announces; {AGAIN}")
    if len(content) > size:
        raise DataError(f"{path}: goes on after the {size:,} bytes that its header announces; {AGAIN}")
    return np.frombuffer(content, np.uint8)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)
