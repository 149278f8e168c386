"""SavedModel directories, whose variables are a checkpoint of format V2.

Source: tensorflow/cc/saved_model/constants.h for the names of files.
"""

from __future__ import annotations

from pathlib import Path

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.formats import reading
from tfxfer.weights import find_checkpoint


def find_prefix(path: Path) -> Path:
    """Return the prefix of the checkpoint in a SavedModel.

    Raises:
      WeightsError: it has no variables.
    """
    directory = path.parent if reading.exists(path) else path
    prefix = directory / "variables" / "variables"
    if not find_checkpoint.is_v2(prefix):
        inside = names.listed(reading.siblings(directory / "variables")) or "nothing"
        raise WeightsError(
            f"{directory} is a SavedModel without variables: {prefix}.index does not exist (variables/ holds "
            f"{inside}). A frozen model keeps its weights as constants in the graph; export it with variables"
        )
    return prefix
