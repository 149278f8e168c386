"""The rows of a store that a run was trained on, found again for an evaluation that opens no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from tfxfer.data.splits import Images, Split
from tfxfer.errors import DataError
from tfxfer.frontier.search import frontier
from tfxfer.graph.eval_step import EvalStep
from tfxfer.store.examples import keys_of
from tfxfer.store.store import Rows, Table, open_table
from tfxfer.weights import Weights
from tfxfer.weights.digests import digest


def describe(step: EvalStep, split: Split) -> dict[str, str]:
    """Return what is fed to a step in place of a split's images, as features.json of a run holds it.

    Returns:
      `tensor`, the name of what is fed, and `table`, where its rows lie; empty where images are fed, or several
      tensors, or rows that are in no store.
    """
    if split.features is None:
        return {}
    [tensor, *others] = frontier(step).tensors
    rows = split.features.get(tensor.name)
    if others or not isinstance(rows, Rows):
        return {}
    return {"tensor": tensor.name, "table": str(rows.folder.absolute())}


def open_rows(described: Any, weights: Weights, images: Images, precision: str = "float32") -> Rows | None:
    """Return the rows of some images, if a network with these weights would compute them, and they are stored whole.

    Args:
      described: what `describe` returned when the network was trained.
      weights: of the same network. The values of all variables that computed the rows are compared by their digests.
      images: the examples. A row belongs to one by a digest of its bytes.
      precision: in which the network would: "float32", "folded" or "bfloat16".

    Returns:
      None where that is not so, a row is missing, or the store is gone or damaged.
    """
    if not isinstance(described, dict) or not all(isinstance(described.get(name), str) for name in ("table", "tensor")):
        return None
    try:
        table = open_table(Path(described["table"]))
        if not _would_compute(table.about, weights, precision):
            return None
        keys = keys_of(images)
        return Rows(table, keys, table.dtype) if _has(table, keys) else None
    except DataError:
        return None


def _has(table: Table, keys: list[str]) -> bool:
    return bool(keys) and all(key in table for key in keys)


def _would_compute(about: Mapping[str, Any], weights: Weights, precision: str) -> bool:
    """Say whether a table has float32 numbers, computed by this TensorFlow and variables of these values."""
    variables = about.get("variables")
    same = {"dtype": np.dtype(np.float32).name, "precision": precision, "tensorflow": tf.__version__}
    return (
        isinstance(variables, dict)
        and all(about.get(name) == value for name, value in same.items())
        and all(name in weights for name in variables)
        and all(digest(weights[name]) == value for name, value in variables.items())
    )
