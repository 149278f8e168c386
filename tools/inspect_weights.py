"""List what a file of weights holds: names, shapes, dtypes, parameters, roles. TensorFlow is not loaded.

    tfxfer inspect_weights checkpoints/digits_autoencoder
    tfxfer inspect_weights vgg16_weights.npz --tree --stats
    tfxfer inspect_weights vgg16_weights.npz --tensor=conv1_1_b --out=bias.npy

FILE is a checkpoint's prefix, its directory (the latest is taken), one of its files, a SavedModel, a frozen graph, or a
file of NumPy, Keras, safetensors, PyTorch, MATLAB, Caffe, ONNX, TensorFlow.js or TensorFlow Lite. Below the table: what
lies in each scope and in each role, and of a known network's file which one it is and what of the network is in it. A
long list goes through $PAGER on a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tfxfer import names
from tfxfer.errors import WeightsError
from tfxfer.tools import _flags, _pager
from tfxfer.weight_tools import inspect_weights as inspecting
from tfxfer.weights import Weights, open_weights

USES = (
    _flags.Use("overwrite", "out", what="the file that is written"),
    *(_flags.Use(name, "tensor", unless=True) for name in ("select", "exclude", "sort", "tree", "stats", "json")),
    _flags.Use("tree", "json", unless=True),
)


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    _flags.DEFINE_selection("Tensors to list", "", values)
    flags.DEFINE_enum(
        "sort",
        "file",
        inspecting.SORTS,
        "Order: as in the file, by name (conv2 before conv10), or the largest first.",
        flag_values=values,
    )
    flags.DEFINE_bool("tree", False, "Show tensors below their scopes, with the sum of each.", flag_values=values)
    flags.DEFINE_bool(
        "stats",
        False,
        "Read the values too: mean, standard deviation, least and largest; how many are 0, NaN and Inf.",
        flag_values=values,
    )
    flags.DEFINE_string("tensor", None, "Print the values of this tensor and nothing else.", flag_values=values)
    flags.DEFINE_string(
        "out", None, "With --tensor, a .npy file to save it to, in place of printing.", flag_values=values
    )
    flags.DEFINE_bool("overwrite", False, "Write though --out exists, and move that aside.", flag_values=values)
    _flags.DEFINE_dequantize(values)
    _flags.DEFINE_json(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    [path] = _flags.parse(values, argv, __doc__, at_least=1, at_most=1)
    if values.out is not None and values.tensor is None:
        raise _flags.UsageError("--out is for one tensor; name it by --tensor")
    _flags.check_used(values, USES)
    weights = open_weights(path, dequantize=values.dequantize)
    if values.tensor is not None:
        _one(weights, values)
        return 0
    chosen = names.match(values.select, list(weights), values.exclude)
    found = _rows(weights, chosen, values)
    if values.json:
        print(json.dumps(_json(weights, found, values.stats)))
        return 0
    width = _pager.width()
    listing = (inspecting.as_tree if values.tree else inspecting.as_table)(found, stats=values.stats, width=width)
    notes = [*_model_notes(weights), *_input_spec_notes(weights)]
    _pager.show(
        [
            *listing,
            "",
            *inspecting.totals(found, scopes=not values.tree, width=width),
            "",
            inspecting.summary(weights, found),
            *inspecting.skipped(weights),
            *notes,
        ]
    )
    return 0


def _rows(weights: Weights, chosen: Sequence[str], values: Any) -> list[inspecting.Row]:
    try:
        return inspecting.rows(weights, chosen, sort=values.sort, stats=values.stats)
    except WeightsError as error:
        raise WeightsError(
            f"{error}\nleave --stats out to list what is there; verify_weights finds all that is bad"
        ) from None


def _one(weights: Weights, values: Any) -> None:
    if values.tensor not in weights and values.tensor not in weights.skipped:
        raise WeightsError(f"{values.tensor} is not in {weights.path}{names.did_you_mean(values.tensor, weights)}")
    if values.out is None:
        _pager.show(inspecting.array_text(weights, values.tensor).splitlines())
    else:
        wrote = inspecting.save_array(weights, values.tensor, Path(values.out), overwrite=values.overwrite)
        _pager.show([names.printable(line) for line in wrote])


# --- what file it is ---


def _recognised(weights: Weights) -> list[Any]:
    """Return what the file may be; the models are loaded here, so that `--tensor` need not wait for them."""
    from tfxfer.models.recognition import compare_with_models

    return compare_with_models(weights)


def _model_notes(weights: Weights) -> list[str]:
    try:
        found = _recognised(weights)
    except WeightsError as error:
        return [f"where it comes from cannot be told: {error}"]
    lines = [line for comparison in found for line in _source_notes(comparison)]
    if len(found) > 1:
        return ["its names and shapes do not tell which of these it is:", *lines]
    return lines


def _source_notes(comparison: Any) -> list[str]:
    source, missing = comparison.source, comparison.missing
    holds = f"  holds {len(comparison.matched)} of the {len(source.variables)} variables of {source.input_spec.model}"
    expects = [] if source.name == source.input_spec.model else [f"  expects {source.input_spec}"]
    return [
        f"it is {source.name}: {source.words}",
        *expects,
        holds + (f"; not in it: {', '.join(missing)}" if missing else ""),
    ]


def _input_spec_notes(weights: Weights) -> list[str]:
    try:
        input_spec = weights.input_spec()
    except WeightsError as error:
        return [str(error)]
    if input_spec is None:
        return []
    classes = f"; {len(input_spec.class_names):,} classes" if input_spec.class_names else ""
    return [f"its input spec: {input_spec.model}, from {names.printable(input_spec.source)}: {input_spec}{classes}"]


def _json(weights: Weights, found: Sequence[inspecting.Row], stats: bool) -> dict[str, Any]:
    every = inspecting.total(found)
    input_spec = weights.input_spec()
    return {
        "path": weights.path,
        "kind": weights.kind,
        "tensors": [row.to_json(stats) for row in found],
        "parameters": every.parameters,
        "bytes": every.bytes,
        "skipped": dict(weights.skipped),
        "scopes": [vars(one) for one in inspecting.by_scope(found)],
        "roles": [vars(one) for one in inspecting.by_role(found)],
        "recognised": [
            {
                "source": one.source.name,
                "model": one.source.input_spec.model,
                "found": len(one.matched),
                "missing": one.missing,
            }
            for one in _recognised(weights)
        ],
        "input_spec": input_spec and input_spec.to_json(),
    }


if __name__ == "__main__":
    sys.exit(_flags.run(main))
