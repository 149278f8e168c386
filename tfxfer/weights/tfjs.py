"""Models of TensorFlow.js: a manifest in JSON, and the values in the files that it names, the shards.

`model.json` holds `weightsManifest`, a list of groups; in the `weights_manifest.json` of graph models before 1.0, which
lies beside `tensorflowjs_model.pb`, the list is everything. So it is in the NAME-weights_manifest.json of face-api.js,
whose shards are NAME-shard1 or NAME.bin; a browser saves NAME.json and NAME.weights.bin. A group has `paths`, whose
files make one row of bytes together, and `weights`, which lie in these bytes end to end: {name, shape, dtype,
quantization}. A weight may begin in one shard and end in another. Only the manifest is parsed: a graph in the same file
may be long, and is not needed.

Quantized weights are dequantized as TensorFlow.js does when it loads them: `v * scale + min` in double precision, then
rounded to float32, or to the nearest int32, halves up. The kind of the file says so.

Source: github.com/tensorflow/tfjs, tfjs-core/src/io/io_utils.ts (decodeWeights) and types.ts (WeightsManifestConfig);
tfjs-converter/python/tensorflowjs/write_weights.py, which also writes float16, uint8 and uint16 as they are.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import buffers, reading
from tfxfer.formats.tensors import Tensor, shape_fault, shown, unreadable
from tfxfer.weights import identify, streams

MANIFESTS = ("model.json", "weights_manifest.json")
MAX_MANIFEST = 8 << 20  # bytes; some 70,000 weights
MAX_STRINGS = 1_000_000  # in all weights; where one ends, only a walk along its strings tells

DTYPES = {
    "float32": "<f4",
    "float16": "<f2",
    "int32": "<i4",
    "uint8": "u1",
    "uint16": "<u2",
    "bool": "?",
    "complex64": "<c8",
}
_SAVED = ".weights.bin"  # what a browser saves beside NAME.json
_PREFIXED = re.compile(r"(.+?)(?:-shard\d{1,5}|\.bin)")  # of a model whose files all have its name before theirs
_QUANTIZED = ("uint8", "uint16", "float16")
# A quotation mark with a backslash before it is within a text. That is asked last: a search for letters is fast.
_WHOLE = re.compile(rb'"weightsManifest"(?<!\\"weightsManifest")\s*:\s*(?=\[)')
_PARTS = (re.compile(rb'"paths"\s*:\s*\['), re.compile(rb'"weights"\s*:\s*\['))
_FORMAT = re.compile(rb'"format"(?<!\\"format")\s*:\s*"(?:tfjs-)?(layers|graph)-model"')

Decode = Callable[[np.ndarray], np.ndarray]


class _Shard(NamedTuple):
    """A file with a part of a group's bytes, from `start` on, and its time of modification when it was opened."""

    path: Path
    start: int
    size: int
    time: int


class _Weight(NamedTuple):
    """A weight as the manifest describes it; `dtype` is that of its bytes, "" if its bytes have no known size."""

    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: str
    quantization: dict[str, Any] | None

    @property
    def nbytes(self) -> int | None:
        """The bytes it takes, where dtype and shape tell."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize if self.dtype else None

    @property
    def strings(self) -> int:
        """How many strings it is."""
        return math.prod(self.shape) if self.kind == "string" and not self.quantization else 0


def is_manifest(head: bytes, path: Path) -> bool:
    """Say whether a file that begins with `head` is a manifest, alone or in a `model.json`."""
    if head.lstrip()[:1] not in (b"{", b"["):
        return False
    data = reading.map_file(path).data
    return bool(_WHOLE.search(data)) or (head.lstrip()[:1] == b"[" and all(part.search(data) for part in _PARTS))


def manifest_beside(path: Path) -> Path | None:
    """Return the manifest in a folder, or the one beside a shard that names it; None where there is none.

    Raises:
      WeightsError: a folder holds several models.
    """
    if reading.is_directory(path):
        return _manifest_in(path)
    there = (path.with_name(name) for name in _manifests_of(path))
    return next((file for file in there if _is_there(file) and _names(file, path)), None)


def _is_there(file: Path) -> bool:
    return is_manifest(reading.head(file, 32), file)


def _manifest_in(folder: Path) -> Path | None:
    usual = [folder / name for name in MANIFESTS if _is_there(folder / name)]
    if usual:
        return usual[0]
    inside = reading.siblings(folder)
    likely = [name for name in inside if name.endswith("-weights_manifest.json")]
    saved = [f"{name.removesuffix(_SAVED)}.json" for name in inside if name.endswith(_SAVED)]
    manifests = [name for name in [*likely, *saved] if _is_there(folder / name)]
    if len(manifests) > 1:
        raise WeightsError(
            f"{folder} holds several models of TensorFlow.js: {names.listed(manifests)}; give one of these files"
        )
    return folder / manifests[0] if manifests else None


def _manifests_of(shard: Path) -> list[str]:
    """List what the manifest that belongs to a shard may be called."""
    if identify.is_tfjs_shard(shard):
        return list(MANIFESTS)
    named = [f"{part[1]}-weights_manifest.json"] if (part := _PREFIXED.fullmatch(shard.name)) else []
    if shard.name.endswith(_SAVED):
        named.append(f"{shard.name.removesuffix(_SAVED)}.json")
    return [*named, MANIFESTS[0]] if shard.suffix == ".bin" else named


def _names(manifest: Path, shard: Path) -> bool:
    quoted = rb'["/]%b"' % re.escape(json.dumps(shard.name)[1:-1].encode())
    return identify.is_tfjs_shard(shard) or bool(re.search(quoted, reading.map_file(manifest).data))


def read(path: Path) -> tuple[str, dict[str, Tensor]]:
    """List the weights of a manifest.

    Args:
      path: the manifest, the folder that it lies in, or one of its shards.

    Returns:
      The kind of file in words, and the weights by the names in the manifest. Strings, and what is of an unknown dtype
      or wrongly quantized, are listed with the reason and refuse to be read.

    Raises:
      WeightsError: the manifest is malformed; shards are missing, lie elsewhere than below its folder, or are longer or
        shorter than their weights; or two weights have one name.
    """
    file = manifest_beside(path) or path
    data, where = reading.map_file(file), str(file)
    groups = [_group(group, where) for group in _manifest(data, where)]
    weights = [weight for _, some in groups for weight in some]
    _check_names([weight.name for weight in weights], where)
    shards = _all_shards([paths for paths, _ in groups], file.parent, where)
    walk = sum(weight.strings for weight in weights) <= MAX_STRINGS
    tensors: dict[str, Tensor] = {}
    for parts, (_, some) in zip(shards, groups, strict=True):
        starts, why = _starts(some, parts, walk, where)
        tensors |= {
            weight.name: _tensor(weight, parts, start, why, f"{where}: {weight.name}")
            for weight, start in zip(some, starts, strict=True)
        }
    return _kind(data, weights), tensors


def _kind(data: np.ndarray, weights: list[_Weight]) -> str:
    form = _FORMAT.search(data.data)
    model = f"TensorFlow.js {form[1].decode()} model" if form else "TensorFlow.js model"
    dtypes = [dtype for dtype in _QUANTIZED if any(weight.quantization and weight.dtype == DTYPES[dtype]
                                                   for weight in weights)]  # fmt: skip
    return f"{model}, dequantized from {' and '.join(dtypes)}" if dtypes else model


# --- the manifest ---


def _manifest(data: np.ndarray, where: str) -> list[Any]:
    start = 0
    for match in _WHOLE.finditer(data.data):
        start = match.end()
    text = data[start : start + MAX_MANIFEST].tobytes().partition(b'"modelTopology"')[0]
    if start + MAX_MANIFEST < len(data) and len(text) == MAX_MANIFEST:
        raise WeightsError(f"{where} is refused: its manifest is larger than {MAX_MANIFEST:,} bytes")
    groups = reading.parse_json(text, where, whole=False)
    if not isinstance(groups, list):
        raise WeightsError(f"{where} is corrupt: its weightsManifest is not a list")
    return groups


def _group(group: Any, where: str) -> tuple[list[str], list[_Weight]]:
    match group:
        case {"paths": [*paths], "weights": [*weights]} if all(isinstance(path, str) for path in paths):
            pass
        case _:
            raise WeightsError(f"{where} is corrupt: a group of its weightsManifest lacks its paths or its weights")
    faults = [fault for weight in weights if (fault := _fault(weight))]
    if faults:
        raise WeightsError(f"{where} is corrupt:\n  {shown(faults)}")
    return paths, [_weight(weight) for weight in weights]


def _fault(weight: Any) -> str:
    match weight:
        case {"name": str(name), "dtype": str(), "shape": [*shape]} if all(type(n) is int and n >= 0 for n in shape):
            fault = shape_fault(tuple(shape))
            return f"{name}: {fault}" if fault else ""
        case {"name": str(name)}:
            return f"{name}: its dtype or its shape is missing or malformed"
    return f"{str(weight)[:60]!r} is not the description of a weight"


def _weight(weight: dict[str, Any]) -> _Weight:
    quantization = weight.get("quantization")
    if quantization is None:
        kind = weight["dtype"]
    else:
        quantization = quantization if isinstance(quantization, dict) else {"dtype": None}
        kind = quantization.get("dtype")
        kind = kind if kind in _QUANTIZED else ""
    return _Weight(weight["name"], tuple(weight["shape"]), weight["dtype"], DTYPES.get(kind, ""), quantization)


def _check_names(every: list[str], where: str) -> None:
    seen: set[str] = set()
    twice = [name for name in every if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise WeightsError(f"{where} is corrupt: more than one weight is called {names.listed(dict.fromkeys(twice))}")


# --- its shards ---


def _all_shards(groups: list[list[str]], folder: Path, where: str) -> list[list[_Shard]]:
    every = [path for paths in groups for path in paths]
    if outside := [path for path in every if not _is_inside(path)]:
        raise WeightsError(
            f"{where} is refused: its shards must lie below its folder, and it names {names.listed(outside)}"
        )
    if len({PurePosixPath(path) for path in every}) < len(every):
        raise WeightsError(f"{where} is corrupt: it names a shard more than once")
    if missing := [path for path in every if not reading.exists(folder / path)]:
        raise WeightsError(
            f"{where}: {len(missing)} of {len(every)} shards are missing: {names.listed(missing)}; fetch "
            f"them from where {Path(where).name} came from, and put them into {folder}"
        )
    return [_shards([folder / path for path in paths]) for paths in groups]


def _is_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(pure.name) and not pure.is_absolute() and ".." not in pure.parts and not re.search(r"://|\\|\0", path)


def _shards(paths: list[Path]) -> list[_Shard]:
    stats = [path.stat() for path in paths]
    starts = itertools.accumulate((stat.st_size for stat in stats), initial=0)
    return [
        _Shard(path, start, stat.st_size, stat.st_mtime_ns)
        for path, start, stat in zip(paths, starts, stats, strict=False)
    ]


def _length(shards: list[_Shard]) -> int:
    return sum(shard.size for shard in shards)


def _fetched(shards: list[_Shard], start: int, size: int) -> np.ndarray:
    """Read some bytes of a group, which may lie in several shards, as uint8 [size]."""
    raw = buffers.aligned((size,), np.dtype(np.uint8))
    for shard in shards:
        begin, end = max(start, shard.start), min(start + size, shard.start + shard.size)
        if begin < end:
            piece = _mapped(shard)[begin - shard.start : end - shard.start]
            buffers.copied(piece, raw[begin - start : end - start])
    return raw


def _mapped(shard: _Shard) -> np.ndarray:
    # Mapped each time anew: a model may have more shards than a process may have open files.
    data = reading.map_file(shard.path)
    if (len(data), os.stat(shard.path).st_mtime_ns) != (shard.size, shard.time):
        raise WeightsError(f"{shard.path} has changed since it was opened; open the model again")
    return data


# --- where the weights lie in them ---


def _starts(weights: list[_Weight], shards: list[_Shard], walk: bool, where: str) -> tuple[list[int | None], str]:
    """Return the first byte of each weight of a group, None where it cannot be told, and why it cannot."""
    total, position = _length(shards), 0
    starts: list[int | None] = []
    for weight in weights:
        size = _size(weight, shards, position, walk, where)
        if size is None:
            break
        starts.append(position)
        position += size
    else:
        if position != total:
            raise _wrong_length(shards, position, total, where)
        return starts, ""
    odd, *behind = weights[len(starts) :]
    sizes = [weight.nbytes for weight in behind]
    why = f"it lies behind {odd.name}, whose size the manifest does not tell"
    if None in sizes:
        return starts + [None] * (1 + len(behind)), why
    # What follows the one of unknown size is counted from the end.
    rest = list(itertools.accumulate((-(size or 0) for size in reversed(sizes)), initial=total))[:0:-1]
    if position > (rest or [total])[0]:
        raise _wrong_length(shards, position + total - rest[0] if rest else position, total, where)
    return [*starts, None, *rest], why


def _size(weight: _Weight, shards: list[_Shard], start: int, walk: bool, where: str) -> int | None:
    if weight.kind != "string" or weight.quantization:
        return weight.nbytes
    return _size_of_strings(shards, start, weight.strings, f"{where}: {weight.name}") if walk else None


def _size_of_strings(shards: list[_Shard], start: int, count: int, where: str) -> int:
    """Walk along strings, each of which has its length in the 4 bytes before it."""
    total, at = _length(shards), start
    window, begin = b"", start
    for _ in range(count):
        if at + 4 > begin + len(window):
            window, begin = _fetched(shards, at, max(0, min(1 << 16, total - at))).tobytes(), at
        length = window[at - begin : at - begin + 4]
        at += 4 + int.from_bytes(length, "little")
        if len(length) < 4 or at > total:
            raise WeightsError(f"{where}: its strings go beyond the end of the shards ({total:,} bytes)")
    return at - start


def _wrong_length(shards: list[_Shard], announced: int, held: int, where: str) -> WeightsError:
    # A pointer of Git LFS, a page or a compressed file in the place of a shard.
    strange = [f"{shard.path} is {kind}" for shard in shards if (kind := _other_kind(shard.path))]
    sizes = names.listed(f"{shard.path.name} ({shard.size:,})" for shard in shards) or "no shard"
    return WeightsError(
        f"{where} announces {announced:,} bytes of weights, its shards hold {held:,}: {sizes}; fetch again those that "
        f"are cut short{':' if strange else ''}\n  {shown(strange)}".rstrip()
    )


def _other_kind(path: Path) -> str:
    kind = identify.known(path)
    return "" if "TensorFlow.js" in kind else kind


# --- their values ---


def _tensor(weight: _Weight, shards: list[_Shard], start: int | None, why: str, where: str) -> Tensor:
    fault = _unreadable(weight)
    if not fault and start is None:
        fault = why
    if fault or start is None:
        return unreadable(f"{where}: {fault}", weight.shape)
    stored, decode, dtype = np.dtype(weight.dtype), _plain, np.dtype(weight.dtype).newbyteorder("=")
    if weight.quantization:
        dtype = np.dtype(DTYPES[weight.kind]).newbyteorder("=")
        decode = functools.partial(_dequantized, weight.quantization, dtype)
    stream = functools.partial(_stream, shards, start, stored, math.prod(weight.shape), decode)
    return streams.computed(weight.shape, dtype, stream)


def _unreadable(weight: _Weight) -> str:
    if weight.quantization is None:
        if weight.kind == "string":
            return "it holds strings, which are not weights"
        return "" if weight.dtype else f"its dtype {weight.kind[:20]!r} is unknown; known are {', '.join(DTYPES)}"
    quantization = weight.quantization
    if not weight.dtype:
        return f"it is quantized to {str(quantization.get('dtype'))[:20]!r}; known are {', '.join(_QUANTIZED)}"
    if weight.kind not in (("float32",) if weight.dtype == "<f2" else ("float32", "int32")):
        return f"TensorFlow.js dequantizes {quantization['dtype']} not to {weight.kind[:20]!r}"
    if weight.dtype != "<f2" and not all(_is_finite(quantization.get(key)) for key in ("scale", "min")):
        return "the scale or the min of its quantization is not a finite number"
    return ""


def _is_finite(value: Any) -> bool:
    # A whole number of many digits is one that no double can hold.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _stream(shards: list[_Shard], start: int, stored: np.dtype, count: int, decode: Decode) -> Iterator[np.ndarray]:
    step = buffers.PIECE // stored.itemsize
    for first in range(0, count, step):
        size = min(step, count - first) * stored.itemsize
        yield decode(_fetched(shards, start + first * stored.itemsize, size).view(stored))


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _dequantized(quantization: dict[str, Any], dtype: np.dtype, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return values.astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = values.astype(np.float64) * float(quantization["scale"]) + float(quantization["min"])
        return exact.astype(dtype) if dtype.kind == "f" else _as_int32(exact)


def _as_int32(exact: np.ndarray) -> np.ndarray:
    """Round as Math.round does, and keep the last 32 bits, as an Int32Array does."""
    below = np.floor(exact)
    rounded = below + (exact - below >= 0.5)
    return np.nan_to_num(np.fmod(rounded, 2.0**32), nan=0.0).astype(np.int64).astype(np.int32)
