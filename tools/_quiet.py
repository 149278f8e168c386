"""Keep TensorFlow's start-up notes off stderr, and nothing else.

TF_CPP_MIN_LOG_LEVEL does not reach what TensorFlow's libraries log while they are being loaded (`I0000 ... oneDNN
custom operations are on`): it is read later. So stderr passes through a filter for as long as `import tensorflow`
takes. The filter is a process of its own: what TensorFlow prints before it aborts (a processor without AVX) arrives.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

NOTES = ("I0000 ", "WARNING: All log messages before absl::InitializeLog()")
_FILTER = """
import os, sys
notes = tuple(map(os.fsencode, sys.argv[1:]))
for line in sys.stdin.buffer:
    if not line.startswith(notes):
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
"""


def quiet_tensorflow() -> None:
    """Make a TensorFlow that is imported later start quietly; TF_CPP_MIN_LOG_LEVEL=0 asks for all its notes."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0" or "tensorflow" in sys.modules or sys.stderr is None:
        return
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.meta_path.insert(0, _QuietFinder())


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Finds tensorflow as usual, and filters stderr while it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with filtered_stderr():
                    load(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def filtered_stderr(*more: str) -> Iterator[None]:
    """Drop lines that start with one of NOTES, or of more, from what is written to file descriptor 2, by C++ too."""
    sys.stderr.flush()
    stderr = os.dup(2)
    read, write = os.pipe()
    # A session of its own: Ctrl-C is for the tool, the filter ends when the pipe does.
    command = [sys.executable, "-I", "-S", "-c", _FILTER, *NOTES, *more]
    process = subprocess.Popen(command, stdin=read, start_new_session=True)
    os.close(read)
    os.dup2(write, 2)
    os.close(write)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
