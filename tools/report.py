"""Write a run as one page that anybody can open: curves, confusion, mistakes, filters, where everything came from.

    tfxfer report runs/flowers

reads what the run's directory holds and writes runs/flowers/report.html, one file that refers to nothing outside
itself: it can be sent by mail or put on any web server. Of a run that is still going on, or was never tested, the page
shows what there is and says what is missing. Several runs get a page each. The same run gives the same bytes.
TensorFlow is not loaded.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import Any

from absl import flags

from tfxfer.tools import _flags, _pager


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "out",
        None,
        "File to write; default: report.html in the run's directory. A report is replaced; any other file is refused.",
        flag_values=values,
    )
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    directories = _flags.parse(values, argv, __doc__, at_least=1)
    if values.out and len(directories) > 1:
        raise _flags.UsageError(f"--out={values.out} is one file, and {len(directories)} runs are given; leave it out")

    from tfxfer import reports

    for run in [reports.read(directory) for directory in directories]:
        page = reports.Report(run, command(run))
        path = page.write(values.out)
        for line in page.missing:
            _pager.say(f"  {line}")
        _pager.say(f"{path}: {page}")
    return 0


def command(run: Any) -> str | None:
    """Return the command that makes such a run again, a flag a line; None if it was not made by a tool.

    Args:
      run: what `tfxfer.reports.read` returned.
    """
    from tfxfer.reports.folds import fold_name
    from tfxfer.tools import pretrain, train

    # The command makes the runs of all folds, in one directory.
    again = f"runs/{run.path.resolve().parent.name if fold_name(run.settings) else run.name}-again"
    if run.tool == "train":
        words = ["tfxfer train", *_set_flags(train.define_flags(), run), shlex.quote(f"--logdir={again}")]
    elif run.tool == "pretrain":
        words = ["tfxfer pretrain", shlex.quote(again), *_set_flags(pretrain.define_flags(), run)]
    else:
        return None
    return " \\\n    ".join(words)


def _set_flags(values: flags.FlagValues, run: Any) -> Iterator[str]:
    """Yield the flags that say what the settings say and the defaults do not, in the order of the settings."""
    for name, value in run.settings.items():
        if name in values and value not in (_plain(values[name].default), _of_length(name, run)):
            yield from _written(values[name], value)


def _of_length(name: str, run: Any) -> Any:
    """Return the default of a flag that the length of the run decides; None for others."""
    from tfxfer.tools import _training_flags

    steps = run.steps_per_epoch
    defaults = {"save_steps": steps, "validation_steps": steps, "summary_steps": _training_flags.summary_steps(steps)}
    return defaults.get(name)


def _plain(default: Any) -> Any:
    """Return a default as JSON would give it back."""
    return [_plain(item) for item in default] if isinstance(default, list | tuple) else default


def _written(flag: flags.Flag, value: Any) -> list[str]:
    if flag.boolean:
        return [f"--{flag.name}" if value else f"--no{flag.name}"]
    return [f"--{flag.name}={shlex.quote(text)}" for text in _texts(flag.name, value)]


def _texts(name: str, value: Any) -> list[str]:
    """Return what stands behind each appearance of the flag."""
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, list) and value and isinstance(value[0], list):
        # Of unfreeze, EPOCH:REGEX=FACTOR; of rules, REGEX=REPLACEMENT.
        texts = ["=".join(map(str, item)) for item in value if isinstance(item, list)]
        return [text.replace("=", ":", 1) for text in texts] if name == "unfreeze" else texts
    if isinstance(value, list):
        return [",".join(map(str, value)) or "none"]
    return [str(value)]


if __name__ == "__main__":
    sys.exit(_flags.run(main))
