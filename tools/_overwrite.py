"""What the tools that write weights share: their flags, the writing, and what they print in the end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer import names, signals
from tfxfer.errors import DataError
from tfxfer.formats.tensors import Tensor
from tfxfer.input_spec import InputSpec, sidecar
from tfxfer.tools import _pager
from tfxfer.weight_tools.tables import table
from tfxfer.weights import Weights, writers
from tfxfer.weights.writers.placing import write_files

Moved = Mapping[Path, Path]


def define(values: flags.FlagValues) -> None:
    """Define what every tool that writes weights has: whether it writes, and what it does with what is there."""
    flags.DEFINE_bool(
        "dry_run", False, "Print every tensor that would be written, and write nothing.", flag_values=values
    )
    flags.DEFINE_bool("overwrite", False, "Move what is at OUT aside, to OUT.old-N.", flag_values=values)


def written(
    out: str,
    tensors: Mapping[str, Tensor],
    sources: Sequence[Weights],
    input_spec: InputSpec | None,
    values: Any,
    ordered: bool,
) -> Moved:
    """Write tensors as the flags say; with --dry_run only refuse what cannot or must not be written.

    Returns:
      What was moved aside.
    """
    if values.dry_run:
        writers.check(out, tensors, sources=sources, overwrite=True)
        return {}
    with signals.handled(signals.stop):
        return writers.write(
            out, tensors, sources=sources, input_spec=input_spec, overwrite=values.overwrite, ordered=ordered
        )


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write where anything is, all of it at once.

    Raises:
      DataError: something is at some of the paths, and it is not to be moved aside.
    """
    there = [str(path) for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        exist = "exists" if len(there) == 1 else "exist"
        raise DataError(
            f"{names.listed(there)} {exist}; take another name, or let --overwrite move what is there aside"
        )


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write texts to files of one folder, all or none; print what was there and is moved aside.

    Raises:
      OSError: the folder cannot be made or written, or the disk is full; then nothing has changed.
    """
    for folder in {path.parent for path in texts}:
        folder.mkdir(parents=True, exist_ok=True)
    moved = write_files({path: text.encode("utf-8", "surrogateescape") for path, text in texts.items()})
    for old, new in moved.items():
        _pager.say(f"moved {old} to {new}")


def show_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table, in full and through a pager where it is long."""
    _pager.show([*table(headings, rows, _pager.width()), ""])


def show_end(
    out: str, tensors: Mapping[str, Tensor], moved: Moved, notes: Iterable[str], input_spec: InputSpec | None, dry: bool
) -> None:
    """Print what was written, or would be, and what is to be known about it."""
    for old, new in moved.items():
        _pager.say(f"moved {old} to {new}")
    for note in notes:
        _pager.say(f"note: {note}")
    parameters = sum(tensor.size for tensor in tensors.values())
    size = sum(tensor.nbytes for tensor in tensors.values())
    counts = f"{len(tensors):,} tensors, {parameters:,} parameters, {size:,} bytes"
    along = f", with its input spec {sidecar(out).name}" if input_spec else ""
    _pager.say(f"{out}{' would be' if dry else ''}: {writers.kind_of(Path(out)).words}, {counts}{along}")


def form(tensor: Tensor) -> tuple[str, str]:
    """Return shape and dtype as a table shows them."""
    return str(tensor.shape), "string" if tensor.dtype.hasobject else tensor.dtype.name
