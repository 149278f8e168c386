"""Signals noted, so that a training saves before it ends."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], int]]:
    """Note SIGINT, SIGTERM and SIGHUP instead of dying of them; what is ignored stays ignored."""
    received: list[int] = []
    old = {}
    with contextlib.suppress(ValueError):  # Only the main thread can handle signals.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                old[number] = signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def end(received: int, step: int) -> NoReturn:
    """End as the signal asks, now that the step is saved.

    Raises:
      KeyboardInterrupt: for SIGINT.
      SystemExit: for any other, with the status that shells give: 128 and the signal's number.
    """
    if received == signal.SIGINT:
        raise KeyboardInterrupt(f"saved at step {step}")
    raise SystemExit(128 + received)
