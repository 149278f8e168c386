"""Foreign libraries as oracles: another Python has them, which `$TFXFER_ORACLE_PYTHON` names."""

from __future__ import annotations

import os
import subprocess

import pytest


def oracle_python(*modules: str) -> str:
    """Return the Python that has these modules, or skip the test."""
    python = os.environ.get("TFXFER_ORACLE_PYTHON")
    if not python:
        pytest.skip(f"no oracle: TFXFER_ORACLE_PYTHON names no Python with {', '.join(modules)}")
    code = "\n".join(f"import {module}" for module in modules)
    if subprocess.run([python, "-c", code], capture_output=True, check=False).returncode:
        pytest.skip(f"no oracle: {python} cannot import {', '.join(modules)}")
    return python
