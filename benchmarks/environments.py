"""Virtual environments for peers whose dependencies conflict with those of tfxfer."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path


class UnavailableError(Exception):
    """An environment cannot be made here."""


def _tensorflow() -> str:
    return importlib.metadata.version("tensorflow")


def _tf_keras() -> str:
    return f"tf_keras=={_tensorflow().rpartition('.')[0]}.*"


# The packages of each. On most indexes, torch for x86-64 Linux brings some gigabytes for GPUs; on processors, its
# results are the same.
ENVIRONMENTS = {
    "pytorch": lambda: ["torch==2.13.0", "numpy", "pillow", "scikit-learn"],
    "slim": lambda: [f"tensorflow=={_tensorflow()}", _tf_keras(), "tf_slim"],
}


@functools.cache
def python_of(name: str, bench: Path) -> str:
    """Return the interpreter of an environment; make the environment if it is missing.

    Args:
      name: a key of ENVIRONMENTS, or empty for the interpreter of this process.
      bench: the folder of the environments.

    Raises:
      UnavailableError: a package cannot be installed; the message has the reason.
    """
    if not name:
        return sys.executable
    folder, wanted = bench / "environments" / name, ENVIRONMENTS[name]()
    marker, python = folder / "installed.json", str(folder / "bin" / "python")
    if marker.exists() and json.loads(marker.read_bytes()) == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {' '.join(wanted)} into {folder}", flush=True)
    _call(sys.executable, "-m", "venv", str(folder))
    _call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
    marker.write_text(json.dumps(wanted))
    return python


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if "WARNING" not in line]
        raise UnavailableError(lines[-1] if lines else f"{' '.join(command)} ended with status {done.returncode}")
