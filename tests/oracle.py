"""Foreign libraries that tests compare with, in a Python of their own, which `TFXFER_ORACLE_PYTHON` names."""

from __future__ import annotations

import os
import subprocess

import pytest


def oracle_python(*modules: str) -> str:
    """Return the path of a Python that has these modules, or skip the test."""
    python, wanted = os.environ.get("TFXFER_ORACLE_PYTHON"), " and ".join(modules)
    if not python:
        pytest.skip(f"TFXFER_ORACLE_PYTHON does not name a Python that has {wanted}")
    code = "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))"
    if subprocess.run([python, "-c", code, *modules]).returncode:
        pytest.skip(f"{python}, which TFXFER_ORACLE_PYTHON names, does not have {wanted}")
    return python
