"""What the sides share: flags, a clock, and a report. Needs Python and NumPy alone."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn


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


def leave_out(reason: str) -> NoReturn:
    """Say why this side cannot run here, and end: it is left out and is not a failure."""
    print(json.dumps({"left_out": reason}), flush=True)
    sys.exit()


def option(function: Callable[..., Any], name: str, value: str, *, usual: str) -> dict[str, str]:
    """Return an option by its name. Of a function without it, the side is left out unless the value is the usual."""
    if name in inspect.signature(function).parameters:
        return {name: value}
    return {} if value == usual else leave_out(f"{function.__name__} has no option `{name}`")


def pictures(options: Any) -> Path:
    """Return the folder of the case's pictures: so many, so wide."""
    return Path(options.folder, f"photographs-{options.pictures}-{options.width}")


def well_known(path: str | Path, only: str = "") -> dict[str, Any]:
    """Return `vgg16_weights.npz`, or what begins so, under the names of the variables: conv1_1_W is conv1_1/kernel."""
    import numpy as np

    with np.load(path) as file:
        names = [name for name in file.files if name.startswith(only)]
        return {name.replace("_W", "/kernel").replace("_b", "/bias"): file[name] for name in names}


def arrays(options: Any) -> dict[str, Any]:
    """Return the weights of `options.network` below its classifier, under the names of the variables."""
    import numpy as np

    folder = Path(options.folder)
    if options.network == "vgg16":
        return well_known(folder / f"vgg16-{options.side}" / "vgg16_weights.npz", only="conv")
    if options.network == "mobilenet":
        return dict(np.load(folder / f"mobilenet-{options.alpha}" / "mobilenet.npz"))
    return dict(np.load(folder / "squeezenet" / "squeezenet.npz"))


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
