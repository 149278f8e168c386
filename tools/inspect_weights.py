"""List what a file of weights holds: names, shapes, dtypes, parameters. TensorFlow is not loaded.

    tfxfer inspect_weights checkpoints/digits_autoencoder

FILE is a checkpoint's prefix, its directory (the latest is taken) or one of its files.
"""

from __future__ import annotations

import json
import sys

from absl import flags
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfxfer import names
from tfxfer.tools import _flags
from tfxfer.weights import Weights, open_weights


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    _flags.DEFINE_patterns("select", [".*"], "Tensors to list.", values)
    _flags.DEFINE_patterns("exclude", [], "Tensors to leave out again.", values)
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [path] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    weights = open_weights(path)
    chosen = names.match(values.select, list(weights), values.exclude)
    if values.json:
        print(json.dumps({"path": path, "kind": weights.kind, "tensors": [_row(weights, name) for name in chosen]}))
    else:
        _show(weights, chosen)
    return 0


def _row(weights: Weights, name: str) -> dict[str, object]:
    tensor = weights.tensor(name)
    return {"name": name, "shape": list(tensor.shape), "dtype": tensor.dtype.name, "parameters": tensor.size}


def _show(weights: Weights, chosen: list[str]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "shape", "dtype", "parameters"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left", no_wrap=True)
    for name in chosen:
        tensor = weights.tensor(name)
        table.add_row(Text(name), str(tensor.shape), tensor.dtype.name, f"{tensor.size:,}")
    tensors = [weights.tensor(name) for name in chosen]
    # What is piped is read by programs: names are never cut to a terminal's width.
    console = Console(width=None if sys.stdout.isatty() else 1000)
    console.print(table)
    parameters, size = sum(tensor.size for tensor in tensors), sum(tensor.nbytes for tensor in tensors)
    console.print(
        Text(
            f"{len(tensors):,} of {len(weights):,} tensors in {weights.path} ({weights.kind}): "
            f"{parameters:,} parameters, {size:,} bytes"
        ),
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(_flags.run(main))
