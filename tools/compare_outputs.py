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
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from tfxfer.errors import DataError, RestoreError
from tfxfer.input_spec import CHANNELS
from tfxfer.tools import _classifier, _flags, _model_flags, _pager, _training_flags, _weights_pair, predict
from tfxfer.tools._weights_pair import Side

DIFFERENT = 3
USES = tuple(_flags.Use(name, "images", unless=True) for name in ("random", "seed"))


class Asker(NamedTuple):
    """A side that is ready to be asked.

    Attributes:
      shape: height, width and channels of an image; None is a size that varies.
      takes_files: whether it decodes pictures itself.
      ask: from pixels uint8 [n, ...], or the bytes of files [n], to the values of its endpoints.
    """

    shape: tuple[int | None, ...]
    takes_files: bool
    ask: Callable[[np.ndarray], dict[str, np.ndarray]]


def define_flags() -> flags.FlagValues:
    """Define the flags of this tool."""
    values = flags.FlagValues()
    flags.DEFINE_multi_string(
        "images", [], "Picture, or folder of pictures; random ones unless told", flag_values=values
    )
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
        "endpoint", None, "Compare no further than to this endpoint, as pool3; all unless told.", flag_values=values
    )
    _flags.define_checkpoint(values)
    flags.DEFINE_integer("batch_size", 4, "Pictures that go through the networks at once.", 1, flag_values=values)
    flags.DEFINE_bool("json", False, "Print one JSON object and nothing else.", flag_values=values)
    with _flags.group(values, "what files are"):
        flags.DEFINE_enum(
            "model", None, list(_model_flags.MODELS), "The network that files of weights are of.", flag_values=values
        )
        flags.DEFINE_string(
            "source", None, "Form in which files have it, as vgg16_keras; recognised unless told.", flag_values=values
        )
        _flags.DEFINE_rules("rename", [], "Rename what is in files, in the order given, in place of --source.", values)
        flags.DEFINE_integer(
            "image_size",
            None,
            "Side of the square that pictures are brought to, in pixels; what the weights expect unless told.",
            1,
            flag_values=values,
        )
    _flags.define_session(values)
    return values


def main(argv: list[str]) -> int:
    """Run the tool; see the module's docstring."""
    values = define_flags()
    paths = _flags.parse(values, argv, __doc__, at_least=2, at_most=2, uses=USES)
    _check_used(paths, values)
    sides = _weights_pair.sides(paths, values)

    from tfxfer.serving.compare_outputs import compare

    with contextlib.ExitStack() as stack:
        a, b = askers = [stack.enter_context(_opened(side, values)) for side in sides]
        count, batches = _pictures(askers, sides, values)
        rows = compare((a.ask(one), b.ask(other)) for one, other in batches)
    parted = [row.endpoint for row in rows if not row.relative <= values.rtol]
    if values.json:
        print(json.dumps({"a": paths[0], "b": paths[1], "pictures": count, **_to_json(rows, parted)}))
    else:
        what = f"{count:,} {'pictures' if values.images else 'random pictures'}"
        _pager.show([*_table(rows, parted), _closing(rows, parted, what, values.rtol)])
    return DIFFERENT if parted else 0


def _check_used(paths: Sequence[str], values: Any) -> None:
    """Refuse flags of files of weights where there are none, and of runs where there are none.

    Raises:
      UsageError: flags would not be used.
    """
    runs = [path for path in paths if Path(path, "settings.json").is_file()]
    files = [path for path in paths if path not in runs and not predict.is_export(path)]
    given = [f"--{name}" for name in ("model", "source", "rename", "image_size") if values[name].present]
    if given and not files:
        raise _flags.UsageError(f"{' and '.join(given)}: for files of weights, and none is given; leave this out")
    if values["checkpoint"].present and not runs:
        raise _flags.UsageError("--checkpoint: for run directories, and none is given; leave it out")


# --- asking them ---


@contextlib.contextmanager
def _opened(side: Side, values: Any) -> Iterator[Asker]:
    import tensorflow.compat.v1 as tf

    import tfxfer as tx
    from tfxfer.serving import saved_model

    options = _training_flags.session_options(values)
    if side.model is None:
        threads = {name: number for name, number in options.items() if name.endswith("threads")}
        with saved_model.loaded(side.path, **threads) as (sess, export):
            shape = tuple(export.images.shape.as_list()[1:])
            yield Asker(shape, export.image_bytes is not None, lambda fed: _ask_export(sess, export, fed))
        return
    input_spec = side.model.input_spec
    shape = (*input_spec.size, CHANNELS[input_spec.channels])
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, *shape], name="images")
        ends = _endpoints(side, images)
        try:
            plan = tx.plan(tx.select(".*"), side.model.weights)
        except RestoreError as error:
            raise RestoreError(
                f"{error}\nor compare no further than to an endpoint that both files have: --endpoint=NAME", error.plan
            ) from None
        with tx.session(plan, **options) as sess:
            run = sess.make_callable(ends, [images])
            yield Asker(shape, False, lambda fed: {"pixels": fed, **run(fed)})


def _endpoints(side: Side, images: Any) -> dict[str, Any]:
    if side.last is None:
        return _classifier.endpoints(side.model, images)
    wanted = types.SimpleNamespace(model=side.model.settings.model, endpoint=side.last)
    return _model_flags.endpoints(wanted, images, side.input_spec, len(side.model.class_names))


def _ask_export(sess: Any, export: Any, fed: np.ndarray) -> dict[str, np.ndarray]:
    fetches = dict(export.endpoints) or {"prob": export.outputs["probabilities"]}
    if fed.dtype == np.uint8:
        return {"pixels": fed, **sess.run(fetches, {export.images: fed})}
    return sess.run({"pixels": export.images, **fetches}, {export.image_bytes: fed})


def _pictures(
    askers: Sequence[Asker], sides: Sequence[Side], values: Any
) -> tuple[int, Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Return how many pictures there are, and batches of them as each side takes them."""
    from tfxfer.data.batches import chunks

    shape = _shape(askers, sides)
    if values.images:
        feeds = _files(shape, askers, sides, values)
    else:
        random = np.random.default_rng(values.seed).integers(0, 256, (values.random, *shape)).astype(np.uint8)
        feeds = [random, random]
    count = len(feeds[0])
    return count, ((feeds[0][chunk], feeds[1][chunk]) for chunk in chunks(count, values.batch_size))


def _shape(askers: Sequence[Asker], sides: Sequence[Side]) -> tuple[int, ...]:
    sizes = list(zip(*(asker.shape for asker in askers), strict=True))
    if any(a is not None and b is not None and a != b for a, b in sizes):
        taken = [
            f"{side.path} takes {'x'.join(map(str, asker.shape))}" for side, asker in zip(sides, askers, strict=True)
        ]
        raise DataError(f"{' and '.join(taken)}: they cannot be shown the same pictures")
    if any(a is None and b is None for a, b in sizes):
        raise DataError(f"{sides[0].path} and {sides[1].path} do not say of what size images are")
    return tuple(a if a is not None else b for a, b in sizes)


def _files(shape: tuple[int, ...], askers: Sequence[Asker], sides: Sequence[Side], values: Any) -> list[Any]:
    from tfxfer.data.pictures import Files, Pictures
    from tfxfer.serving import predict as prediction

    if shape[-1] != 3:
        raise DataError(f"{sides[0].path} takes images of {'x'.join(map(str, shape))}, and not RGB; leave --images out")
    resizes = [side.input_spec.resize for side in sides if side.input_spec] or ["crop"]
    pictures, bad = prediction.readable(predict.found(values.images), (shape[0], shape[1]), resizes[0])
    if any(asker.takes_files for asker in askers):
        pictures, bad = predict.without_pillow(pictures, bad)
    for line in bad.items():
        print("set aside: {} {}".format(*line), file=sys.stderr)
    return [
        Files(pictures.paths)
        if asker.takes_files
        else Pictures(pictures.paths, pictures.size, side.input_spec.resize if side.input_spec else resizes[0])
        for asker, side in zip(askers, sides, strict=True)
    ]


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


def _closing(rows: Sequence[Any], parted: Sequence[str], what: str, rtol: float) -> str:
    if not parted:
        far = max(rows, key=lambda row: row.relative)
        farthest = f"; farthest apart at {far.endpoint}, by {far.relative:.1e} of its largest magnitude"
        same = "equal to the last bit" if not far.max_abs else f"equal up to --rtol={rtol:g}"
        return f"{same}: {len(rows)} endpoints on {what}{farthest if far.max_abs else ''}"
    first = next(row for row in rows if row.endpoint == parted[0])
    if first.shape != first.other_shape:
        return f"they part at {first.endpoint}, which has other shapes"
    return (
        f"they part at {first.endpoint}, by {first.relative:.1e} of its largest magnitude, more than --rtol={rtol:g}; "
        f"{len(parted)} of {len(rows)} endpoints differ on {what}"
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
