"""settings.json: what a run was started with, what each setting is to a run that goes on, and how two starts differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tfxfer.errors import RunError
from tfxfer.runs import files

# Settings that are digests, and what it means that one has changed.
_GRAPH = {"graph", "update"}
_WORDS = {
    "graph": "the graph computes something else (layers, activations, padding, dropout, the graph's seed)",
    "update": "a step changes variables in another way (gradients, optimizers, what is run beside them)",
    "training_data": "there are other training images or labels",
    "validation_data": "there are other validation images or labels",
    "restored": "the weights that are restored have other values",
}
# Settings that may be absent where a run began: they are noted, and not refused.
_OPTIONAL = {"optimizer", "learning_rate", "loss", "multipliers", "clip_norm", "processes", "train_feeds", "eval_feeds"}
# What changes no bit of a step: only how often is looked, shown and saved, and when it ends. Several processes promise
# no bits, and may become more.
_FREE = {
    *("save_steps", "validation_steps", "summary_steps", "keep", "keep_best", "monitor", "patience"),
    *("stateful_ops", "processes", "tensors"),
}


# What `open_run` reads to import a network: no setting of the caller's takes its place.
_OF_NETWORK = {"tensors", "eval_feeds", "precision", "computed_once"}


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What a run was started with, each part by name; values are as JSON has them.

    Attributes:
      steps_per_epoch: steps of an epoch.
      fit: the numbers that `tfxfer.fit` was called with.
      training: what `fit` worked out of the step, the examples and the weights; see `tfxfer.train.settings`.
      settings: what its caller said of the run besides: the flags of a tool, say.
    """

    steps_per_epoch: int
    fit: Mapping[str, Any]
    training: Mapping[str, Any]
    settings: Mapping[str, Any]

    def by_name(self) -> dict[str, Any]:
        """Return all of them by name, to be shown.

        What the caller said goes before what was worked out, and the numbers of `fit` before both: what the caller
        calls by the name of such a number, or of what tells the network, as `tensors`, is under `settings.NAME`.
        """
        taken = {*self.fit, *_OF_NETWORK}
        own = {f"settings.{name}" if name in taken else name: value for name, value in self.settings.items()}
        return {**self.training, **own, **self.fit}

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        parts = {name: dict(getattr(self, name)) for name in _PARTS}
        return json.loads(json.dumps({"steps_per_epoch": self.steps_per_epoch, **parts}))

    @classmethod
    def from_json(cls, value: Any) -> RunSettings:
        """Return the settings that `to_json` gave.

        Raises:
          ValueError: they are not settings; the message says what is wrong.
        """
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
        steps = value.get("steps_per_epoch")
        if not files.is_count(steps) or not steps:
            raise ValueError("it does not say how many steps an epoch has (steps_per_epoch)")
        absent = [name for name in _PARTS if not isinstance(value.get(name), dict)]
        if absent:
            raise ValueError(f"it has no {' and no '.join(absent)}")
        return cls(steps_per_epoch=steps, **{name: value[name] for name in _PARTS})


_PARTS = ("fit", "training", "settings")


def read_settings(run: Path) -> RunSettings:
    """Return the settings of a run.

    Raises:
      RunError: they are damaged.
    """
    path = run / files.SETTINGS
    value = files.read_json(path, files.CURE)
    try:
        return RunSettings.from_json(value)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; {files.CURE}") from None


def differing(a: RunSettings, b: RunSettings) -> dict[str, tuple[Any, Any]]:
    """Return the settings of two runs that differ, by name, with the value in each; digests are left out."""
    pairs = _differing(a.by_name(), b.by_name())
    return {name: pair for name, pair in pairs.items() if name not in _WORDS and name not in _OF_NETWORK}


@dataclasses.dataclass(frozen=True)
class Differences:
    """How the settings of two starts differ.

    Attributes:
      refused: a line for each that may not change. What a setting of the caller's tells is not repeated.
      of_graph: a line for each digest of the graph that has changed.
      notes: a line for each that may change, or cannot be compared.
    """

    refused: list[str]
    of_graph: list[str]
    notes: list[str]


def compare(before: RunSettings, now: RunSettings, may_change: Collection[str] = ()) -> Differences:
    """Compare the settings of a start with those that the run began with.

    What one side does not tell cannot be compared, and passes: a digest that is None, or what was not stored.

    Args:
      before, now: the settings; both as read from JSON.
      may_change: which of the caller's own may.
    """
    own = _differing(before.settings, now.settings)
    lines = {name: _own_line(name, *values, clashes=name in now.fit) for name, values in own.items()}
    notes = [line for name, line in lines.items() if name in may_change]
    refused = [line for name, line in lines.items() if name not in may_change]
    of_graph = []
    told = {name for name in own if name not in may_change}
    is_longer = (now.fit.get("epochs") or 0) > (before.fit.get("epochs") or 0)
    for name, values in _differing(before.training, now.training).items():
        is_schedule = name == "learning_rate" and all(isinstance(value, dict) for value in values)
        # A schedule that ends with the run is another one where the run has become longer.
        if name in _FREE or (is_schedule and is_longer):
            notes.append(_line(name, *values))
        elif not _is_comparable(name, *values, name in before.training):
            notes.append(f"{name}: cannot be compared with what the run began with")
        elif name in _GRAPH:
            of_graph.append(_line(name, *values))
        elif name not in told and not (told and is_schedule):
            refused.append(_line(name, *values))
    for name, values in _differing(before.fit, now.fit).items():
        if not (name == "epochs" and is_longer):
            (notes if name in _FREE else refused).append(_line(name, *values))
    return Differences(refused=refused, of_graph=of_graph, notes=notes)


def merged(before: RunSettings, now: RunSettings, may_change: Collection[str] = ()) -> RunSettings:
    """Return what is stored of a run that goes on: the settings of now, and those of before that now does not tell.

    Args:
      before, now: the settings; both as read from JSON.
      may_change: which of the caller's own may: these are always those of now.
    """
    parts = {name: {**getattr(before, name), **_told(getattr(now, name), getattr(before, name))} for name in _PARTS}
    parts["settings"] |= {name: value for name, value in now.settings.items() if name in may_change}
    return RunSettings(steps_per_epoch=before.steps_per_epoch, **parts)


def _told(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in now.items() if value is not None or name in _FREE or name not in before}


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what each setting was and is that differs; what is empty is the same as what is not set."""
    pairs = {name: (before.get(name), now.get(name)) for name in {**before, **now}}
    return {name: pair for name, pair in pairs.items() if (pair[0] or None) != (pair[1] or None)}


def _is_comparable(name: str, before: Any, now: Any, is_stored: bool) -> bool:
    if name in _WORDS:
        both = before is not None and now is not None
        return both and (not isinstance(before, dict) or before.get("by") == now.get("by"))
    return is_stored or name not in _OPTIONAL


def _own_line(name: str, before: Any, now: Any, *, clashes: bool) -> str:
    label = f'settings["{name}"]' if clashes else name
    return f"`{label}`: was {_show(before)}, now {_show(now)}"


def _line(name: str, before: Any, now: Any) -> str:
    return f"{name}: {_WORDS[name]}" if name in _WORDS else _own_line(name, before, now, clashes=False)


def _show(value: Any) -> str:
    return "not set" if value is None else json.dumps(value)
