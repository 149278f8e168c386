"""A thread beside the training that writes what need not be waited for, one thing after another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

log = logging.getLogger("tfxfer")


class Background:
    """A thread that does one piece of work after another; after one that fails, none that follows is done.

    The failure is raised by whatever is called next, and at the latest when the block ends, which waits for all.
    """

    def __init__(self) -> None:
        """Prepare; there is a thread from the first piece of work on."""
        self._pool = ThreadPoolExecutor(1, "tfxfer-background")
        self._last: Future[None] | None = None

    def do(self, work: Callable[..., object], *args: Any) -> Future[None]:
        """Have a function called after all work before it has succeeded.

        Args:
          work: raises what a caller is to see.
          *args: of it.

        Returns:
          What can be waited for; its `result()` raises what `work` does, or what failed before it.

        Raises:
          Exception: what has failed before.
        """
        if self._last is not None and self._last.done():
            self._last.result()
        self._last = self._pool.submit(_after, self._last, work, args)
        return self._last

    def wait(self) -> None:
        """Wait until all is done.

        Raises:
          Exception: what has failed.
        """
        if self._last is not None:
            self._last.result()

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        failure = self._last.exception() if self._last is not None else None
        if failure is not None and error is None:
            raise failure
        if failure is not None and failure is not error:
            log.warning("%s", failure)  # What ends the block is told by who catches it.


def _after(before: Future[None] | None, work: Callable[..., object], args: Sequence[Any]) -> None:
    if before is not None:
        before.result()
    work(*args)
