"""The command `tfxfer`: finds the tools beside this file and runs the one that is named."""

from __future__ import annotations

import ast
import importlib
import shutil
import sys
import textwrap
from pathlib import Path

from tfxfer import __version__


def tools() -> dict[str, str]:
    """Map each tool to the first line of its docstring, read without importing it."""
    files = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    return {path.stem: _first_line(path) for path in files}


def _first_line(path: Path) -> str:
    doc = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    return doc.partition("\n")[0]


def help_text() -> str:
    """Say what tfxfer is and list its tools."""
    found = tools()
    width = shutil.get_terminal_size().columns
    indent = max(map(len, found), default=0) + 4
    lines = [
        textwrap.fill(line, width, initial_indent=f"  {name}".ljust(indent), subsequent_indent=" " * indent)
        for name, line in found.items()
    ]
    head = f"tfxfer {__version__}: transfer learning with TensorFlow 1.x-style graphs and checkpoints"
    usage = "usage: tfxfer TOOL [FLAGS]    a tool's flags: tfxfer TOOL --help    tfxfer --version"
    return "\n".join([head, "", usage, "", *lines])


def main(argv: list[str] | None = None) -> int:
    """Run the tool that the first argument names.

    Returns:
      The exit status: the tool's, or 2 where there is no such tool.
    """
    _, *args = sys.argv if argv is None else argv
    if not args:
        print(help_text(), file=sys.stderr)
        return 2
    name = args[0]
    if name in ("--help", "-h", "--helpfull"):
        print(help_text())
    elif name == "--version":
        print(f"tfxfer {__version__}")
    elif name in tools():
        return _run_tool(name, args[1:])
    else:
        return _unknown(name)
    return 0


def _run_tool(name: str, args: list[str]) -> int:
    from tfxfer.tools import _flags

    return _flags.run(importlib.import_module(f"tfxfer.tools.{name}").main, [f"tfxfer {name}", *args])


def _unknown(name: str) -> int:
    from tfxfer.names import nearest

    print(f"tfxfer: no tool {name!r}; nearest: {', '.join(nearest(name, tools()))}", file=sys.stderr)
    print("`tfxfer --help` lists them all", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
