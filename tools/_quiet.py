"""Keep TensorFlow's start-up notes off stderr, and nothing else.

TensorFlow's libraries log while they are loaded (`I0000 ... oneDNN custom operations are on`), before they read
TF_CPP_MIN_LOG_LEVEL. So stderr passes through a filter while `import tensorflow` runs. The filter is a process of its
own, so that the message arrives when TensorFlow aborts (on a processor without AVX).
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any

from tfxfer.errors import START_NOTES

_FILTER = """
import os, sys
notes = tuple(map(os.fsencode, sys.argv[1:]))
for line in sys.stdin.buffer:
    if not line.startswith(notes):
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
"""


def quiet_tensorflow() -> None:
    """Make a later `import tensorflow` print no notes; under TF_CPP_MIN_LOG_LEVEL=0 it prints all of them."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0" or "tensorflow" in sys.modules or sys.stderr is None:
        return
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.meta_path.insert(0, _QuietFinder())


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Finds tensorflow as usual, and filters stderr while it is loaded."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            # A context manager of contextlib is a decorator too.
            spec.loader.exec_module = filtered_stderr()(spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def filtered_stderr(*more: str) -> Iterator[None]:
    """Drop lines that start with one of START_NOTES or `more` from file descriptor 2, to which C++ writes too."""
    sys.stderr.flush()
    stderr = os.dup(2)
    read, write = os.pipe()
    # A session of its own: Ctrl-C is for the tool, the filter ends when the pipe does.
    command = [sys.executable, "-I", "-S", "-c", _FILTER, *START_NOTES, *more]
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
