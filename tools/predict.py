"""Say what is on pictures: the most probable classes of each, by a trained run or by a model's own classifier.

    tfxfer predict rose.jpg --run=runs/flowers
    tfxfer predict photographs --model=squeezenet1_0 --weights=squeezenet1_0.npz --class_names=synset_words.txt

takes pictures and folders of them. A run knows its model, how pictures are prepared, and its classes; --run may also be
what `tfxfer export_model` wrote of one, its SavedModel or frozen graph. The names of
ImageNet's 1000 are in a file, imagenet_class_index.json (`tfxfer fetch imagenet_class_index`) or synset_words.txt.
Pictures that cannot be read are listed with the reason; the exit status is 1 only if none can be.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from tfxfer.data import pillow
from tfxfer.data.folders import walk
from tfxfer.data.labels import class_names
from tfxfer.data.pictures import Files, Pictures, shortened
from tfxfer.errors import DataError, GraphError
from tfxfer.input_spec import CHANNELS, InputSpec
from tfxfer.tools import _flags, _model_flags, _report, _training_flags
from tfxfer.tools.evaluate import checkpoint_of, input_spec_of, settings_of

USES = (
    _flags.Use("checkpoint", "run", what="the run that has it"),
    _flags.Use("image_size", "run", unless=True),
)
DRAWN = 100  # of more pictures, --picture shows the first


class Model(NamedTuple):
    """What is needed to build a model that gives probabilities, and to restore it."""

    settings: Any
    weights: Any
    input_spec: InputSpec
    class_names: tuple[str, ...]


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_string("run", None, "Run directory that `tfxfer train` wrote.", flag_values=values)
    _flags.define_checkpoint(values)
    _flags.define_class_names(values)
    flags.DEFINE_integer("top", 5, "How many classes to show for each picture.", 1, flag_values=values)
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)
    flags.DEFINE_string(
        "picture", None, f"PNG to draw the photographs and their bars into, {DRAWN} at most.", flag_values=values
    )
    flags.DEFINE_integer("batch_size", 32, "Pictures that go through the network at once.", 1, flag_values=values)
    _model_flags.define_model(values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    arguments = _flags.parse(values, argv, __doc__, at_least=1, uses=USES)
    if bool(values.run) == bool(values.weights) or (values.run and values["model"].present):
        raise _flags.UsageError("give --run, or --model and --weights")
    _report.check_picture(values.picture)
    pictures, bad, top, model, class_names = (_by_export if is_export(values.run) else _by_model)(values, arguments)
    results = _results(pictures, top, class_names)
    if values.json:
        print(json.dumps({"model": model, "predictions": results, "set_aside": bad}))
    else:
        _show(results, bad)
    if values.picture:
        _draw(values.picture, pictures, results)
    return 0


Predicted = tuple[Pictures, dict[str, str], Any, str, Sequence[str]]


def _by_model(values: Any, arguments: Sequence[str]) -> Predicted:
    """Return the pictures, why others cannot be read, what a run or weights say of them, the model, and the classes."""
    model = of_run(values) if values.run else of_weights(values)
    if CHANNELS[model.input_spec.channels] != 3:
        size = "x".join(map(str, model.input_spec.size))
        raise DataError(f"{values.run} takes {model.input_spec.channels} images of {size}, and not RGB pictures")

    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.serving import predict

    pictures, bad = predict.readable(found(arguments), model.input_spec.size, model.input_spec.resize)
    with tf.Graph().as_default():
        images, probabilities = _build(model, pictures.shape[1:])
        plan = tx.plan(tx.select(".*"), model.weights)
        with tx.session(plan, **_training_flags.session_options(values)) as sess:
            top = predict.predict(sess, images, probabilities, pictures, top=values.top, batch_size=values.batch_size)
    return pictures, bad, top, model.input_spec.model, model.class_names


# --- exports ---


def is_export(path: str | None) -> bool:
    """Say whether a path is a SavedModel or a frozen graph, and not a run directory."""
    return path is not None and (
        Path(path, "saved_model.pb").is_file() or (Path(path).is_file() and path.endswith(".pb"))
    )


def _by_export(values: Any, arguments: Sequence[str]) -> Predicted:
    """Return what `_by_model` does, of a model that was exported: it decodes and prepares the files itself."""
    if values["checkpoint"].present:
        raise _flags.UsageError(f"--checkpoint: {values.run} is an export, which has none to choose from; leave it out")

    from tfxfer.serving import predict, saved_model

    threads = {name: n for name, n in _training_flags.session_options(values).items() if name.endswith("threads")}
    with saved_model.loaded(values.run, **threads) as (sess, export):
        height, width, channels = export.images.shape.as_list()[1:]
        if export.image_bytes is None or channels != 3 or "probabilities" not in export.outputs:
            raise DataError(
                f"{values.run} does not take files of RGB pictures and give probabilities; give the run itself"
            )
        pictures, bad = predict.readable(found(arguments), (height or 224, width or 224))
        pictures, bad = without_pillow(pictures, bad)
        classes = sess.run(export.outputs["class_names"], {export.images: np.zeros((1, height, width, 3), np.uint8)})[0]
        top = predict.predict(
            sess,
            export.image_bytes,
            export.outputs["probabilities"],
            Files(pictures.paths),
            top=values.top,
            batch_size=values.batch_size,
        )
    own = [name.decode("utf-8", "replace") for name in classes]
    return pictures, bad, top, values.run, _names(values.class_names, len(own)) or own


def without_pillow(pictures: Pictures, bad: dict[str, str]) -> tuple[Pictures, dict[str, str]]:
    """Set aside what Pillow decodes and TensorFlow's ops, which an export consists of, do not.

    Raises:
      DataError: no picture is left.
    """
    kinds = [pillow.kind_of(start_of(path)) for path in pictures.paths]
    more = {
        path: f"is a {kind}, which an export does not decode; save it as PNG, or ask the run itself"
        for path, kind in zip(pictures.paths, kinds, strict=True)
        if kind
    }
    kept = np.array([place for place, kind in enumerate(kinds) if not kind], np.int64)
    if not len(kept):
        raise DataError(
            "\n  ".join(["none of the pictures can be read:", *shortened([" ".join(one) for one in more.items()])])
        )
    return pictures.subset(kept), {**bad, **more}


def start_of(path: str) -> bytes:
    """Return the first bytes of a file, by which its kind is told."""
    with open(path, "rb") as file:
        return file.read(16)


# --- runs and weights ---


def of_run(values: Any) -> Model:
    """Return the model that --run holds, with the weights of its --checkpoint.

    Raises:
      RunError: it is no run, or has no checkpoint yet.
    """
    from tfxfer.train import run_directory

    settings = settings_of(run_directory.find_run(values.run))
    weights = checkpoint_of(values.run, values.checkpoint)
    input_spec = input_spec_of(values.run, weights)
    classes = len(input_spec.class_names)
    return Model(settings, weights, input_spec, _names(values.class_names, classes) or input_spec.class_names)


def of_weights(values: Any) -> Model:
    """Return the model with a classifier of its own that --model and --weights say.

    Raises:
      GraphError: it has no such classifier.
      WeightsError: the file cannot be read, or not be recognised.
    """
    weights, input_spec = _model_flags.opened(values, show=False)
    if input_spec is None or not _model_flags.MODELS[values.model].own:
        raise GraphError(f"--model={values.model} has no classifier of its own; give the --run of one that was trained")
    classes = _model_flags.classes_of(weights)
    known = input_spec.class_names if len(input_spec.class_names) == classes else tuple(map(str, range(classes)))
    settings = types.SimpleNamespace(model=values.model, endpoint="prob")
    return Model(settings, weights, input_spec, _names(values.class_names, classes) or known)


def _names(path: str | None, classes: int) -> tuple[str, ...]:
    return class_names(path, classes) if path else ()


def found(arguments: Sequence[str]) -> list[str]:
    """Return the files that are named, and the pictures in the folders that are, by their paths.

    Raises:
      DataError: a folder has no pictures, or cannot be listed.
    """
    paths: list[str] = []
    for argument in arguments:
        inside = walk([Path(argument)])[0][0] if Path(argument).is_dir() else [argument]
        if not inside:
            raise DataError(f"{argument} has no pictures")
        paths += inside
    return paths


def _build(model: Model, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the placeholder of the images and the probabilities."""
    import tensorflow.compat.v1 as tf

    import tfxfer as tx

    if model.settings.endpoint == "prob":
        images = tf.placeholder(tf.uint8, [None, *shape], name="images")
        return images, _model_flags.features(model.settings, images, model.input_spec, len(model.class_names))
    network = _model_flags.build(model.settings, shape, len(model.class_names), model.input_spec)
    trained = tx.select(*(model.settings.train or network.trained))
    step = tx.train_step(network.images, network.labels, network.logits, train=trained, loss=model.settings.loss)
    return step.images, step.probabilities


def _results(pictures: Pictures, top: Any, class_names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "path": path,
            "top": [
                {"class": int(number), "name": class_names[number], "probability": float(probability)}
                for number, probability in zip(numbers, probabilities, strict=True)
            ],
        }
        for path, numbers, probabilities in zip(pictures.paths, top.classes, top.probabilities, strict=True)
    ]


def _show(results: Sequence[Mapping[str, Any]], bad: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("picture", "class", "probability"):
        justify: Any = "right" if heading == "probability" else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=not sys.stdout.isatty())
    for one in results:
        for rank, row in enumerate(one["top"]):
            style = "" if rank else "bold"
            path = "" if rank else shortened([one["path"]])[0]
            table.add_row(Text(path, style), Text(row["name"], style), Text(f"{row['probability']:.4f}", style))
    # What is piped is read by programs: names are never cut to a terminal's width.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)
    for line in shortened([f"set aside: {path} {reason}" for path, reason in bad.items()], 1000):
        print(line)


def _draw(path: str, pictures: Pictures, results: Sequence[Mapping[str, Any]]) -> None:
    from tfxfer.plots import curves as drawing

    shown = results[:DRAWN]
    photographs = list(pictures[: len(shown)])
    titles = [Path(one["path"]).name for one in shown]
    named = [[row["name"] for row in one["top"]] for one in shown]
    drawing.predictions(path, photographs, titles, named, [[row["probability"] for row in one["top"]] for one in shown])


if __name__ == "__main__":
    sys.exit(_flags.run(main))
