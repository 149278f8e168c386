"""Whether a file of weights is whole: checksums, offsets, NaN and Inf, its input spec, and digests that were kept."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.input_spec import CHANNELS
from tfxfer.models.registry import MODELS
from tfxfer.names import by_number, listed, printable
from tfxfer.weight_tools.values import not_finite
from tfxfer.weights import Weights, bundle, find_checkpoint, open_weights, saved_model, streams
from tfxfer.weights.digests import METHOD, running
from tfxfer.weights.writers.placing import refuse_existing, write_files

# What a kind of file, by how its name begins, has to tell that a value was damaged.
CHECKSUMS = {
    "TensorFlow checkpoint V1": "a crc32c of each block",
    "TensorFlow checkpoint V2": "a crc32c of each tensor",
    "TensorFlow SavedModel": "a crc32c of each tensor",
    "NumPy .npz": "a CRC-32 of each tensor",
    "Keras archive": "one CRC-32 of all tensors",
    "PyTorch archive": "a CRC-32 of each storage that is one tensor",
    "TorchScript archive": "a CRC-32 of each storage that is one tensor",
}


@dataclasses.dataclass(frozen=True)
class Digests:
    """Digests that were kept, by name; `complete` where there was one of every tensor."""

    path: str
    by_name: Mapping[str, str]
    complete: bool


@dataclasses.dataclass
class Verdict:
    """What `verify` found of one file.

    Attributes:
      path, kind: the file; `kind` is empty where it could not be opened.
      tensors, bytes: how many were listed, and how much they take in memory.
      faults: what is wrong, by tensor; that of the file as a whole, or of its input spec, under the empty name.
      notes: what else should be known.
      digests: of each tensor, where they were asked for.
    """

    path: str
    kind: str = ""
    tensors: int = 0
    bytes: int = 0
    faults: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    digests: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def checksums(self) -> str:
        """What checksums the file has, in words; empty for none."""
        return next((what for begin, what in CHECKSUMS.items() if self.kind.startswith(begin)), "")

    def blame(self, name: str, what: str) -> None:
        """Add a fault."""
        self.faults[name] = f"{self.faults[name]}; {what}" if name in self.faults else what

    def to_json(self) -> dict[str, Any]:
        """Return it as dicts, lists, strings and numbers."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "digests"}
        return {"sound": not self.faults, **found, "checksums": self.checksums or None}


def verify(path: str, *, kept: Digests | None = None, take_digests: bool = False) -> Verdict:
    """Read every tensor of a file, and go on after the first that is bad.

    Args:
      path: as `open_weights` takes it.
      kept: what the digests of its tensors are to be.
      take_digests: whether the verdict is to have the digests of all.

    Raises:
      WeightsError: the file does not exist. A file that cannot be opened is a bad one.
    """
    verdict = Verdict(path)
    weights = _opened(verdict)
    if weights is None:
        return verdict
    verdict.kind, verdict.tensors = weights.kind, len({*weights, *verdict.faults})
    verdict.bytes = sum(weights.tensor(name).nbytes for name in weights)
    verdict.notes += [f"not read: {why}" for why in weights.skipped.values()]
    for name in weights:
        _look(weights, name, verdict, take_digests or (kept is not None and name in kept.by_name))
    _compare(weights, verdict, kept)
    for what in input_spec_faults(weights):
        verdict.blame("", what)
    return verdict


def _opened(verdict: Verdict) -> Weights | None:
    """Open the file; of a checkpoint whose index and data do not fit together, what does."""
    try:
        weights = open_weights(verdict.path)
        if weights.checkpoint and find_checkpoint.is_v2(prefix := find_checkpoint.prefix(weights.checkpoint)):
            verdict.faults.update(bundle.faults(prefix))
        return weights
    except WeightsError as error:
        message = str(error)
        if not reading.exists(Path(verdict.path)) and not _is_checkpoint(verdict.path):
            raise  # there is nothing, or it is not clear what is meant
    try:
        prefix = _prefix(verdict.path)
        verdict.faults.update(bundle.faults(prefix))
        if verdict.faults:
            kind = "TensorFlow checkpoint V2"
            sound = bundle.read(prefix, without=verdict.faults)
            skipped = {name: tensor.fault for name, tensor in sound.items() if tensor.fault}
            sound = {name: tensor for name, tensor in sound.items() if not tensor.fault}
            return Weights(verdict.path, kind, sound, checkpoint=str(prefix), skipped=skipped)
    except WeightsError:
        pass  # the first message says more
    verdict.faults = {"": message}
    return None


def _is_checkpoint(path: str) -> bool:
    try:
        return bool(_prefix(path))
    except WeightsError:
        return False


def _prefix(path: str) -> find_checkpoint.Prefix:
    if find_checkpoint.is_saved_model(Path(path)):
        return saved_model.find_prefix(Path(path))
    return find_checkpoint.find_prefix(find_checkpoint.prefix(path))


def _look(weights: Weights, name: str, verdict: Verdict, take_digest: bool) -> None:
    tensor, nan, inf = weights.tensor(name), 0, 0

    def seen() -> Iterator[np.ndarray]:
        nonlocal nan, inf
        for piece in streams.pieces(tensor):
            bad, endless = not_finite(piece)
            nan, inf = nan + bad, inf + endless
            yield piece

    try:
        if take_digest:
            verdict.digests[name] = running(tensor.dtype, tensor.shape, seen())
        else:
            collections.deque(seen(), maxlen=0)
    except WeightsError as error:
        verdict.blame(name, str(error).removeprefix(f"{weights.path}: "))
    if nan or inf:
        counts = [f"{count:,} {what}" for count, what in ((nan, "NaN"), (inf, "Inf")) if count]
        verdict.blame(name, f"{' and '.join(counts)} among {tensor.size:,} values")


# --- digests ---


def read_digests(path: str) -> Digests:
    """Read what `write_digests` wrote, or a run's frozen.json.

    Raises:
      WeightsError: the file is missing, or no such file.
    """
    table = read_json(Path(path))
    found = table.get("tensors", table.get("variables")) if isinstance(table, dict) else None
    if not isinstance(found, dict) or table.get("method") != METHOD:
        raise WeightsError(f"{path} holds no digests: give what `write_digests` wrote, or a run's frozen.json")
    return Digests(path, {str(name): str(value) for name, value in found.items()}, "tensors" in table)


def write_digests(path: str, verdict: Verdict, *, overwrite: bool) -> list[str]:
    """Write the digests of a file, to be compared later; return a line for what was written and moved.

    Raises:
      WeightsError: the file exists and is not to be moved aside, or its folder does not exist.
      OSError: the folder is not writable, or the disk is full.
    """
    place = Path(path)
    refuse_existing(place, overwrite)
    text = json.dumps({"method": METHOD, "path": verdict.path, "tensors": verdict.digests}, indent=1) + "\n"
    moved = write_files({place: text.encode()})
    notes = [f"moved {printable(str(old))} to {printable(str(new))}" for old, new in moved.items()]
    return [*notes, f"wrote {len(verdict.digests):,} digests to {printable(path)}"]


def _compare(weights: Weights, verdict: Verdict, kept: Digests | None) -> None:
    if kept is None:
        return
    for name, wanted in kept.by_name.items():
        if name in verdict.digests and verdict.digests[name] != wanted:
            verdict.blame(name, f"its digest is {verdict.digests[name][:12]}, in {kept.path} it is {wanted[:12]}")
        elif name not in weights and name not in verdict.faults:
            verdict.blame(name, f"is not in the file, but in {kept.path}")
    for name in weights if kept.complete else ():
        if name not in kept.by_name:
            verdict.blame(name, f"is not in {kept.path}")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
      WeightsError: the file is missing or holds no JSON.
    """
    return reading.parse_json(reading.map_file(path).tobytes(), str(path))


# --- the input spec ---


def input_spec_faults(weights: Weights) -> Iterator[str]:
    """Say what is wrong with the input spec beside a file: that it cannot be read, or does not fit to the tensors."""
    try:
        input_spec = weights.input_spec()
    except WeightsError as error:
        yield str(error)
        return
    if input_spec is None:
        return
    first_kernels = {f"{model.first_layer}/kernel" for model in MODELS.values()}
    kernels = sorted(first_kernels.intersection(weights), key=by_number)
    shape = weights.shape(kernels[0]) if kernels else ()
    wanted = CHANNELS[input_spec.channels]
    if len(shape) == 4 and shape[2] != wanted:
        what = f"{kernels[0]} {shape} takes {shape[2]} channels"
        yield f"{weights.input_spec_path} says {input_spec.channels}, and {what}"
    last_layers = ["logits", *(model.last_layer for model in MODELS.values() if model.last_layer)]
    last = next((bias for layer in last_layers if (bias := f"{layer}/bias") in weights), None)
    units, classes = weights.shape(last)[:1] if last else (), len(input_spec.class_names)
    if classes and units and units[0] != classes and (units[0], classes) != (1, 2):
        yield f"{weights.input_spec_path} names {classes:,} classes, and {last} is for {units[0]:,}"


# --- as text ---


def report(verdict: Verdict) -> list[str]:
    """Show what was checked, what was found, and last whether the file is sound."""
    lines = []
    if verdict.kind:
        sums = verdict.checksums or "no checksums"
        head = f"{printable(verdict.path)} ({verdict.kind}): {verdict.tensors:,} tensors, {verdict.bytes:,} bytes"
        lines.append(f"{head}; {sums}")
    by_fault: dict[str, list[str]] = {}
    for name, fault in verdict.faults.items():
        by_fault.setdefault(fault, []).append(printable(name))
    for fault, names in by_fault.items():
        lines.append(f"  {', '.join(names)}: {fault}" if names != [""] else f"  {fault}")
    return [*lines, *(f"  note: {note}" for note in verdict.notes)]


def summary(verdict: Verdict) -> str:
    """Say in a line whether a file is sound."""
    path = printable(verdict.path)
    if not verdict.faults:
        return f"sound: {path}"
    names = [name for name in verdict.faults if name]
    if not names:
        return f"bad: {path}"
    return f"bad: {path}, {len(names):,} of {verdict.tensors:,} tensors: {listed(map(printable, names))}"
