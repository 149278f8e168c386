"""The defaults of a new head on a frozen network of pictures; docs/recipes.md has the evidence for each."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from tfxfer.data.dataset import PICTURES
from tfxfer.errors import RunError
from tfxfer.runs.files import is_run
from tfxfer.runs.settings import read_settings
from tfxfer.tools import _flags

KIND = "l2"  # of --normalize
USUAL: dict[str, dict[str, Any]] = {
    "l2": {"hidden": [256], "dropout": 0.5, "learning_rate": 3e-3, "schedule": "cosine", "epochs": 40},
    "standard": {"hidden": [256], "dropout": 0.5, "learning_rate": 1e-3, "schedule": "cosine", "epochs": 20},
}
LINEAR = {"l2": 3e-2, "standard": 1e-3}  # the learning rate of a head without hidden layers


def imply(settings: Any) -> None:
    """Set --normalize and what goes with it, where nobody does, for a new head that alone is trained; print it.

    A run that goes on keeps its own way of normalising: one that was begun without has the defaults of other networks.
    """
    if not _is_new_head(settings):
        return
    kind = settings.normalize if settings["normalize"].present else _of_run(settings)
    if kind == "none":
        return
    values = {"normalize": kind, **USUAL[kind]}
    if settings["hidden"].present and not settings.hidden:
        values |= {"learning_rate": LINEAR[kind], "dropout": 0.0}
    implied = {name: value for name, value in values.items() if not settings[name].present}
    for name, value in implied.items():
        settings[name].value = value
    if implied:
        print(" ".join(f"--{name}={_written(value)}" for name, value in implied.items()) + ", as none is given")


def _is_new_head(settings: Any) -> bool:
    """Say whether a head is put on a network of pictures that is restored, and is all that is trained."""
    own = _flags.own_classifiers(settings)
    return (
        settings.dataset in PICTURES
        and settings.restore != ["none"]
        and not settings.train
        and not settings.unfreeze
        and not (settings.endpoint and settings.endpoint in own)
    )


def _of_run(settings: Any) -> str:
    """Return how the run that goes on normalises, or what is usual."""
    if settings.overwrite or not settings.logdir or not is_run(settings.logdir):
        return KIND
    with contextlib.suppress(RunError):  # It is told when the run is opened.
        return str(read_settings(Path(settings.logdir)).settings.get("normalize") or "none")
    return KIND


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else f"{value}"
