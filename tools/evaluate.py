"""Say how good a trained run is on the test examples, class by class.

    tfxfer evaluate runs/digits

takes the model and the examples from the run's own settings and prints the accuracy, the confusion matrix, and each
class's precision and recall. The last line is as in training: `test accuracy 0.9806`. What the test examples gave, and
the worst mistakes with their pictures, replaces the run's test.json and mistakes/; --picture draws the run's curves.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer.errors import RunError
from tfxfer.tools import _data_flags, _flags, _pager, _report, _store, _training_flags


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    _flags.define_checkpoint(values)
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Which examples.", flag_values=values)
    for name, what in _data_flags.PATHS.items():
        flags.DEFINE_string(name, None, f"{what}, where it is not where it was in training.", flag_values=values)
    _report.define_top_k(values)
    _report.define_picture(values)
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)
    _store.define_precision_of_run(values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [run] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    _report.check_picture(values.picture)

    from tfxfer.serving.run import open_run

    opened = open_run(run)
    opened.check_network()
    moved: dict[str, Any] = {name: values[name].value for name in _data_flags.PATHS if values[name].present}
    weights = opened.weights(values.checkpoint)
    prefix = weights.checkpoint or weights.path
    examples = opened.load_data(opened.input_spec_of(weights), **moved)
    _report.check_top_k(values, len(examples.class_names))
    options = {"top_k": values.top_k, "precision": values.precision, **_training_flags.session_options(values)}
    result = opened.evaluate(values.split, checkpoint=prefix, data=examples, **options)
    if values.picture:
        _report.draw_curves(values.picture, run)
    kept = _keep(run, result, examples.test, prefix) if values.split == "test" else ""
    if values.json:
        print(json.dumps({"run": run, "checkpoint": prefix, "split": values.split, **result.to_json()}))
        return 0
    _report.show_evaluation(result, f"{values.split} of {run}, from {prefix}")
    if kept:
        _pager.say(kept)
    _pager.say(f"{values.split} accuracy {result.accuracy:.4f}")
    return 0


def _keep(run: str, result: Any, split: Any, checkpoint: str) -> str:
    """Write the run's test.json; somebody else's run, which cannot be written to, can be evaluated all the same."""
    if not Path(checkpoint).resolve().is_relative_to(Path(run).resolve()):
        return f"not kept in {run}: {checkpoint} is not a checkpoint of the run"
    try:
        return _report.keep_test(run, result, split, checkpoint)
    except RunError as error:
        print(f"not kept: {error}", file=sys.stderr)
        return ""


if __name__ == "__main__":
    sys.exit(_flags.run(main))
