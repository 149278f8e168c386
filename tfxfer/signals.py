"""Signals that ask a process to end, handled for as long as a block lasts."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn


@contextlib.contextmanager
def handled(
    handler: Callable[[int, Any], object], numbers: Sequence[int] = (signal.SIGTERM, signal.SIGHUP)
) -> Iterator[None]:
    """Let a function of signal and frame handle signals; what is ignored stays ignored, as SIGHUP under nohup."""
    before = {}
    with contextlib.suppress(ValueError):  # Only the main thread can handle signals.
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], int]]:
    """Note SIGINT, SIGTERM and SIGHUP instead of ending by them; give what returns the first one, or 0."""
    received: list[int] = []
    with handled(lambda number, _: received.append(number), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        yield lambda: received[0] if received else 0


def stop(number: int, _: Any = None) -> NoReturn:
    """End by an exception, so that what is half-written is cleared away.

    Raises:
      SystemExit: with the status that shells give: 128 and the signal's number.
    """
    raise SystemExit(128 + number)


def end_saved(number: int, step: int) -> NoReturn:
    """End as a signal asks, now that a step is saved.

    Raises:
      KeyboardInterrupt: for SIGINT.
      SystemExit: for any other, with the status that shells give.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt(f"saved at step {step}")
    stop(number)
