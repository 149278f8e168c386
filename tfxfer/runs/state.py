"""Where a training stood at a checkpoint: `<prefix>.state.json`, sealed when written, checked when read."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfxfer.errors import RunError
from tfxfer.runs import files

SUFFIX = ".state.json"
Row = dict[str, Any]


@dataclasses.dataclass
class RunState:
    """What a checkpoint carries beside the variables.

    All that follows is a function of it, the variables, the seed and the data.

    Attributes:
      sums: of each metric over the examples of the epoch so far, and `examples`, how many these are.
      step: the number of steps made.
      history: a dict an epoch and one a validation, in order; see `tfxfer.train.training.Fitted`.
      best: the best validations, the best first: `step` and the means of the metrics.
      waited: how many validations there were since the best.
      stopped: whether training stopped early.
      saved: the steps whose checkpoints are kept.
    """

    sums: dict[str, float]
    step: int = 0
    history: list[Row] = dataclasses.field(default_factory=list)
    best: list[Row] = dataclasses.field(default_factory=list)
    waited: int = 0
    stopped: bool = False
    saved: list[int] = dataclasses.field(default_factory=list)

    def copy(self) -> RunState:
        """Return a state that stays as this one is now; rows are shared, since nothing changes them."""
        copies = {name: copy.copy(value) for name, value in vars(self).items()}
        return RunState(**copies)

    def to_json(self) -> dict[str, Any]:
        """Return it as dicts, lists and numbers."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, value: Any) -> RunState:
        """Return the state that `to_json` gave; other keys are left out.

        Raises:
          ValueError: it is not a state; the message says what is wrong.
        """
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
        for name in _FITS:
            if name not in value:
                raise ValueError(f"it has no {name}")
        for name, fits in _FITS.items():
            if not fits(value[name]):
                raise ValueError(f"its {name} is {_short(value[name])}")
        return cls(**{name: value[name] for name in _FITS})


def seal(state: RunState, index: bytes) -> dict[str, Any]:
    """Return a state as JSON, with the digests of its checkpoint's index and of itself."""
    bound = {**state.to_json(), "index": hashlib.sha256(index).hexdigest()}
    return {**bound, "digest": _digest(bound)}


def read_state(prefix: Path) -> RunState:
    """Return the state of a checkpoint.

    Raises:
      RunError: it is damaged, or belongs to another checkpoint; the message says what is wrong.
    """
    path = prefix.with_name(f"{prefix.name}{SUFFIX}")
    value = files.read_json(path)
    try:
        state = RunState.from_json(value)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from None
    fault = next(_misfits(value, prefix), None)
    if fault:
        raise RunError(f"{path} is damaged: {fault}")
    return state


def history(path: str | os.PathLike[str]) -> tuple[list[Row], int | None]:
    """Return how the training in a run directory went, up to its last checkpoint; it may still be going on.

    Returns:
      The rows, as in `Fitted.history`, and the step of the best checkpoint by validation, None before the first.

    Raises:
      RunError: the directory holds no run, or the run has no checkpoint yet.
    """
    checkpoint = latest(files.find_run(path))
    if checkpoint is None:
        raise RunError(f"{path} has no checkpoint, and so no history; training writes one after the first epoch")
    _, state = checkpoint
    return state.history, state.best[0]["step"] if state.best else None


def latest(path: Path) -> tuple[str, RunState] | None:
    """Return the prefix of the last whole checkpoint of a run and its state, or None if there is none.

    Raises:
      RunError: the state is damaged, or belongs to another checkpoint; the message says how the run goes on.
    """
    whole = files.checkpoint_steps(path)
    for step, _ in state_files(path):
        if step in whole:
            prefix = path / f"{files.STEM}-{step}"
            try:
                return str(prefix), read_state(prefix)
            except RunError as error:
                raise RunError(f"{error}; {cure(path, step)}") from None
    return None


def state_files(path: Path) -> list[tuple[int, Path]]:
    """Return step and file of each state in a run, the last first, those without a checkpoint included."""
    pattern = re.compile(rf"{re.escape(files.STEM)}-(\d+){re.escape(SUFFIX)}")
    matches = [(pattern.fullmatch(file.name), file) for file in path.glob(f"*{SUFFIX}")]
    return sorted(((int(match[1]), file) for match, file in matches if match), reverse=True)


def cure(path: Path, step: int) -> str:
    """Say how a run goes on whose checkpoint of a step is damaged."""
    whole = files.checkpoint_steps(path)
    earlier = [other for other, _ in state_files(path) if other in whole and other < step]
    if not earlier:
        return "the run has no checkpoint before it; begin anew by `overwrite=True`"
    return (
        f"delete its files ({files.STEM}-{step}.*) to go on from the one before, {files.STEM}-{earlier[0]}, "
        "or begin anew by `overwrite=True`"
    )


def _misfits(value: Mapping[str, Any], prefix: Path) -> Iterator[str]:
    """Yield in what a state is not that of its checkpoint. Without digests, these are not compared."""
    match = re.search(r"-(\d+)$", prefix.name)
    if match and value["step"] != int(match[1]):
        yield f"it is of step {value['step']}, and its checkpoint of step {match[1]}"
    if "digest" in value and value["digest"] != _digest({k: v for k, v in value.items() if k != "digest"}):
        yield "its digest is not that of what it holds"
    index = prefix.with_name(f"{prefix.name}.index")
    try:
        others = "index" in value and value["index"] != hashlib.sha256(index.read_bytes()).hexdigest()
    except OSError as error:  # a training that goes on lets go of its old checkpoints
        yield f"{index.name} cannot be read: {error.strerror}"
        return
    if others:
        yield f"it belongs to another checkpoint than {index.name}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and files.is_count(value.get("step")) and _is_number(value.get("loss"))


def _is_history_row(value: Any) -> bool:
    return _is_row(value) and files.is_count(value.get("epoch")) and isinstance(value.get("split"), str)


def _is_sums(value: Any) -> bool:
    return isinstance(value, dict) and {"loss", "examples"} <= set(value) and all(map(_is_number, value.values()))


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


_FITS: dict[str, Callable[[Any], bool]] = {
    "step": files.is_count,
    "sums": _is_sums,
    "history": _list_of(_is_history_row),
    "best": _list_of(_is_row),
    "waited": files.is_count,
    "stopped": lambda value: isinstance(value, bool),
    "saved": _list_of(files.is_count),
}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
