"""Whether a run directory is whole: each checkpoint, and that what was frozen is still what it was at the start."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tfxfer.errors import RunError, WeightsError
from tfxfer.formats import reading
from tfxfer.names import listed, printable
from tfxfer.runs import files
from tfxfer.runs.frozen import read_frozen
from tfxfer.runs.settings import read_settings
from tfxfer.runs.state import SUFFIX, read_state
from tfxfer.weight_tools.verify_weights import Digests, Verdict, report, verify
from tfxfer.weights import Weights, open_weights
from tfxfer.weights import find_checkpoint as checkpoints
from tfxfer.weights.digests import digest

T = TypeVar("T")


@dataclasses.dataclass
class RunVerdict:
    """What `verify_run` says of a run.

    Attributes:
      path: the run directory.
      checkpoints: of each what was checked, and its faults.
      frozen: how many variables were compared with `frozen.json`, in every checkpoint in which they were frozen.
      from_source: how many of them were compared with the file that they were restored from.
      faults: what is wrong with the run itself.
      notes: what else should be known.
    """

    path: str
    checkpoints: list[Verdict]
    frozen: int = 0
    from_source: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults and not any(verdict.faults for verdict in self.checkpoints)

    def to_json(self) -> dict[str, Any]:
        """Return it as dicts, lists, strings and numbers."""
        return {
            "sound": self.sound,
            **vars(self),
            "checkpoints": [verdict.to_json() for verdict in self.checkpoints],
        }


def is_run(path: str) -> bool:
    """Say whether a path is a run directory."""
    return reading.exists(Path(path, files.SETTINGS))


def verify_run(path: str) -> RunVerdict:
    """Verify every checkpoint of a run, and what was frozen in it."""
    run = Path(path)
    verdict = RunVerdict(path, [])
    settings = _part(read_settings, run, verdict)
    frozen = _part(read_frozen, run, verdict)
    prefixes = [folder / name for folder in (run, run / "best") for name in _by_step(checkpoints.found_in(folder))]
    for prefix in prefixes:
        digests = None
        if frozen and settings:
            epoch = max(_step(prefix.name) - 1, 0) // settings.steps_per_epoch
            digests = Digests(str(run / files.FROZEN), frozen.at(epoch), False)
        verdict.checkpoints.append(verify(str(prefix), kept=digests))
        if prefix.with_name(f"{prefix.name}{SUFFIX}").exists():
            _part(read_state, prefix, verdict)
    if not prefixes:
        verdict.faults.append(f"{run} holds no checkpoint")
    if frozen:
        verdict.frozen = len(frozen.variables)
        _compare_source(run / files.PLAN, frozen.variables, verdict)
    return verdict


def _part(read: Callable[[Path], T], path: Path, verdict: RunVerdict) -> T | None:
    """Read a part of the run; None, and a fault, where it cannot be read."""
    try:
        return read(path)
    except RunError as error:
        verdict.faults.append(str(error))
        return None


def _by_step(prefixes: list[str]) -> list[str]:
    return sorted(prefixes, key=lambda name: (_step(name), name))


def _step(name: str) -> int:
    match = re.search(r"-(\d{1,18})$", name)
    return int(match[1]) if match else 0


# --- the source ---


def _compare_source(path: Path, digests: Mapping[str, str], verdict: RunVerdict) -> None:
    plans = _part(_read_plans, path, verdict) if path.exists() else None
    for source, restored in plans or []:
        frozen = {name: original for name, original in restored.items() if name in digests}
        if frozen:
            _compare_with(source, frozen, digests, verdict)


def _read_plans(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Return of each plan the path of its file, and which name in it each restored variable came from.

    Raises:
      RunError: the plans are damaged.
    """
    value = files.read_json(path)
    plans = [_restored(plan) for plan in value] if isinstance(value, list) else [None]
    whole = [plan for plan in plans if plan is not None]
    if len(whole) < len(plans):
        raise RunError(f"{path} is damaged: it does not say of each variable from which name of which file it came")
    return whole


def _restored(plan: Any) -> tuple[str, dict[str, str]] | None:
    """Return a plan as `_read_plans` does; None where it is something else."""
    match plan:
        case {"weights": str(source), "variables": [*variables]} if all(map(_is_pairing, variables)):
            return source, {row["variable"]: row["source"] for row in variables if row["status"] == "restored"}
    return None


def _is_pairing(row: Any) -> bool:
    match row:
        case {"variable": str(), "status": "restored", "source": source}:
            return isinstance(source, str)
        case {"variable": str(), "status": str(status)}:
            return status != "restored"
    return False


def _compare_with(source: str, frozen: Mapping[str, str], digests: Mapping[str, str], verdict: RunVerdict) -> None:
    try:
        weights = open_weights(source)
    except WeightsError as error:
        verdict.notes.append(f"{len(frozen)} frozen variables are not compared with their source: {error}")
        return
    originals = {weights.source(name): name for name in weights}
    for name, original in frozen.items():
        if original not in originals:
            verdict.faults.append(f"{name}: its source {original} is not in {source} any more")
            continue
        fault = _source_fault(weights, originals[original], name, digests[name], verdict)
        verdict.from_source += not fault
        if fault:
            verdict.faults.append(f"{name}: {fault}")


def _source_fault(weights: Weights, name: str, variable: str, wanted: str, verdict: RunVerdict) -> str:
    try:
        original = weights[name]
    except WeightsError as error:
        return str(error)
    if digest(original) == wanted:
        return ""
    for checkpoint in verdict.checkpoints:
        same = checkpoint.digests.get(variable) == wanted
        if same and _is_reordered(open_weights(checkpoint.path)[variable], original):
            return ""
    return f"is frozen, and is not what {name} in {weights.path} is"


def _is_reordered(array: np.ndarray, original: np.ndarray) -> bool:
    """Say whether two arrays have the same values in another order, as a layout brings them in."""
    if (array.dtype, array.size) != (original.dtype, original.size):
        return False
    ours, theirs = (
        np.sort(np.ascontiguousarray(values).reshape(-1).view(f"u{min(values.itemsize, 8)}"))
        for values in (array, original)
    )
    return np.array_equal(ours, theirs)


# --- as text ---


def run_report(verdict: RunVerdict) -> list[str]:
    """Show what was found of each checkpoint, and of what was frozen."""
    lines = []
    for checkpoint in verdict.checkpoints:
        head, *rest = report(checkpoint)
        lines += [f"{'bad  ' if checkpoint.faults else 'sound'}  {head}", *rest]
    if verdict.frozen:
        source = f", {verdict.from_source} of them with the file that they come from" if verdict.from_source else ""
        none = ": no difference" if verdict.sound else ""
        lines.append(f"frozen: {verdict.frozen} variables compared with the start of the run{source}{none}")
    return [*lines, *(f"  {fault}" for fault in verdict.faults), *(f"  note: {note}" for note in verdict.notes)]


def run_summary(verdict: RunVerdict) -> str:
    """Say in a line whether a run is sound."""
    path = printable(verdict.path)
    if verdict.sound:
        return f"sound: {path}, {len(verdict.checkpoints)} checkpoints"
    bad = [printable(checkpoint.path) for checkpoint in verdict.checkpoints if checkpoint.faults]
    return f"bad: {path}{': ' if bad else ''}{listed(bad)}"
