"""What the processor of this machine can do."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tfxfer import names

UNITS = ("amx_bf16", "avx512_bf16")  # of bfloat16, as Linux calls them
SWITCH = "TF_ENABLE_ONEDNN_OPTS"  # of oneDNN, through which TensorFlow uses them


def features() -> set[str]:
    """Return what the processor can do, as Linux calls it; nothing where Linux does not tell."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return set(next((line for line in lines if line.startswith("flags")), "").split())
    return set()


def has_units() -> bool:
    """Say whether the processor has units for bfloat16, and oneDNN may use them."""
    return not is_switched_off() and not features().isdisjoint(UNITS)


def is_switched_off() -> bool:
    """Say whether the environment switches off oneDNN, without which TensorFlow uses no units."""
    return os.environ.get(SWITCH, "").lower() in ("0", "false")


def without_units() -> str:
    """Return why there are none, as the beginning of a sentence about this processor."""
    if is_switched_off():
        return f"with {SWITCH}={os.environ[SWITCH]} this processor computes without oneDNN and its units for bfloat16"
    return f"this processor has none of {names.listed(UNITS)}"
