"""Say whether more pictures would help a run: its accuracy by the number of training examples, and beyond.

    tfxfer learning_curve runs/flowers --store=store

trains logistic regression on 10, 20, 40, 70 and 100 % of the training labels, several seeds each, from the features
that `tfxfer train --store=store` kept, and fits a power law to the accuracies on the validation examples; the test
stays untouched. It prints what twice the examples would bring, with a 95 % interval, and writes learning_curve.json
into the run, which `tfxfer report` shows. Logistic regression is a floor, and not the run's own head: it is there in
seconds and tells how steep the curve is.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from absl import flags

from tfxfer.tools import _flags, _report


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "store", None, "Directory of features that `tfxfer train --store` filled (needed).", flag_values=values
    )
    flags.DEFINE_integer("seeds", 5, "How many parts of each size are drawn.", 1, flag_values=values)
    flags.DEFINE_string("picture", None, f"PNG to draw the curve into. {_report.REPLACED}", flag_values=values)
    _flags.DEFINE_json(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [run] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    if not values.store or not os.path.isdir(values.store):
        named = f"--store={values.store} is not there" if values.store else "--store is needed"
        raise _flags.UsageError(
            f"{named}: give the directory of features that `tfxfer train --store=DIR` filled; `mkdir DIR` makes an "
            "empty one, into which they are computed now"
        )
    _report.check_picture(values.picture)

    from tfxfer import files
    from tfxfer.plots import learning_curve as plot
    from tfxfer.serving.learning_curve import measure

    with _report.logging():
        curve = measure(run, store=values.store, seeds=values.seeds)
    if values.picture:
        files.write_bytes(Path(values.picture), plot.draw(curve, title=Path(run).absolute().name))
    if values.json:
        print(json.dumps(curve.to_json()))
        return 0
    means = [(point.examples, point.accuracies) for point in curve.points]
    rows = [
        (f"{size:,}", f"{sum(accuracies) / len(accuracies):.4f}", f"{min(accuracies):.4f}", f"{max(accuracies):.4f}")
        for size, accuracies in means
    ]
    title = f"{curve.classifier}, accuracy on {curve.validation_examples:,} validation examples"
    _report.show_table(title, ("training examples", "mean", "lowest", "highest"), rows)
    if curve.head is not None:
        print(f"the run's own head by all of them: {curve.head:.4f}")
    print(curve)
    return 0


if __name__ == "__main__":
    sys.exit(_flags.run(main))
