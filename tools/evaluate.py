"""Say how good a trained run is on the test examples, class by class.

    tfxfer evaluate runs/digits

takes the model and the examples from the run's own settings and prints the accuracy, the confusion matrix, and each
class's precision and recall. The last line is as in training: `test accuracy 0.9806`.
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


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_enum(
        "checkpoint",
        "best",
        ("best", "last"),
        "The run's best checkpoint by validation, or its last.",
        flag_values=values,
    )
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Which examples.", flag_values=values)
    flags.DEFINE_string("data_dir", None, "Directory of the data set's files, where it has moved.", flag_values=values)
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [run] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)

    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.run import directory

    settings = _settings(directory.find_run(run), values)
    weights = tx.open_weights(Path(run, "best") if values.checkpoint == "best" else run)
    contract = Contract.load(weights.checkpoint or "")
    examples = _examples.load(settings, contract)
    with tf.Graph().as_default():
        network = _network.build(settings, examples.train.images.shape[1:], len(examples.class_names), contract)
        trained = tx.select(*(settings.train or network.trained))
        step = tx.train_step(network.images, network.labels, network.logits, train=trained, loss=settings.loss)
        plan = tx.plan(tx.select(".*"), weights)
        with tx.session(plan, **_solver.session_options(values)) as sess:
            split = getattr(examples, values.split)
            result = tx.evaluate(sess, step, split, class_names=examples.class_names)
    if values.json:
        print(json.dumps({"run": run, "checkpoint": weights.checkpoint, "split": values.split, **result.to_json()}))
        return 0
    _report.show_evaluation(result, f"{values.split} of {run}, from {weights.checkpoint}")
    print(f"{values.split} accuracy {result.accuracy:.4f}")
    return 0


def _settings(run: Path, values: Any) -> Any:
    """Return the settings that the run was trained with."""
    stored = json.loads((run / "settings.json").read_text())
    missing = [name for name in ("model", "dataset", "hidden", "loss", "train") if name not in stored]
    if missing:
        raise RunError(f"{run} was not made by `tfxfer train`: its settings.json has no {', '.join(missing)}")
    moved = {"data_dir": values.data_dir or stored["data_dir"], "store": None}
    return types.SimpleNamespace(**{**stored, **moved})


if __name__ == "__main__":
    sys.exit(_flags.run(main))
