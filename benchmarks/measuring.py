"""Run processes one after the other, and measure time and memory of each by the system's figures."""

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
LINES = 12  # of the output of a failed process that are shown


class SideError(Exception):
    """A process failed, or its output cannot be read."""


class LeftOutError(SideError):
    """A process says that its side cannot run here; the message is its reason."""


class Done(NamedTuple):
    """Time, memory and output of a process.

    Attributes:
      wall: seconds from its start to its end.
      cpu: seconds of processors, user and system, of it and of the children that it waited for.
      peak: MiB of memory of the largest of them.
      stdout: its output.
    """

    wall: float
    cpu: float
    peak: float
    stdout: str


def run(command: Sequence[str], environment: Mapping[str, str], most_seconds: float) -> Done:
    """Run a command to its end.

    This process must stay small: the peak of a child starts with the memory of its parent.

    Raises:
      SideError: it cannot be started, ended with a status other than 0, or took longer than `most_seconds`.
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
            last_lines = (_all(err) or _all(out)).strip().splitlines()[-LINES:]
            late = f" (stopped after {most_seconds:.0f} s)" if wall >= most_seconds else ""
            raise SideError("\n".join([f"ended with status {process.returncode}{late}", *last_lines]))
        return Done(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, _all(out))


def _all(file: Any) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def rounds(
    sides: Sequence[str], pairs: int, measure: Callable[[str, bool], dict[str, Any]]
) -> Iterator[tuple[int, str, dict[str, Any] | SideError]]:
    """Run every side once to warm up, and then all of them in turn, `pairs` times.

    Every second round goes backwards, so that a machine that slows down favours no side. A side that fails does not run
    again.

    Args:
      sides: their names.
      pairs: how many rounds count.
      measure: runs a side; its second argument says whether the run is to warm up.

    Yields:
      The round (0 is the warm-up), the side, and its figures or its failure.
    """
    left = list(sides)
    for number in range(pairs + 1):
        for side in list(left if number % 2 else reversed(left)) if number else list(left):
            try:
                outcome: dict[str, Any] | SideError = measure(side, number == 0)
            except SideError as error:
                outcome = error
                left.remove(side)
            yield number, side, outcome
