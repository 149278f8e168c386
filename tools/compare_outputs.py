"""Run two sets of weights, A and B, through the model, and say at which endpoint they part first.

    tfxfer compare_outputs vgg16_weights.npz vgg16.h5
    tfxfer compare_outputs runs/flowers served --images=photographs
    tfxfer compare_outputs runs/a runs/b --checkpoint=last

Each is a run directory, a SavedModel that `tfxfer export_model` wrote, or a file of weights of any kind that tfxfer
reads. Which network a file is of, --model says, or else its input spec, its names and shapes, or the other side. A
SavedModel's graph is run as it is: like any program, it must come from somebody who is trusted.

Both see the same pictures: random ones, or those of --images. Each prepares them as its own input spec says, and a
SavedModel decodes them itself. Endpoints are shown in the order of the network, each with the largest |a - b|, that by
the largest magnitude, and the cosine. Exit status 0: equal up to --rtol; 3: different.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from tfxfer.runs.files import is_run
from tfxfer.tools import _flags, _model_flags, _pager, _training_flags

DIFFERENT = 3
USES = tuple(_flags.Use(name, "images", unless=True) for name in ("random", "seed"))


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_multi_string("images", [], "Picture, or folder of pictures; default: random ones.", flag_values=values)
    flags.DEFINE_integer("random", 8, "How many random pictures.", 1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Seed of the random pictures.", 0, 2**32 - 1, flag_values=values)
    flags.DEFINE_float(
        "rtol",
        1e-4,
        "Equal is what differs by no more than this share of the endpoint's largest magnitude.",
        0.0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "endpoint", None, "Compare no further than to this endpoint, as pool3. Default: all.", flag_values=values
    )
    _flags.define_checkpoint(values)
    flags.DEFINE_integer("batch_size", 4, "Pictures that go through the networks at once.", 1, flag_values=values)
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)
    with _flags.group(values, "what files are"):
        _model_flags.define_name(values, None, "The network that files of weights are of")
        flags.DEFINE_string(
            "source", None, "Form in which files have it, as vgg16_keras. Default: recognised.", flag_values=values
        )
        _flags.DEFINE_rules("rename", [], "Rename what is in files, in the order given, in place of --source.", values)
        flags.DEFINE_integer(
            "image_size",
            None,
            "Side of the square that pictures are brought to, in pixels. Default: what the weights expect.",
            1,
            flag_values=values,
        )
    _model_flags.define_file(values)
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    paths = _flags.parse(values, argv, __doc__, at_least=2, at_most=2, uses=USES)
    from tfxfer.data.batches import chunks
    from tfxfer.serving.compare_outputs import compare
    from tfxfer.serving.model_pair import FileOptions, open_pair, pictures_in, random_pictures, running

    _check_used(paths, values)
    options = FileOptions(values.model, values.source, values.rename or None, values.image_size, _opener(values))
    pair = open_pair(paths, checkpoint=values.checkpoint, endpoint=values.endpoint, options=options)
    for_a: Any
    for_b: Any
    with contextlib.ExitStack() as stack:
        session_options = _training_flags.session_options(values)
        a, b = sides = [stack.enter_context(running(side, **session_options)) for side in pair]
        if values.images:
            (for_a, for_b), set_aside = pictures_in(sides, values.images)
            for path, reason in set_aside.items():
                print(f"set aside: {path} {reason}", file=sys.stderr)
        else:
            for_a, for_b = random_pictures(sides, values.random, values.seed)
        count = len(for_a)
        batches = chunks(count, values.batch_size)
        rows = compare((a.run(for_a[batch]), b.run(for_b[batch])) for batch in batches)
    parted = [row.endpoint for row in rows if not row.relative <= values.rtol]
    if values.json:
        print(json.dumps({"a": paths[0], "b": paths[1], "pictures": count, **_to_json(rows, parted)}))
    else:
        pictures = f"{count:,} {'pictures' if values.images else 'random pictures'}"
        _pager.show([*_table(rows, parted), _closing(rows, parted, pictures, values.rtol)])
    return DIFFERENT if parted else 0


def _opener(values: Any) -> Callable[[str], Any] | None:
    """Return what opens a file of weights of the network in the file --model; None where that is a name, or nothing."""
    if not values.model or not _model_flags.is_file(values):
        return None
    from tfxfer.serving.trained_network import open_file

    return lambda path: open_file(*_model_flags.open_file(values, path), classifier=False)


def _check_used(paths: Sequence[str], values: Any) -> None:
    """Refuse flags of files of weights where there are none, and of runs where there are none.

    Raises:
      UsageError: flags would not be used.
    """
    from tfxfer.serving.saved_model import is_export

    runs = [path for path in paths if is_run(path)]
    files = [path for path in paths if path not in runs and not is_export(path)]
    of_files = ("model", "source", "rename", "image_size", *_flags.OF_FILE)
    given = [f"--{name}" for name in of_files if values[name].present]
    if given and not files:
        raise _flags.UsageError(f"{' and '.join(given)}: for files of weights, and none is given; leave this out")
    of_network = [f"--{name}" for name in _flags.OF_FILE if values[name].present]
    if of_network and not values.model:
        raise _flags.UsageError(f"{' and '.join(of_network)}: give --model too, a network in a file")
    if values["checkpoint"].present and not runs:
        raise _flags.UsageError("--checkpoint: for run directories, and none is given; leave it out")


# --- what is printed ---


def _table(rows: Sequence[Any], parted: Sequence[str]) -> list[str]:
    cells = [("endpoint", "shape", "max |a - b|", "relative", "cosine")]
    for row in rows:
        shape = "x".join(map(str, row.shape))
        if row.shape != row.other_shape:
            shape += f" and {'x'.join(map(str, row.other_shape))}"
        cells.append((row.endpoint, shape, _number(row.max_abs), _number(row.relative), f"{row.cosine:.6f}"))
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    marks = [
        "",
        *("" if row.endpoint not in parted else "<- parts" if row.endpoint == parted[0] else "<-" for row in rows),
    ]
    return [
        f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True))
        + (f"  {mark}" if mark else "")
        for row, mark in zip(cells, marks, strict=True)
    ]


def _number(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _closing(rows: Sequence[Any], parted: Sequence[str], pictures: str, rtol: float) -> str:
    if not parted:
        far = max(rows, key=lambda row: row.relative)
        farthest = f"; farthest apart at {far.endpoint}, by {far.relative:.1e} of its largest magnitude"
        same = "equal to the last bit" if not far.max_abs else f"equal up to --rtol={rtol:g}"
        return f"{same}: {len(rows)} endpoints on {pictures}{farthest if far.max_abs else ''}"
    first = next(row for row in rows if row.endpoint == parted[0])
    if first.shape != first.other_shape:
        return f"they part at {first.endpoint}, which has other shapes"
    return (
        f"they part at {first.endpoint}, by {first.relative:.1e} of its largest magnitude, more than --rtol={rtol:g}; "
        f"{len(parted)} of {len(rows)} endpoints differ on {pictures}"
    )


def _to_json(rows: Sequence[Any], parted: Sequence[str]) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    table = [
        {"endpoint": row.endpoint, "shape": list(row.shape), "other_shape": list(row.other_shape),
         "max_abs": number(row.max_abs), "relative": number(row.relative), "cosine": row.cosine}
        for row in rows
    ]  # fmt: skip
    return {"equal": not parted, "first": parted[0] if parted else None, "endpoints": table}


if __name__ == "__main__":
    sys.exit(_flags.run(main))
