"""All cases, those that take little time first."""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.cases import extraction, growing, jobs, restore, starting, top, training

CASES: tuple[Case, ...] = (
    *starting.CASES,
    *training.CASES,
    *growing.CASES,
    *restore.CASES,
    *extraction.CASES,
    *top.CASES,
    *jobs.CASES,
)
