"""The defaults of a new head on a frozen network of pictures; docs/recipes.md has the evidence."""

from __future__ import annotations

from typing import Any

from tfxfer.data.dataset import PICTURES
from tfxfer.tools import _flags, _training_flags

KIND = "l2"  # of --normalize


def _usual_flags(learning_rate: float, epochs: int, **head: Any) -> dict[str, Any]:
    return {**head, "learning_rate": learning_rate, "schedule": "cosine", "epochs": epochs, "monitor": "loss"}


LINEAR = {
    "l2": _usual_flags(3e-2, 60, hidden=[]),
    "sqrt": _usual_flags(3e-2, 60, hidden=[]),
    "standard": _usual_flags(1e-3, 20, hidden=[]),
}
HIDDEN = {
    "l2": _usual_flags(3e-3, 40, hidden=[256], dropout=0.5),
    "sqrt": _usual_flags(3e-3, 40, hidden=[256], dropout=0.5),
    "standard": _usual_flags(1e-3, 20, hidden=[256], dropout=0.5),
}


def imply(settings: Any) -> None:
    """Set --normalize and what goes with it, where nobody does, for a new head that alone is trained; print it."""
    chosen = kind(settings)
    if chosen == "none":
        return
    wants_hidden = settings.hidden if settings["hidden"].present else chosen == "standard" or settings.dropout
    values = {"normalize": chosen, **(HIDDEN if wants_hidden else LINEAR)[chosen]}
    begun = _training_flags.begun(settings)
    if begun is not None:
        values["monitor"] = begun.fit.get("monitor", "accuracy")
    implied = {name: value for name, value in values.items() if not settings[name].present}
    for name, value in implied.items():
        settings[name].value = value
    if implied:
        print(" ".join(f"--{name}={_written(value)}" for name, value in implied.items()) + ", as none is given")


def kind(settings: Any) -> str:
    """Return what --normalize is, or is by default.

    A run that goes on keeps its own way of normalising: one that was begun without has the defaults of other networks.
    So has a run of which --learning_rate or --optimizer is given: they go with features as they are.
    """
    if settings["normalize"].present:
        return settings.normalize if _is_new_head(settings) else "none"
    return (_of_run(settings) or _usual(settings)) if _is_new_head(settings) else "none"


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


def _usual(settings: Any) -> str:
    return "none" if settings["learning_rate"].present or settings["optimizer"].present else KIND


def _of_run(settings: Any) -> str:
    """Return how the run that goes on normalises; empty where none does."""
    begun = _training_flags.begun(settings)
    return "" if begun is None else str(begun.settings.get("normalize") or "none")


def _written(value: Any) -> str:
    return (",".join(map(str, value)) or "none") if isinstance(value, list) else f"{value}"
