"""What the processor of this machine can do."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tfxfer import names

UNITS = ("amx_bf16", "avx512_bf16")  # of bfloat16, as Linux calls them
WITHOUT_UNITS = f"this processor has none of {names.listed(UNITS)}"


def features() -> set[str]:
    """Return what the processor can do, as Linux calls it; nothing where Linux does not tell."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return set(next((line for line in lines if line.startswith("flags")), "").split())
    return set()


def has_units() -> bool:
    """Say whether the processor has units for bfloat16."""
    return not features().isdisjoint(UNITS)
