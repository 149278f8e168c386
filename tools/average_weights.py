"""Average several sets of weights of one network, as the last checkpoints of a training.

    tfxfer average_weights runs/digits/model.ckpt-760 runs/digits/model.ckpt-800 averaged.ckpt
    tfxfer average_weights --dir=runs/digits --last=3 averaged.ckpt

The last argument is OUT, as for convert_weights. Floats are averaged in float64 and keep their dtype; what is not a
float, such as steps, is that of the last file; slots of optimizers are left out. Names, shapes and dtypes must be the
same in all files. TensorFlow is not loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer.tools import _flags, _overwrite
from tfxfer.weight_tools.average_weights import last_of, plan
from tfxfer.weights import open_weights


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string("dir", None, "Directory whose last checkpoints to average, as a run's.", flag_values=values)
    flags.DEFINE_integer("last", None, "How many of them, by the steps in their names.", 2, flag_values=values)
    flags.DEFINE_string(
        "coefficients",
        "",
        "How much each file counts, as 1,1,2, in the order of the files; divided by their sum. Default: all the same.",
        flag_values=values,
    )
    _overwrite.define(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    *paths, out = _flags.parse(values, argv, __doc__, at_least=1)
    sources = [open_weights(path) for path in _paths(paths, values)]
    average = plan(sources, _numbers(values.coefficients))
    moved = _overwrite.written(out, average.tensors, sources, average.input_spec, values, average.ordered)
    if values.dry_run:
        rows = [(name, *_overwrite.form(tensor)) for name, tensor in average.tensors.items()]
        _overwrite.show_table(("name", "shape", "dtype"), rows)
    _overwrite.show_end(out, average.tensors, moved, average.notes, average.input_spec, values.dry_run)
    return 0


def _paths(paths: list[str], values: Any) -> list[str | Path]:
    if bool(values.dir) != bool(values.last) or bool(values.dir) == bool(paths):
        raise _flags.UsageError("give either two files or more and OUT, or --dir, --last and OUT; see --help")
    return list(last_of(Path(values.dir), values.last)) if values.dir else list(paths)


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",") if text]
    except ValueError:
        raise _flags.UsageError(f"--coefficients={text}: write numbers, as in 1,1,2") from None


if __name__ == "__main__":
    sys.exit(_flags.run(main))
