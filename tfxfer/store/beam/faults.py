"""Turn what goes wrong while Apache Beam runs a job into errors of tfxfer; Beam itself is not needed."""

from __future__ import annotations

import _thread
import contextlib
import re
import threading
from collections.abc import Iterator

from tfxfer import errors
from tfxfer.errors import RunError, TfxferError

# How Beam words it when a process of its DirectRunner has ended; it then waits for that process for ever.
LOST = "Worker subprocess exited"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise what a worker refused as it was raised there; runners pass on its text, within other texts."""
    try:
        yield
    except (RuntimeError, TfxferError) as error:
        match = re.search(r"tfxfer\.errors\.(\w+): (.+?)(?= \[while running|\n\n|\Z)", str(error), re.DOTALL)
        kind = getattr(errors, match[1], None) if match else type(error)
        text = match[2] if match else str(error).partition(" [while running")[0]
        if isinstance(error, TfxferError) or match:
            raise (kind or RunError)(text.strip()) from None
        raise


@contextlib.contextmanager
def raising_when_lost() -> Iterator[None]:
    """Raise when a process of the DirectRunner was lost, where Beam would wait for it for ever."""
    before = threading.excepthook
    lost: list[str] = []

    def hook(caught: threading.ExceptHookArgs) -> None:
        if LOST in str(caught.exc_value) and not lost:
            lost.append(str(caught.exc_value))
            _thread.interrupt_main()
        elif not caught.exc_type.__module__.startswith("grpc"):  # Its channels to a process that is gone.
            before(caught)

    threading.excepthook = hook
    try:
        yield
    except KeyboardInterrupt:
        if not lost:
            raise
        raise RunError(
            f"a worker was lost ({lost[0]}), and this runner does not replace it; what was written is kept, and the "
            "same command goes on from there"
        ) from None
    finally:
        threading.excepthook = before
