"""Say how two runs differ that were tested on the same pictures, A and B, and whether that may be chance.

    tfxfer diff_runs runs/a runs/b

prints both accuracies with 95 % intervals (Wilson), the p-value of McNemar's exact test, the pictures on which only one
of them is right, and the settings that differ. The tests are those that `train` and `evaluate` keep in each run's
test_examples.csv. TensorFlow is not loaded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from tfxfer import names
from tfxfer.statistics import intervals
from tfxfer.statistics.diff_runs import RunDiff, diff_runs
from tfxfer.tools import _flags, _pager, _report

MOST = 70  # letters of a setting that are shown


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_integer(
        "most", 20, "How many pictures to name on which only A, and only B, is right.", 0, flag_values=values
    )
    _flags.DEFINE_json(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    a, b = _flags.parse(values, argv, __doc__, at_least=2, at_most=2)
    diff = diff_runs(a, b)
    if values.json:
        print(json.dumps(diff.to_json()))
        return 0
    for line in _summary(diff):
        _pager.say(line)
    for side, other, pairs in (("A", "B", diff.only_a), ("B", "A", diff.only_b)):
        _show_pictures(f"{side} is right and {other} is wrong", pairs, values.most)
    _show_settings(diff)
    return 0


def _summary(diff: RunDiff) -> Iterator[str]:
    for side, path, right in zip("AB", (diff.a, diff.b), diff.right, strict=True):
        accuracy = f"test accuracy {right / diff.examples:.4f}, {intervals.shown(right, diff.examples)}"
        yield f"{side} is {names.printable(path)}: {accuracy}, {right:,} of {diff.examples:,} right"
    gain = diff.accuracies[1] - diff.accuracies[0]
    counts = f"only A is right on {len(diff.only_a):,} pictures, only B on {len(diff.only_b):,}"
    yield f"B minus A: {gain:+.4f}; {counts}"
    verdict = "this may well be chance" if diff.p_value >= 0.05 else "chance alone seldom gives this"
    yield f"McNemar's exact test: p = {diff.p_value:.4g}; {verdict}"


def _show_pictures(title: str, pairs: Sequence[Any], most: int) -> None:
    if not pairs or not most:
        return
    more = f", the first {most} of {len(pairs):,}" if len(pairs) > most else ""
    rows = [(a.name, a.true, a.predicted, b.predicted) for a, b in pairs[:most]]
    _report.show_table(f"\n{title}{more}", ("picture", "class", "A says", "B says"), rows)


def _show_settings(diff: RunDiff) -> None:
    if not diff.settings:
        print("\nno setting differs")
        return
    rows = [(name, *map(_shown, pair)) for name, pair in diff.settings.items()]
    _report.show_table("\nsettings that differ", ("setting", "A", "B"), rows)


def _shown(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."


if __name__ == "__main__":
    sys.exit(_flags.run(main))
