"""Say how good a trained run is on the test examples, class by class.

    tfxfer evaluate runs/digits

takes the model and the examples from the run's own settings and prints the accuracy, the confusion matrix, and each
class's precision and recall. The last line is as in training: `test accuracy 0.9806`. What the test examples gave, and
the worst mistakes with their pictures, replaces the run's test.json and mistakes/; --picture draws the run's curves.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer.contract import Contract
from tfxfer.errors import RunError
from tfxfer.tools import _examples, _flags, _network, _report, _solver
from tfxfer.weights import Weights, open_weights

_AFTER = {"best": "the first validation", "last": "the first epoch"}


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    _flags.define_checkpoint(values)
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Which examples.", flag_values=values)
    flags.DEFINE_string("data_dir", None, "Directory of the data set's files, where it has moved.", flag_values=values)
    _report.define_top_k(values)
    _report.define_picture(values)
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [run] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    _report.check_picture(values.picture)

    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.run import directory

    settings = settings_of(directory.find_run(run), data_dir=values.data_dir)
    weights = checkpoint_of(run, values.checkpoint)
    contract = Contract.load(weights.checkpoint or "")
    examples = _examples.load(settings, contract)
    with tf.Graph().as_default():
        network = _network.build(settings, examples.train.images.shape[1:], len(examples.class_names), contract)
        trained = tx.select(*(settings.train or network.trained))
        step = tx.train_step(network.images, network.labels, network.logits, train=trained, loss=settings.loss)
        plan = tx.plan(tx.select(".*"), weights)
        with tx.session(plan, **_solver.session_options(values)) as sess:
            split = getattr(examples, values.split)
            result = tx.evaluate(sess, step, split, class_names=examples.class_names, top_k=values.top_k)
    if values.picture:
        _report.draw_curves(values.picture, run)
    kept = _keep(run, result, split, weights.checkpoint or "") if values.split == "test" else ""
    if values.json:
        print(json.dumps({"run": run, "checkpoint": weights.checkpoint, "split": values.split, **result.to_json()}))
        return 0
    _report.show_evaluation(result, f"{values.split} of {run}, from {weights.checkpoint}")
    if kept:
        print(kept)
    print(f"{values.split} accuracy {result.accuracy:.4f}")
    return 0


def _keep(run: str, result: Any, split: Any, checkpoint: str) -> str:
    """Write the run's test.json; somebody else's run, which cannot be written to, can be evaluated all the same."""
    try:
        return _report.keep_test(run, result, split, checkpoint)
    except RunError as error:
        print(f"not kept: {error}", file=sys.stderr)
        return ""


def settings_of(run: Path, *, data_dir: str | None = None) -> types.SimpleNamespace:
    """Return the settings that a run was trained with, as attributes.

    Args:
      run: the run directory.
      data_dir: where the examples are now, if they have moved.

    Raises:
      RunError: it was not made by `tfxfer train`.
    """
    stored = json.loads((run / "settings.json").read_text())
    missing = [name for name in ("model", "dataset", "endpoint", "hidden", "loss", "train") if name not in stored]
    if missing:
        raise RunError(f"{run} was not made by `tfxfer train`: its settings.json has no {', '.join(missing)}")
    return types.SimpleNamespace(**{**stored, "data_dir": data_dir or stored["data_dir"], "store": None})


def checkpoint_of(run: str | Path, which: str) -> Weights:
    """Open a run's `best` or `last` checkpoint.

    Raises:
      RunError: it has none yet.
      WeightsError: it cannot be read.
    """
    folder = Path(run, "best") if which == "best" else Path(run)
    if not any(folder.glob("*.index")):
        raise RunError(f"{run} has no {which} checkpoint; training writes one after {_AFTER[which]}")
    return open_weights(folder)


if __name__ == "__main__":
    sys.exit(_flags.run(main))
