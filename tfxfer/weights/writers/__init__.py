"""Weights written to files: a module for each format, one tensor at a time, every dtype kept.

What a format cannot hold is refused before anything is written. A file is made beside its place, flushed and renamed;
nothing that was there is lost.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tfxfer import input_spec as input_specs
from tfxfer._lazy import attach
from tfxfer.errors import WeightsError
from tfxfer.files import PART
from tfxfer.formats import reading
from tfxfer.formats.tensors import Tensor, shown
from tfxfer.input_spec import InputSpec
from tfxfer.weights import Weights, find_checkpoint, streams
from tfxfer.weights.writers import bundle, elsewhere, keras_h5, npz, pytorch, safetensors
from tfxfer.weights.writers.placing import placed

__all__ = ["CHECKPOINT", "FORMATS", "KERAS", "Format", "check", "in_order", "in_the_way", "kind_of", "write"]

if TYPE_CHECKING:
    from tfxfer.weights.writers import archives as archives
    from tfxfer.weights.writers import bundle as bundle
    from tfxfer.weights.writers import elsewhere as elsewhere
    from tfxfer.weights.writers import keras_h5 as keras_h5
    from tfxfer.weights.writers import npz as npz
    from tfxfer.weights.writers import placing as placing
    from tfxfer.weights.writers import pytorch as pytorch
    from tfxfer.weights.writers import safetensors as safetensors
    from tfxfer.weights.writers import wire as wire
else:
    __getattr__, __dir__ = attach(__name__)


class Format(NamedTuple):
    """A kind of file that can be written.

    Attributes:
      words: what it is, as `Weights.kind` says it.
      parts: the files that one set of weights takes, from the path that the user gives, in the order of renaming.
      order: sorts the names as the format has them.
      faults: says of each tensor that the format cannot hold why.
      write: writes those files.
    """

    words: str
    parts: Callable[[Path], list[Path]]
    order: Callable[[Mapping[str, Tensor]], list[str]]
    faults: Callable[[Mapping[str, Tensor]], dict[str, str]]
    write: Callable[[list[Path], Mapping[str, Tensor]], None]


def _alone(path: Path) -> list[Path]:
    return [path]


CHECKPOINT = Format(bundle.WORDS, bundle.parts, bundle.order, bundle.faults, bundle.write)
KERAS = Format(keras_h5.WORDS, _alone, keras_h5.order, keras_h5.faults, keras_h5.write)
PYTORCH = Format(pytorch.WORDS, _alone, list, pytorch.faults, pytorch.write)
FORMATS = {
    "": CHECKPOINT,
    ".ckpt": CHECKPOINT,
    ".npz": Format(npz.WORDS, _alone, list, npz.faults, npz.write),
    ".safetensors": Format(safetensors.WORDS, _alone, safetensors.order, safetensors.faults, safetensors.write),
    ".h5": KERAS,
    ".hdf5": KERAS,
    ".pth": PYTORCH,
    ".pt": PYTORCH,
}
# What travels with a checkpoint or stands for it, besides its parts.
_SIDECARS = (input_specs.SUFFIX, ".state.json")


def kind_of(out: Path) -> Format:
    """Say what format a path asks for by its suffix; none, `.ckpt` and `.ckpt-7` ask for a checkpoint.

    Of `.bin`, which says nothing, only `pytorch_model.bin` is taken, as Hugging Face names PyTorch's files.

    Raises:
      WeightsError: the suffix is none of those that can be written; of a known kind of file, the message tells which
        program makes one.
    """
    suffix = re.sub(r"^\.ckpt-\d+$", ".ckpt", out.suffix)
    if out.name.endswith(".weights.h5"):
        raise WeightsError(
            f"{out}: Keras takes .weights.h5 for its layout by class and number, which needs the model itself; "
            f"call it {out.name.removesuffix('.weights.h5')}.h5, which load_weights reads too"
        )
    if out.name.endswith("pytorch_model.bin"):
        return PYTORCH
    if way_out := elsewhere.way_out(out):
        raise WeightsError(f"{out}: {way_out}")
    if not out.name or suffix not in FORMATS:
        known = ", ".join(suffix for suffix in FORMATS if suffix)
        raise WeightsError(
            f"{out}: the name tells no known format; OUT ends in one of {known}, or has no suffix, which "
            "means a checkpoint too"
        )
    return FORMATS[suffix]


def in_order(kind: Format, tensors: Mapping[str, Tensor], *, ordered: bool) -> dict[str, Tensor]:
    """Return tensors in the order in which a format has them.

    Args:
      kind: the format.
      tensors: what is to be written.
      ordered: whether their order was chosen, or stands in a file. Keras goes by order: where nothing tells it, and the
        names come in that of the alphabet, `conv10` is put behind `conv9`.
    """
    given = keras_h5.by_number(tensors) if kind is KERAS and not ordered else tensors
    return {name: given[name] for name in kind.order(given)}


def check(
    out: str | os.PathLike[str], tensors: Mapping[str, Tensor], *, sources: Iterable[Weights] = (), overwrite: bool
) -> None:
    """Refuse what cannot or must not be written, before anything is.

    Args:
      out: where it is to be written.
      tensors: what is to be written.
      sources: what it comes from, none of whose files is written over.
      overwrite: whether something may be there already.

    Raises:
      WeightsError: the suffix is of no format, the format cannot hold some tensors (all are named), something is
        there, or a file of the sources is.
    """
    path = Path(out)
    kind = kind_of(path)
    if not tensors:
        raise WeightsError(f"there is nothing to write to {path}")
    faults = {name: _name_fault(name) for name in tensors if _name_fault(name)} or kind.faults(tensors)
    if faults:
        lines = [f"{ascii(name) if _name_fault(name) else name}: {fault}" for name, fault in faults.items()]
        raise WeightsError(
            f"a {kind.words} cannot hold {len(faults)} of {len(tensors)} tensors:\n  {shown(lines)}\n"
            "leave them out, rename them, convert them by `dtype`, or take another format"
        )
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; give the name of a file in it, as {path / 'model.ckpt'}")
    _refuse_sources(path, kind, sources)
    there = _there(path, kind)
    if there and not overwrite:
        raise WeightsError(
            f"{there[0]} exists; take another name, or `overwrite=True`, which moves what is there aside to "
            f"{_aside(path, there)[there[0]].name}"
        )


def write(
    out: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    *,
    sources: Iterable[Weights] = (),
    input_spec: InputSpec | None = None,
    overwrite: bool = False,
    ordered: bool = False,
    meta_graph: bytes | None = None,
) -> dict[Path, Path]:
    """Write tensors to a file of the format that its suffix asks for: see `kind_of`.

    No more than one tensor is in memory at a time. The folder is made if it is missing.

    Args:
      out: the file, or the prefix of a checkpoint.
      tensors: what to write, by name; a format that has an order keeps it, but for what its module says.
      sources: what the tensors come from, none of whose files is written over.
      input_spec: written beside, as `<out>.input_spec.json`.
      overwrite: move what is there aside, to `<out>.old-N`, instead of refusing.
      ordered: whether the order of `tensors` was chosen; see `in_order`.
      meta_graph: what is written beside a checkpoint, as `<out>.meta`.

    Returns:
      What was moved aside: the old path of each file, and the new one.

    Raises:
      WeightsError: `check` refuses, a tensor cannot be read, or the disk is full; then nothing has changed.
    """
    path, kind = Path(out), kind_of(Path(out))
    check(path, tensors, sources=sources, overwrite=overwrite)
    beside = {input_specs.sidecar(path): _json(input_spec)} if input_spec else {}
    beside |= {_meta(path): meta_graph} if meta_graph is not None else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(path, _there(path, kind))
        with placed([*beside, *kind.parts(path)], aside) as parts:
            for part, content in zip(parts, beside.values(), strict=False):
                part.write_bytes(content)
            kind.write(parts[len(beside) :], in_order(kind, tensors, ordered=ordered))
    except (MemoryError, streams.TooLargeError):
        raise WeightsError(f"{path} was not written: there is too little memory for its largest tensor") from None
    except OSError as error:
        raise WeightsError(_not_written(path, tensors, error)) from None
    return aside


def in_the_way(prefix: Path) -> dict[Path, Path]:
    """Find the files that stand where a checkpoint would, its sidecars too, and where to move each aside."""
    return _aside(prefix, [path for path in _there(prefix, CHECKPOINT) if path.is_symlink() or not path.is_dir()])


def _json(input_spec: InputSpec) -> bytes:
    return (json.dumps(input_spec.to_json(), indent=1) + "\n").encode()


def _meta(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.meta")


def _not_written(path: Path, tensors: Mapping[str, Tensor], error: OSError) -> str:
    ours = str(error.filename).endswith(PART) or str(error.filename).startswith(str(path))
    named = error.filename if error.filename and not ours else ""
    why = ": ".join(str(part) for part in (error.strerror or error, named) if part)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        size = sum(tensor.nbytes for tensor in tensors.values())
        why += f"; its tensors take {size:,} bytes, so make room or take another folder"
    return f"{path} was not written: {why}. Nothing has changed"


def _there(path: Path, kind: Format) -> list[Path]:
    """List the files that stand where a set of weights would: the file or the parts of a checkpoint, and sidecars."""
    own = {path.name, *(path.name + suffix for suffix in _SIDECARS)}
    if kind is CHECKPOINT:
        own.update(file.name for file in _parts_of(path))
    return [path.with_name(name) for name in sorted(own) if os.path.lexists(path.with_name(name))]


def _parts_of(prefix: Path) -> list[Path]:
    part = re.compile(re.escape(prefix.name) + find_checkpoint.PART.pattern)
    return [prefix.with_name(name) for name in reading.siblings(prefix.parent) if part.fullmatch(name)]


def _aside(path: Path, there: Iterable[Path]) -> dict[Path, Path]:
    """Find where to move files: all get the same number, so that what is a checkpoint stays one."""
    number, found = 0, {old: old for old in there}
    while any(os.path.lexists(new) for new in found.values()):
        number += 1
        found = {old: old.with_name(f"{path.name}.old-{number}{old.name.removeprefix(path.name)}") for old in found}
    return found


def _refuse_sources(path: Path, kind: Format, sources: Iterable[Weights]) -> None:
    moved = [_meta(path)] if kind is CHECKPOINT else []
    targets = [target for target in [path, *kind.parts(path), *moved] if target.exists()]
    for weights in sources:
        prefix = Path(weights.checkpoint or weights.path)
        read = [prefix, *_parts_of(prefix), *find_checkpoint.v1_parts(prefix)]
        if any(target.samefile(file) for target in targets for file in read if file.exists()):
            raise WeightsError(
                f"{path} is where {weights.path} is read from; nothing is changed in place: take another name"
            )


def _name_fault(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not Unicode text"
    return ""
