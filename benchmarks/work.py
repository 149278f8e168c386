"""What the sides share: flags, a clock, and a report. Needs Python and NumPy alone."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any


def options() -> SimpleNamespace:
    """Return the flags of this process, `--name=value`, whole numbers as such."""
    pairs = (word.removeprefix("--").partition("=") for word in sys.argv[1:])
    return SimpleNamespace(**{name: int(value) if value.isdecimal() else value for name, _, value in pairs})


class Clock:
    """Adds up the seconds spent inside its blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


def report(seconds: float, results: dict[str, Any] | None = None, **figures: float) -> None:
    """Print the time of the work, and results that show that all sides did the same work.

    Args:
      seconds: of the work, without the start of the process.
      results: numbers, or flat lists of them.
      figures: other figures by which sides are compared.
    """
    print(json.dumps({"seconds": seconds, **figures, "results": results or {}}), flush=True)


def sample(values: Any, rows: Sequence[int] = (0, -1), count: int = 64) -> list[float]:
    """Return `count` numbers of each of some rows of an array [n, ...], evenly spread; codes of pictures are NHWC."""
    import numpy as np

    flat = np.asarray(values).reshape(len(values), -1)[list(rows)]
    columns = np.linspace(0, flat.shape[1] - 1, min(count, flat.shape[1])).astype(int)
    return flat[:, columns].astype(float).ravel().tolist()


def order(seed: int, epoch: int, n: int) -> Any:
    """Return the order in which tfxfer goes through n examples, so that all sides see the same batches."""
    import numpy as np

    keys = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,))).random_raw(n)
    return np.argsort(keys, kind="stable")
