"""frozen.json: the digests of what was frozen when a run began, which stages train some of it, what was compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tfxfer.errors import RunError
from tfxfer.runs import files


@dataclasses.dataclass
class FrozenRecord:
    """What frozen.json holds.

    Attributes:
      method: how the digests are taken; see `tfxfer.weights.digests`.
      variables: the digest of each variable that the first stage does not write, by name, at the start of the run.
      stages: the first epoch, counted from 0, of each later stage, and which of `variables` it writes.
      checks: of each comparison `step`, `when` in words, and how many variables were `unchanged`.
    """

    method: str
    variables: dict[str, str]
    stages: list[tuple[int, list[str]]] = dataclasses.field(default_factory=list)
    checks: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def at(self, epoch: int) -> dict[str, str]:
        """Return the digests of what no stage up to that of an epoch (counted from 0) writes."""
        written = {name for begin, written in self.stages if begin <= epoch for name in written}
        return {name: digest for name, digest in self.variables.items() if name not in written}

    def to_json(self) -> dict[str, Any]:
        """Return it as dicts, lists, strings and numbers."""
        return {**vars(self), "stages": [{"epoch": epoch, "writes": written} for epoch, written in self.stages]}

    @classmethod
    def from_json(cls, value: Any) -> FrozenRecord:
        """Return the record that `to_json` gave.

        Raises:
          ValueError: it is not one.
        """
        match value:
            case {"method": str(method), "variables": dict() as variables, "stages": [*stages], "checks": [*checks]}:
                pairs = [_stage(stage) for stage in stages]
                if _are_texts(variables.values()) and None not in pairs and all(map(_is_check, checks)):
                    return cls(method=method, variables=variables, stages=pairs, checks=checks)  # type: ignore[arg-type]
        raise ValueError("it does not hold digests by name and what was checked")


def read_frozen(run: Path) -> FrozenRecord:
    """Return what a run's frozen.json holds.

    Raises:
      RunError: it is lost or damaged.
    """
    path = run / files.FROZEN
    if not path.exists():
        raise RunError(
            f"{run} has lost its {files.FROZEN}, so that nothing proves that frozen variables did not move; "
            "put it back, or begin anew by `overwrite=True`"
        )
    value = files.read_json(path, files.CURE)
    try:
        return FrozenRecord.from_json(value)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; {files.CURE}") from None


def _stage(value: Any) -> tuple[int, list[str]] | None:
    match value:
        case {"epoch": epoch, "writes": [*written]} if files.is_count(epoch) and _are_texts(written):
            return epoch, written
    return None


def _is_check(value: Any) -> bool:
    match value:
        case {"step": step, "when": str(), "unchanged": unchanged}:
            return files.is_count(step) and files.is_count(unchanged)
    return False


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
