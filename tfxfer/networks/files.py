"""Which reader the file of a network is for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tfxfer import names
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.models.registry import MODELS
from tfxfer.networks import applications, frozen, keras_file, meta_graph, run_directory, saved_model
from tfxfer.networks.graph_file import GraphFile
from tfxfer.runs.files import is_run
from tfxfer.weights import Weights, open_weights


def open_graph(path: str, *, weights: Weights | str | os.PathLike[str] | None = None, **options: Any) -> GraphFile:
    """Read the network that a path means.

    Args:
      path: the file.
      weights: the values of its variables, or a file that holds them. Default: those in it or beside it.
      **options: as the reader of its kind takes them.

    Raises:
      SelectionError: neither a file nor a network has this name.
      WeightsError: it cannot be read.
    """
    values = weights if isinstance(weights, Weights) or weights is None else open_weights(weights)
    if is_run(path):
        return run_directory.read(path, weights=values, **options)
    if path.endswith(".meta") or Path(f"{path}.meta").exists():
        return meta_graph.read(path, weights=values, **options)
    if saved_model.is_saved_model(path):
        return saved_model.read(path, weights=values, **options)
    if Path(path).is_file() and keras_file.is_keras(path):
        return keras_file.read(path, weights=values, **options)
    if Path(path).is_file():
        return frozen.read(path, weights=values, **options)
    if Path(path).is_dir():
        raise WeightsError(saved_model.not_one(Path(path)))
    by_keras = applications.known()
    if path in by_keras:
        return applications.read(path, weights=values, **options)
    near = names.did_you_mean(path, [*MODELS, *by_keras, *_beside(path)])
    raise SelectionError(
        f"{path!r} is neither a file nor the name of a network{near}; the networks are {', '.join(MODELS)}, and those "
        f"of Keras: {', '.join(by_keras)}"
    )


def _beside(path: str) -> list[str]:
    """Return the files in the folder that a path would lie in."""
    folder = Path(path).parent
    return [str(file) for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
