"""What `tfxfer train --folds` does: a run for each fold, in a directory of its own, and the mean of the accuracies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from tfxfer import files, names
from tfxfer.data.dataset import select_examples
from tfxfer.errors import RunError
from tfxfer.runs.files import is_run
from tfxfer.tools import _flags, _report

STORE = "store"  # in --logdir, without --store


def define(values: flags.FlagValues) -> None:
    """Define the flag that divides the examples into folds."""
    with _flags.group(values, "examples"):
        flags.DEFINE_integer(
            "folds",
            None,
            "Divide the examples into so many parts, each class at its share, and train a run for each, tested on "
            "that part: fold-1 and so on in --logdir. The end says the mean accuracy and its spread. Test examples "
            "that are given (a folder test, a second listing, MNIST's) stay out, and the folds divide the rest. "
            "Default: one run, on one split.",
            2,
            flag_values=values,
        )


# What one run has, and no run of a fold.
USES = tuple(_flags.Use(name, "folds", unless=True) for name in ("split", "picture"))


class Fold(NamedTuple):
    """Which fold a run is of, from 1 on, and the folder in which features of all folds are kept without --store."""

    number: int
    store: str


def run(settings: Any, examples: Any, train: Callable[[Any, Fold], Any]) -> None:
    """Train a run for each fold, keep the accuracies, and print them with their mean.

    Args:
      settings: the flags' values; --logdir is that of each run, one after the other.
      examples: the data.
      train: trains the run of a fold on its data, and returns what `evaluate` did; None after --dry_run.

    Raises:
      DataError: the examples cannot be divided so.
      RunError: --logdir holds something else than folds, or cannot be written to.
    """
    from tfxfer.statistics.folds import FILE, Folds

    top, count = Path(settings.logdir or "."), settings.folds
    chosen = {name: settings[name].value for name in ("seed", "train_examples")}
    parts = [select_examples(part, chosen) for part in examples.folds(count, settings.seed)]
    if not settings.dry_run:
        _make_room(top, settings.overwrite)
    print(_division(examples, parts), flush=True)
    results: dict[str, Any] = {}
    for number, part in enumerate(parts, 1):
        settings.logdir = str(top / f"fold-{number}")
        result = train(part, Fold(number, str(top / STORE)))
        if result is None:
            return
        results[f"fold-{number}"] = result
        print(f"fold {number} of {count}: test accuracy {result.accuracy:.4f}", flush=True)
    right = tuple(int(result.right.sum()) for result in results.values())
    folds = Folds(right, tuple(len(result.labels) for result in results.values()), tuple(results))
    for folder in (top, *(top / name for name in results)):
        _keep(folder / FILE, folds)
    _report.show_folds(folds, str(top))


def _keep(path: Path, folds: Any) -> None:
    try:
        files.write_json(path, folds.to_json())
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; make room, and the same command goes on") from None


def _division(examples: Any, parts: Any) -> str:
    """Say what the folds divide."""
    first, tested = parts[0], sum(len(part.test) for part in parts)
    rest = f"; the {len(examples.test):,} test examples that are given stay out" if examples.fixed_test else ""
    return (
        f"{len(parts)} folds of {tested:,} examples{rest}; fold 1 is trained on {len(first.train):,}, validated on "
        f"{len(first.validation):,} and tested on {len(first.test):,}"
    )


def _make_room(top: Path, overwrite: bool) -> None:
    """Refuse a directory that holds something else than folds; with --overwrite, move the folds in it aside.

    Raises:
      RunError: it holds a run or other files.
    """
    entries = sorted(entry.name for entry in top.iterdir() if entry.name != STORE) if top.is_dir() else []
    if is_run(top):
        raise RunError(f"{top} is a run of its own, and the runs of folds lie in a directory; give another `logdir`")
    if entries and not any(name.startswith("fold-") for name in entries):
        raise RunError(f"{top} has no folds, but {names.listed(entries, 5)}; give another `logdir`")
    for name in entries if overwrite else ():
        if re.fullmatch(r"fold-\d+|folds\.json", name):
            files.move_aside(top / name)
