"""The command `tfxfer`: finds the tools beside this file and runs the one that is named."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import textwrap
from pathlib import Path

from tfxfer import names
from tfxfer._version import __version__
from tfxfer.tools import _flags


def tools() -> dict[str, Path]:
    """Map the name of each tool to its file."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return {path.stem: path for path in files if not path.stem.startswith("_")}


def _first_line(path: Path) -> str:
    """Return the first line of a tool's docstring, which is the first line of its file; nothing is imported."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().strip('"')


def help_text() -> str:
    """Say what tfxfer is and list its tools."""
    width, indent = shutil.get_terminal_size().columns, 4 + max(map(len, tools()), default=0)
    lines = [
        textwrap.fill(
            _first_line(path), width, initial_indent=f"  {name}".ljust(indent), subsequent_indent=" " * indent
        )
        for name, path in tools().items()
    ]
    head = f"tfxfer {__version__}: transfer learning with TensorFlow 1.x-style graphs and checkpoints"
    usage = "usage: tfxfer TOOL [FLAGS]    a tool's flags: tfxfer TOOL --help    tfxfer --version"
    return "\n".join([head, "", usage, "", *lines])


def main(argv: list[str] | None = None) -> int:
    """Run the tool that the first argument names; return the exit status, as `_flags.run` gives it."""
    return _flags.run(_main, argv)


def _main(argv: list[str]) -> int:
    if len(argv) < 2:
        raise _flags.UsageError(f"name the tool that is to run\n\n{help_text()}")
    name, args = argv[1], argv[2:]
    if name in _flags.HELP:
        print(help_text())
    elif name == "--version":
        print(f"tfxfer {__version__}")
    elif name in tools():
        if name.endswith("_weights"):
            # They do no linear algebra, so numpy need not start a thread on each processor for it.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        return importlib.import_module(f"tfxfer.tools.{name}").main([f"tfxfer {name}", *args])
    else:
        nearest = ", ".join(names.nearest(name, tools()))
        raise _flags.UsageError(f"no tool {name!r}; nearest: {nearest}; `tfxfer --help` lists them all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
