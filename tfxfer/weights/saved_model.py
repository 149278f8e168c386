"""SavedModel directories, whose variables are a checkpoint of format V2.

Source: tensorflow/cc/saved_model/constants.h for the names of files.
"""

from __future__ import annotations

from pathlib import Path

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.weights import checkpoints, files

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")


def is_at(path: Path) -> bool:
    """Say whether the path is a SavedModel directory, or the graph in one."""
    return any(files.exists(path / graph) for graph in GRAPHS) or (path.name in GRAPHS and files.exists(path))


def find_prefix(path: Path) -> Path:
    """Return the prefix of the checkpoint in a SavedModel.

    Raises:
      WeightsError: it has no variables.
    """
    directory = path.parent if path.name in GRAPHS else path
    prefix = directory / "variables" / "variables"
    if not checkpoints.is_v2(prefix):
        inside = names.listed(files.siblings(directory / "variables")) or "nothing"
        raise WeightsError(
            f"{directory} is a SavedModel without variables: {prefix}.index does not exist (variables/ holds "
            f"{inside}). A frozen model keeps its weights as constants in the graph; export it with variables"
        )
    return prefix
