"""Which reader the file of a network is for."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfxfer import names
from tfxfer.errors import SelectionError, WeightsError
from tfxfer.models.registry import MODELS
from tfxfer.networks import applications, frozen, keras_file, meta_graph, run_directory, saved_model
from tfxfer.networks.graph_file import GraphFile
from tfxfer.networks.meta_graph import averaged
from tfxfer.runs.files import is_run
from tfxfer.weights import Weights, find_checkpoint, open_weights


def open_graph(
    path: str,
    *,
    weights: Weights | str | os.PathLike[str] | None = None,
    moving_averages: bool = False,
    **options: Any,
) -> GraphFile:
    """Read the network that a path means.

    Args:
      path: the file.
      weights: the values of its variables, or a file that holds them. Default: those in it or beside it.
      moving_averages: whether variables get the averages that training kept of them (`NAME/ExponentialMovingAverage`),
        in whatever file they are.
      **options: as the reader of its kind takes them.

    Raises:
      SelectionError: neither a file nor a network has this name, or its reader does not take some option.
      WeightsError: it cannot be read, or has no averages.
    """
    reader, kind = _reader(path)
    unused = [f"`{name}`" for name in options if name not in inspect.signature(reader).parameters]
    if unused:
        raise SelectionError(f"{path}: {names.listed(unused)}: not used with {kind}; leave it out")
    values = weights if isinstance(weights, Weights) or weights is None else open_weights(weights)
    file = reader(path, weights=values, **options)
    return dataclasses.replace(file, weights=averaged(file.weights, path)) if moving_averages else file


def _reader(path: str) -> tuple[Callable[..., GraphFile], str]:
    """Return what reads the network that a path means, and the kind of that network in words."""
    if is_run(path):
        return run_directory.read, "a run directory"
    if path.endswith(".meta") or Path(f"{path}.meta").exists():
        return meta_graph.read, "a MetaGraph"
    if saved_model.is_saved_model(path):
        return saved_model.read, "a SavedModel"
    if _is_checkpoint(path):
        raise WeightsError(_of_checkpoint(path))
    if Path(path).is_file():
        return (keras_file.read, "a file of Keras") if keras_file.is_keras(path) else (frozen.read, "a frozen graph")
    if Path(path).is_dir():
        raise WeightsError(saved_model.not_one(Path(path)))
    by_keras = applications.known()
    if path in by_keras:
        return applications.read, "a network of keras.applications"
    near = names.did_you_mean(path, [*MODELS, *by_keras, *_beside(path)])
    raise SelectionError(
        f"{path!r} is neither a file nor the name of a network{near}; the networks are {', '.join(MODELS)}, and those "
        f"of Keras: {', '.join(by_keras)}"
    )


def _is_checkpoint(path: str) -> bool:
    """Say whether a path means a checkpoint: its prefix, a file of it, or a folder with some."""
    prefix = find_checkpoint.prefix(path)
    there = find_checkpoint.found_in(Path(path)) if Path(path).is_dir() else find_checkpoint.v1_parts(prefix)
    return bool(there) or find_checkpoint.is_part(prefix)


def _of_checkpoint(path: str) -> str:
    """Say of a path that means a checkpoint where the graph is that belongs to it."""
    prefix = find_checkpoint.find_prefix(find_checkpoint.prefix(path))
    means = f"{path} means the checkpoint {prefix}, which holds weights and no network"
    if Path(f"{prefix}.meta").exists():
        return f"{means}; its graph lies beside it: give {prefix}.meta"
    return (
        f"{means}, and its graph {prefix}.meta is not there; give the network by its name or in another file, and the "
        "checkpoint as `weights`"
    )


def _beside(path: str) -> list[str]:
    """Return the files in the folder that a path would lie in."""
    folder = Path(path).parent
    return [str(file) for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
