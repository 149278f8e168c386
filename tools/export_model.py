"""Write a run, or a model and its weights, as a SavedModel that takes pictures as they are.

    tfxfer export_model runs/flowers served
    tfxfer export_model served --model=squeezenet1_0 --weights=squeezenet1_0.npz --class_names=synset_words.txt

It loads in TensorFlow 2 (`tf.saved_model.load("served")`), in TensorFlow Serving and in `saved_model_cli`, without
tfxfer, and has two signatures:

    serving_default   images: uint8 [n, height, width, channels], of the size that the model takes
    image_bytes       image_bytes: string [n], whole files: JPEG, PNG, GIF, BMP, of any size

Both give probabilities and class_names [n, classes], and top_k_names, top_k_probabilities and top_k_indices [n, k].
assets/labels.txt has the names of the classes, one a line. What was written is loaded again, and must answer as the
weights do, on random pictures and on some of the run's, to 1e-5; otherwise nothing is left. The last line says where it
is, how large, and the largest difference.
"""

from __future__ import annotations

import sys
from typing import Any

from absl import flags

from tfxfer.data.labels import class_names
from tfxfer.tools import _flags, _model_flags, _packaged, _pager, _training_flags

COMPARED = 8  # pictures of a run's data
USES = (_flags.Use("checkpoint", "weights", unless=True), *_model_flags.USES)


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    _flags.define_checkpoint(values)
    _flags.define_class_names(values)
    flags.DEFINE_integer("top_k", 5, "How many of the most probable classes are named.", 1, flag_values=values)
    flags.DEFINE_string(
        "frozen_graph",
        None,
        "File to write as well: the same graph as one .pb, with the variables as constants. Its tensors are images:0, "
        "image_bytes:0, probabilities:0, top_k_names:0, ... Checking it takes 12 times the memory of the weights.",
        flag_values=values,
    )
    flags.DEFINE_bool("overwrite", False, "Move what is there aside.", flag_values=values)
    _model_flags.define_model(values)
    _model_flags.define_endpoint(values, classifier=True)
    _flags.define_session(values)
    return values


def _imply(values: Any) -> None:
    """Let a model have the weights that an installed package brings, where no other are given."""
    _packaged.imply(values, pictures=False)


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    *run, out = _flags.parse(values, argv, __doc__, at_least=1, at_most=2, imply=_imply, uses=USES)
    has_weights = bool(values.weights) or _model_flags.is_file(values)
    if bool(run) == has_weights or (run and values["model"].present):
        raise _flags.UsageError(
            "give RUN and OUT; or OUT, --model and --weights; a network in a file may have its weights itself"
        )
    if not run and values["checkpoint"].present:
        raise _flags.UsageError("--checkpoint: for run directories, and none is given; leave it out")
    if run and values["image_size"].present:
        raise _flags.UsageError("--image_size: a run has its size already; leave it out")
    from tfxfer.serving.run import open_run

    options: dict[str, Any] = {}
    if run:
        opened = open_run(run[0])
        network = opened.network(values.checkpoint)
        options["examples"], options["pictures"] = opened.some_examples(COMPARED)
    else:
        network = _model_flags.open_classifier(values)
    if values.class_names:
        options["class_names"] = class_names(values.class_names, len(network.class_names) or None)
    options |= {name: values[name].value for name in ("top_k", "frozen_graph", "overwrite")}
    exported = network.export(out, **options, **_training_flags.session_options(values))
    for path, aside in exported.moved.items():
        _pager.say(f"moved {path} to {aside}")
    size = ", ".join(["n", *map(str, exported.images)])
    apart = f"{exported.apart:.1e}" if exported.apart else "0"
    _pager.say(
        f"{out}: SavedModel of {exported.nbytes / 1e6:.1f} MB, signatures serving_default (images uint8 [{size}]) and "
        f"image_bytes (string [n]), {exported.classes:,} classes; on {exported.compared} pictures, probabilities "
        f"differ from those of {network.weights.checkpoint or network.weights.path} by {apart} at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(_flags.run(main))
