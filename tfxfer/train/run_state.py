"""What a checkpoint of a run has in `<prefix>.state.json`: sealed when written, checked when read.

It holds where training stood (see `tfxfer.train.training_loop.Training`), and digests of its checkpoint's index and of
itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfxfer.errors import RunError

State = dict[str, Any]


def seal(state: Mapping[str, Any], index: bytes) -> State:
    """Return a state with the digests of its checkpoint's index and of itself."""
    bound = {**state, "index": hashlib.sha256(index).hexdigest()}
    return {**bound, "digest": _digest(bound)}


def read(prefix: Path) -> State:
    """Return the state of a checkpoint.

    Raises:
      RunError: it is damaged, or belongs to another checkpoint; the message says what is wrong.
    """
    path = prefix.with_name(f"{prefix.name}.state.json")
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    fault = next(_faults(state, prefix), None)
    if fault:
        raise RunError(f"{path} is damaged: {fault}")
    return {name: value for name, value in state.items() if name not in ("index", "digest")}


def _faults(state: Any, prefix: Path) -> Iterator[str]:
    if not isinstance(state, dict):
        yield "it is not a JSON object"
        return
    yield from (f"it has no {name}" for name in _SHAPES if name not in state)
    yield from (f"its {name} is {_short(state[name])}" for name, fits in _SHAPES.items() if not fits(state[name]))
    match = re.search(r"-(\d+)$", prefix.name)
    if match and state["step"] != int(match[1]):
        yield f"it is of step {state['step']}, and its checkpoint of step {match[1]}"
    # States that were written before digests were kept have none.
    if "digest" in state and state["digest"] != _digest({k: v for k, v in state.items() if k != "digest"}):
        yield "its digest is not that of what it holds"
    index = prefix.with_name(f"{prefix.name}.index")
    if "index" in state and state["index"] != hashlib.sha256(index.read_bytes()).hexdigest():
        yield f"it belongs to another checkpoint than {index.name}"


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _row(value: Any) -> bool:
    return isinstance(value, dict) and _count(value.get("step")) and _number(value.get("loss"))


def _history_row(value: Any) -> bool:
    return _row(value) and _count(value.get("epoch")) and isinstance(value.get("split"), str)


def _all(fits: Any) -> Any:
    return lambda value: isinstance(value, list) and all(map(fits, value))


_SHAPES: dict[str, Any] = {
    "step": _count,
    "sums": lambda value: (
        isinstance(value, dict) and {"loss", "examples"} <= set(value) and all(map(_number, value.values()))
    ),
    "history": _all(_history_row),
    "best": _all(_row),
    "waited": _count,
    "stopped": lambda value: isinstance(value, bool),
    "saved": _all(_count),
}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
