"""Say what is on pictures: the most probable classes of each, by a trained run or by a model's own classifier.

    tfxfer predict rose.jpg --run=runs/flowers
    tfxfer predict photographs --model=squeezenet1_0 --weights=squeezenet1_0.npz --class_names=synset_words.txt

takes pictures and folders of them. A run knows its model, how pictures are prepared, and its classes; the names of
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

from absl import flags

from tfxfer.contract import CHANNELS, Contract
from tfxfer.data.folder import walk
from tfxfer.data.labels import class_names
from tfxfer.data.pictures import Pictures, shortened
from tfxfer.errors import DataError, GraphError
from tfxfer.tools import _flags, _network, _solver
from tfxfer.tools.evaluate import checkpoint_of, settings_of

DRAWN = 100  # of more pictures, --picture shows the first


class Model(NamedTuple):
    """What is needed to build a model that gives probabilities, and to restore it."""

    settings: Any
    weights: Any
    contract: Contract
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
    _network.define_model(values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    arguments = _flags.parse(values, argv, __doc__, at_least=1)
    if bool(values.run) == bool(values.weights) or (values.run and values["model"].present):
        raise _flags.UsageError("give --run, or --model and --weights")
    if values.picture and not Path(values.picture).absolute().parent.is_dir():
        raise DataError(f"--picture={values.picture}: there is no such folder")
    model = of_run(values) if values.run else of_weights(values)
    if CHANNELS[model.contract.channels] != 3:
        size = "x".join(map(str, model.contract.size))
        raise DataError(f"{values.run} takes {model.contract.channels} images of {size}, and not RGB pictures")

    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.run import prediction

    pictures, bad = prediction.readable(found(arguments), model.contract.size, model.contract.resize)
    with tf.Graph().as_default():
        images, probabilities = _build(model, pictures.shape[1:])
        plan = tx.plan(tx.select(".*"), model.weights)
        with tx.session(plan, **_solver.session_options(values)) as sess:
            top = prediction.predict(
                sess, images, probabilities, pictures, top=values.top, batch_size=values.batch_size
            )
    results = _results(pictures, top, model.class_names)
    if values.json:
        print(json.dumps({"model": model.contract.model, "predictions": results, "set_aside": bad}))
    else:
        _show(results, bad)
    if values.picture:
        _draw(values.picture, pictures, results)
    return 0


def of_run(values: Any) -> Model:
    """Return the model that --run holds, with the weights of its --checkpoint.

    Raises:
      RunError: it is no run, or has no checkpoint yet.
    """
    from tfxfer.run import directory

    settings = settings_of(directory.find_run(values.run))
    weights = checkpoint_of(values.run, values.checkpoint)
    contract = Contract.load(weights.checkpoint or "")
    classes = len(contract.class_names)
    return Model(settings, weights, contract, _names(values.class_names, classes) or contract.class_names)


def of_weights(values: Any) -> Model:
    """Return the model with a classifier of its own that --model and --weights say.

    Raises:
      GraphError: it has no such classifier.
      WeightsError: the file cannot be read, or not be recognised.
    """
    weights, contract = _network.opened(values, show=False)
    if contract is None or not _network.MODELS[values.model].own:
        raise GraphError(f"--model={values.model} has no classifier of its own; give the --run of one that was trained")
    classes = _network.classes_of(weights)
    known = contract.class_names if len(contract.class_names) == classes else tuple(map(str, range(classes)))
    settings = types.SimpleNamespace(model=values.model, endpoint="prob")
    return Model(settings, weights, contract, _names(values.class_names, classes) or known)


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
        return images, _network.features(model.settings, images, model.contract, len(model.class_names))
    network = _network.build(model.settings, shape, len(model.class_names), model.contract)
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
    from tfxfer import pictures as drawing

    shown = results[:DRAWN]
    photographs = list(pictures[: len(shown)])
    titles = [Path(one["path"]).name for one in shown]
    named = [[row["name"] for row in one["top"]] for one in shown]
    drawing.predictions(path, photographs, titles, named, [[row["probability"] for row in one["top"]] for one in shown])


if __name__ == "__main__":
    sys.exit(_flags.run(main))
