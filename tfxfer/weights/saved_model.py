"""SavedModel directories, whose variables are a checkpoint of format V2, or constants of the graph.

Source: tensorflow/cc/saved_model/constants.h for the names of files.
"""

from __future__ import annotations

from pathlib import Path

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.weights import find_checkpoint, identify


def graph(path: Path) -> Path:
    """Return the file with the graph of a SavedModel: a directory, or the graph in one.

    Raises:
      WeightsError: it is there as text alone.
    """
    file = _directory(path) / "saved_model.pb"
    as_text = file.with_suffix(".pbtxt")
    if not reading.exists(file) and is_frozen(path):
        raise WeightsError(f"{as_text} holds no weights that tfxfer reads: it is {identify.describe(as_text)}")
    return file


def is_frozen(path: Path) -> bool:
    """Say whether a SavedModel has no files of variables, so that its weights, if it has any, are constants."""
    return not reading.siblings(_directory(path) / "variables")


def find_prefix(path: Path) -> Path:
    """Return the prefix of the checkpoint in a SavedModel.

    Raises:
      WeightsError: it has no variables.
    """
    directory = _directory(path)
    prefix = directory / "variables" / "variables"
    if not find_checkpoint.is_v2(prefix):
        inside = names.listed(reading.siblings(directory / "variables")) or "nothing"
        raise WeightsError(
            f"{directory} is a SavedModel without variables: {prefix}.index does not exist (variables/ holds {inside})"
        )
    return prefix


def _directory(path: Path) -> Path:
    return path.parent if reading.exists(path) else path
