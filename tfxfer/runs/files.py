"""The files of a run directory: what they are called, which checkpoints there are, and JSON that may be damaged."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from tfxfer import names
from tfxfer.errors import RunError

SETTINGS, FROZEN, PLAN, FEATURES = "settings.json", "frozen.json", "plan.json", "features.json"
PRECISION = "precision.json"  # by how much bfloat16 changed what the network says; only of runs that used it
STEM = "model.ckpt"
LARGEST = 1e15  # of the numbers that are counted or drawn; no step or size is larger
CURE = "put it back, or begin anew by `overwrite=True`, which moves the run aside"


def is_run(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is a run directory: a folder with a settings.json."""
    return Path(path, SETTINGS).is_file()


def find_run(path: str | os.PathLike[str]) -> Path:
    """Return the path of a directory that holds a run.

    Raises:
      RunError: the directory does not exist, or it holds no run; the message says what it holds.
    """
    folder = Path(path)
    if is_run(folder):
        return folder
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "is not there"
        raise RunError(f"{folder} {state}; give a run directory, what `logdir` was when it was trained")
    runs = sorted(file.parent.name for file in folder.glob(f"*/{SETTINGS}"))
    if runs:
        raise RunError(
            f"{folder} holds runs and is not one itself; give one or more of them: {names.listed(runs)}; or compare "
            f"them in TensorBoard: tfxfer board {folder}"
        )
    entries = names.listed(sorted(entry.name for entry in folder.iterdir()), 5)
    holds = f"it has no {SETTINGS}, but {entries}" if entries else "it is empty"
    raise RunError(f"{folder} is not a run directory: {holds}; give what `logdir` was when it was trained")


def checkpoint_steps(folder: Path) -> set[int]:
    """Return the steps of the whole checkpoints in a run directory or its `best/`."""
    matches = (re.fullmatch(rf"{re.escape(STEM)}-(\d+)\.index", file.name) for file in folder.glob(f"{STEM}-*.index"))
    return {int(match[1]) for match in matches if match}


def read_json(path: Path, cure: str = "") -> Any:
    """Return what a JSON file of a run holds.

    Args:
      path: the file.
      cure: what the message says behind what is wrong.

    Raises:
      RunError: it is not there, cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        fault = f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        fault = f"is damaged: it is not JSON ({error})"
    except RecursionError:
        fault = "is damaged: it is nested too deeply"
    raise RunError(f"{path} {fault}{cure and '; '}{cure}")


def is_count(value: Any) -> bool:
    """Say whether a value is a number of something: an int from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
