"""Whether a run directory is whole: each checkpoint, and that what was frozen is still what it was at the start."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.names import listed, printable
from tfxfer.weight_tools.verify_weights import Digests, Verdict, read_digests, read_json, report, verify
from tfxfer.weights import Weights, open_weights
from tfxfer.weights import find_checkpoint as checkpoints
from tfxfer.weights.digests import digest

SETTINGS, FROZEN, PLAN = "settings.json", "frozen.json", "plan.json"


@dataclasses.dataclass
class RunVerdict:
    """What `verify_run` found.

    Attributes:
      path: the run directory.
      checkpoints: what was found of each.
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
    return reading.exists(Path(path, SETTINGS))


def verify_run(path: str) -> RunVerdict:
    """Verify every checkpoint of a run, and what was frozen in it."""
    run = Path(path)
    verdict = RunVerdict(path, [])
    settings = _part(run / SETTINGS, verdict)
    kept = _kept(run / FROZEN, verdict)
    every = _steps_per_epoch(run)
    prefixes = [folder / name for folder in (run, run / "best") for name in _by_step(checkpoints.found_in(folder))]
    for prefix in prefixes:
        frozen = kept and _frozen_at(kept, settings, _step(prefix.name), every)
        one = verify(str(prefix), kept=frozen)
        state = prefix.with_name(f"{prefix.name}.state.json")
        if state.exists():
            _part(state, verdict)
        verdict.checkpoints.append(one)
    if not prefixes:
        verdict.faults.append(f"{run} holds no checkpoint")
    if kept:
        verdict.frozen = len(kept.by_name)
        _compare_source(run / PLAN, kept, verdict)
    return verdict


def _part(path: Path, verdict: RunVerdict) -> Any:
    """Read a JSON file of the run; None, and a fault, where it cannot be read."""
    try:
        return read_json(path)
    except WeightsError as error:
        verdict.faults.append(str(error))
        return None


def _kept(path: Path, verdict: RunVerdict) -> Digests | None:
    try:
        return read_digests(str(path))
    except WeightsError as error:
        verdict.faults.append(str(error))
        return None


def _by_step(found: list[str]) -> list[str]:
    return sorted(found, key=lambda name: (_step(name), name))


def _step(name: str) -> int:
    match = re.search(r"-(\d{1,18})$", name)
    return int(match[1]) if match else 0


def _steps_per_epoch(run: Path) -> int | None:
    """Return how many steps an epoch has, as the history of a checkpoint tells; None before the first has ended."""
    for name in checkpoints.found_in(run):
        state = run / f"{name}.state.json"
        history = _part(state, RunVerdict("", [])) if state.exists() else None
        match history:
            case {"history": [{"step": int(step), "epoch": int(epoch)}, *_]} if epoch > 0 and step % epoch == 0:
                return step // epoch
    return None


def _frozen_at(kept: Digests, settings: Any, step: int, every: int | None) -> Digests:
    """Return the digests of what no stage up to a step has written."""
    epoch = max(step - 1, 0) // every if every else 0
    trained = {name for begin, names in _stages(settings) if begin <= epoch for name in names}
    # The moving statistics of a batch normalisation follow the batches where its gamma or beta is trained.
    scopes = {name.rpartition("/")[0] for name in trained if name.endswith(("/gamma", "/beta"))}
    written = trained | {f"{scope}/moving_{what}" for scope in scopes for what in ("mean", "variance")}
    left = {name: value for name, value in kept.by_name.items() if name not in written}
    return dataclasses.replace(kept, by_name=left)


def _stages(settings: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the first epoch of each stage of a training, counted from 0, and what it trains."""
    match settings:
        case {"stages": [*stages]}:
            for stage in stages:
                match stage:
                    case {"epoch": int(epoch), "train": [*names]}:
                        yield epoch, names


# --- the source ---


def _compare_source(path: Path, kept: Digests, verdict: RunVerdict) -> None:
    plans = _part(path, verdict) if path.exists() else None
    for plan in plans or []:
        match plan:
            case {"weights": str(source), "variables": [*variables]}:
                restored = {v["variable"]: v for v in variables if v.get("status") == "restored"}
                frozen = {name: pairing for name, pairing in restored.items() if name in kept.by_name}
                if frozen:
                    _compare_with(source, frozen, kept, verdict)


def _compare_with(source: str, frozen: Mapping[str, Any], kept: Digests, verdict: RunVerdict) -> None:
    try:
        weights = open_weights(source)
    except WeightsError as error:
        verdict.notes.append(f"{len(frozen)} frozen variables are not compared with their source: {error}")
        return
    originals = {weights.source(name): name for name in weights}
    for name, pairing in frozen.items():
        if pairing.get("source") not in originals:
            verdict.faults.append(f"{name}: its source {pairing.get('source')} is not in {source} any more")
            continue
        fault = _source_fault(weights, originals[pairing["source"]], name, kept, verdict)
        verdict.from_source += not fault
        if fault:
            verdict.faults.append(f"{name}: {fault}")


def _source_fault(weights: Weights, name: str, variable: str, kept: Digests, verdict: RunVerdict) -> str:
    try:
        original = weights[name]
    except WeightsError as error:
        return str(error)
    if digest(original) == kept.by_name[variable]:
        return ""
    for one in verdict.checkpoints:
        if one.digests.get(variable) == kept.by_name[variable] and _turned(open_weights(one.path)[variable], original):
            return ""
    return f"is frozen, and is not what {name} in {weights.path} is"


def _turned(array: np.ndarray, original: np.ndarray) -> bool:
    """Say whether two arrays have the same values in another order, as a layout brings them in."""
    if (array.dtype, array.size) != (original.dtype, original.size):
        return False
    ours, theirs = (
        np.sort(np.ascontiguousarray(one).reshape(-1).view(f"u{min(one.itemsize, 8)}")) for one in (array, original)
    )
    return np.array_equal(ours, theirs)


# --- as text ---


def run_report(verdict: RunVerdict) -> list[str]:
    """Show what was found of each checkpoint, and of what was frozen."""
    lines = []
    for one in verdict.checkpoints:
        head, *rest = report(one)
        lines += [f"{'bad  ' if one.faults else 'sound'}  {head}", *rest]
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
    bad = [printable(one.path) for one in verdict.checkpoints if one.faults]
    return f"bad: {path}{': ' if bad else ''}{listed(bad)}"
