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

from tfxfer import names
from tfxfer.errors import RunError
from tfxfer.input_spec import InputSpec, sidecar
from tfxfer.runs.files import find_run
from tfxfer.runs.settings import read_settings
from tfxfer.tools import _data_flags, _flags, _model_flags, _report, _training_flags
from tfxfer.weights import Weights, open_weights

_AFTER = {"best": "the first validation", "last": "the first epoch"}


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
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [run] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    _report.check_picture(values.picture)

    import tensorflow.compat.v1 as tf

    import tfxfer as tx

    settings = settings_of(find_run(run), values)
    _data_flags.check_there(settings, run)
    weights = checkpoint_of(run, values.checkpoint)
    input_spec = input_spec_of(run, weights)
    examples = _data_flags.load(settings, input_spec)
    _report.check_top_k(values, len(examples.class_names))
    with tf.Graph().as_default():
        network = _model_flags.build(settings, examples.train.images.shape[1:], len(examples.class_names), input_spec)
        trained = tx.select(*(settings.train or network.trained))
        step = tx.train_step(network.images, network.labels, network.logits, train=trained, loss=settings.loss)
        plan = tx.plan(tx.select(".*"), weights)
        with tx.session(plan, **_training_flags.session_options(values)) as sess:
            split = getattr(examples, values.split)
            result = tx.evaluate(sess, step, split, class_names=examples.class_names, top_k=values.top_k)
    if values.picture:
        _report.draw_curves(values.picture, run)
    prefix = weights.checkpoint or weights.path
    kept = _keep(run, result, split, prefix) if values.split == "test" else ""
    if values.json:
        print(json.dumps({"run": run, "checkpoint": prefix, "split": values.split, **result.to_json()}))
        return 0
    _report.show_evaluation(result, f"{values.split} of {run}, from {prefix}")
    if kept:
        print(kept)
    print(f"{values.split} accuracy {result.accuracy:.4f}")
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


def settings_of(run: Path, moved: Any = None) -> types.SimpleNamespace:
    """Return the settings that a run was trained with, as attributes.

    Args:
      run: the run directory.
      moved: flags that say where the examples are now, those of `_examples.PATHS`.

    Raises:
      RunError: it was not made by `tfxfer train`.
    """
    stored = read_settings(run).by_name()
    missing = [name for name in ("model", "dataset", "endpoint", "hidden", "loss", "train") if name not in stored]
    if missing:
        raise RunError(f"{run} was not made by `tfxfer train`: its settings.json has no {', '.join(missing)}")
    now = {name: moved[name].value for name in _data_flags.PATHS if moved is not None and moved[name].present}
    uses = _data_flags.USED_OF.get(stored["dataset"], ())
    unused = [f"--{name}" for name in now if name not in uses]
    if unused:
        raise RunError(f"{names.listed(unused)}: {run} was trained on {stored['dataset']}, without it; leave it out")
    return types.SimpleNamespace(**{**stored, **now, "store": None})


def checkpoint_of(run: str | Path, which: str) -> Weights:
    """Open a run's `best` or `last` checkpoint, or the weights that lie at any path.

    Raises:
      RunError: it has none yet.
      WeightsError: it cannot be read.
    """
    if which not in _AFTER:
        return open_weights(which)
    folder = Path(run, "best") if which == "best" else Path(run)
    if not any(folder.glob("*.index")):
        raise RunError(f"{run} has no {which} checkpoint; training writes one after {_AFTER[which]}")
    return open_weights(folder)


def input_spec_of(run: str | Path, weights: Weights) -> InputSpec:
    """Return the input spec beside weights; of those that have none beside them, the run's.

    Raises:
      RunError: the run has no checkpoint yet.
      WeightsError: an input spec cannot be read.
    """
    beside = weights.checkpoint or weights.path
    if sidecar(beside).exists():
        return InputSpec.load(beside)
    return InputSpec.load(checkpoint_of(run, "best").checkpoint or "")


if __name__ == "__main__":
    sys.exit(_flags.run(main))
