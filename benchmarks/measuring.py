"""Processes one after the other, and what the system says each of them took."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LINES = 12  # of what a process said that failed


class SideError(Exception):
    """A process failed, or what it printed cannot be read."""


class Done(NamedTuple):
    """What a process took.

    Attributes:
      wall: seconds from its start to its end.
      cpu: seconds of processors, user and system, of it and of those that it waited for.
      peak: MiB of memory that the largest of them had.
      stdout: what it printed.
    """

    wall: float
    cpu: float
    peak: float
    stdout: str


def run(command: Sequence[str], environment: Mapping[str, str], most_seconds: float) -> Done:
    """Run a command to its end.

    This process must stay small: a new one counts as its own peak the memory of the one that it was made from.

    Raises:
      SideError: it cannot be started, ended with another status than 0, or took longer than it may.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT,
                                       env={**os.environ, **environment})  # fmt: skip
        except OSError as error:
            raise SideError(f"{command[0]} cannot be started: {error.strerror}") from None
        timer = threading.Timer(most_seconds, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said = (_all(err) or _all(out)).strip().splitlines()[-LINES:]
            late = f" (stopped after {most_seconds:.0f} s)" if wall >= most_seconds else ""
            raise SideError("\n".join([f"ended with status {process.returncode}{late}", *said]))
        return Done(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, _all(out))


def _all(file: Any) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def rounds(
    sides: Sequence[str], pairs: int, measure: Callable[[str, bool], dict[str, Any]]
) -> Iterator[tuple[int, str, dict[str, Any] | SideError]]:
    """Run every side once to warm up, and then all of them in turn, as many rounds as there are to be pairs.

    Every second round goes backwards, so that a machine that grows slower favours nobody. A side that fails does not
    run again.

    Args:
      sides: their names.
      pairs: how many rounds count.
      measure: runs a side; told whether it is to warm up.

    Yields:
      The round (0 is the one that does not count), the side, and what came of it.
    """
    left = list(sides)
    for number in range(pairs + 1):
        for side in list(left if number % 2 else reversed(left)) if number else list(left):
            try:
                found: dict[str, Any] | SideError = measure(side, number == 0)
            except SideError as error:
                found = error
                left.remove(side)
            yield number, side, found
