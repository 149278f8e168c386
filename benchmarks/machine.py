"""The machine and the versions, on which the figures depend besides the code."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

UNITS = {"avx512_bf16", "amx_bf16"}
CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """Return the processor, the number of cores, and the versions; nothing that identifies the machine."""
    return {
        "processor": _of_processor("model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "bfloat16": has_bfloat16(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "scikit-learn", "numpy")},
    }


def today() -> str:
    """Return the date, as 2026-12-31."""
    return datetime.date.today().isoformat()


def has_bfloat16() -> bool:
    """Return whether the processor has units for bfloat16."""
    return bool(UNITS & set(_of_processor("flags").split()))


def has_amx() -> bool:
    """Return whether these units multiply matrices as a whole, so that bfloat16 is several times as fast as float32."""
    return "amx_bf16" in _of_processor("flags").split()


def _of_processor(key: str) -> str:
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""
