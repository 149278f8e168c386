"""Load TensorFlow without its start-up notes on stderr, and without what no tool needs of it.

TensorFlow's libraries log while they are loaded (`I0000 ... oneDNN custom operations are on`), before they read
TF_CPP_MIN_LOG_LEVEL. So stderr passes through a filter while `import tensorflow` runs. The filter is a process of its
own, so that the message arrives when TensorFlow aborts (on a processor without AVX).

TensorFlow ends its import by loading Keras, "so that any function that needs to happen at load time will trigger", and
goes on where that fails. Keras loads scikit-learn, SciPy and matplotlib, and takes nearly half of the time. So it is
not there while `import tensorflow` runs; who imports it afterwards gets it as ever.
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
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
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


# What TensorFlow loads if it is installed, and works without: for its own Keras of old, too.
LATER = {"keras", "scipy", "h5py"}


def prepare_tensorflow() -> None:
    """Make a later `import tensorflow` print no notes and load no Keras.

    Under TF_CPP_MIN_LOG_LEVEL=0 it prints all notes.
    """
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds tensorflow as usual; while it is loaded, stderr is filtered and what is in LATER is not there."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            # Context managers of contextlib are decorators too.
            load = _without_later()(spec.loader.exec_module)
            if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0" and sys.stderr is not None:
                load = filtered_stderr()(load)
            spec.loader.exec_module = load  # type: ignore[method-assign]
        return spec


class _Absent(importlib.abc.MetaPathFinder):
    """Finds what is in LATER, for TensorFlow asks where Keras lies, and refuses to load it."""

    def find_spec(self, fullname: str, path: Any = None, *_: Any) -> ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if fullname in LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _refuse  # type: ignore[method-assign]
        return spec


def _refuse(module: ModuleType) -> None:
    raise ImportError(f"{module.__name__} is not loaded by TensorFlow's import")


@contextlib.contextmanager
def _without_later() -> Iterator[None]:
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)


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
